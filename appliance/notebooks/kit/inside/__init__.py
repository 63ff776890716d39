"""Files of ours that run in a session's container, by the image's own Python."""
