"""A notebook as one file, FILE.tar.gz: `notebook.yaml` with its spec, and its files below `workspace/`.

No history, no token and no secret is in it: a spec names secrets and does not hold them. What cannot be sent, such as
a socket, is listed in `left-out.txt`. Any tar of that layout is taken in, so one may be made by hand.
"""

SPEC = b"notebook.yaml"
FILES = b"workspace"
LEFT_OUT = b"left-out.txt"
