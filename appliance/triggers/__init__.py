"""What starts runs by itself: the clock, a dataset, a folder, a file, a git repository, a signed message."""
