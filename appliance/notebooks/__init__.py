"""Notebooks: a session of Jupyter behind the front door, over files with a history."""
