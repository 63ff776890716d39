"""Programs of ours that run in a container, each a file of its own without imports from here."""
