"""The plain-directory store. Nothing is imported here: `measure` is started as a program of its own."""
