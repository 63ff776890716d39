"""One module a noun; each offers `routes(parts)`."""
