"""What outlives a run: held steps, the cache, capsules of what failed, and how all of them are forgotten."""
