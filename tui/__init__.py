"""The terminal interface. It speaks to the daemon through client.py and wire.py only."""
