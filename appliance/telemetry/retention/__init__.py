"""Which log lines stay, how the others go, and how their space comes back to the disk."""
