"""Programs of steps that run in a job's container; see `fetching.programs`."""
