"""Programs that run inside a container, on the Python of its image."""
