"""Jupyter for images that have none: the built-in notebook image's, mounted read-only and started by its own loader.

So neither the C library nor the Python of the image matters to the server, and nothing in the image is changed. Cells
run in the image's own Python, with its packages.
"""
