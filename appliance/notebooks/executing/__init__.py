"""Executing a file of a notebook from its first cell to its last, in a container of its own on the same files."""
