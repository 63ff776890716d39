"""Trees of files, for both stores and for the rooms above: copying one, walking into one that others write to,
putting an entry of one in its place, and telling by ctime what has changed.

What a child program imports lies here too, so nothing is imported in this file.
"""
