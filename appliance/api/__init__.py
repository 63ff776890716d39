"""HTTP: routes, authentication, streams, problems. Knows HTTP and decides nothing."""
