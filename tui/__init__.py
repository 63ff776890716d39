"""The terminal interface. It speaks to the daemon through the packages client and wire only."""
