"""Charts of measured values: in the terminal, and as a picture in a file. Their labels are foreign text."""
