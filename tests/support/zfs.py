"""Fixtures, made by their room."""
