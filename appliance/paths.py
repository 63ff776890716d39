r"""How the path of a file crosses the API: as text in which every byte of the name can be found again. Pure.

A name is any bytes but `/` and NUL. What is UTF-8 stands as it is; any other byte is `\xNN`. A name that holds such an
escape as plain text has its backslash escaped (`\x5c`), so two names never look alike, and `decode` gives back what
`encode` was given. Inside the daemon a path is a str as `os.fsdecode` gives it, with the odd bytes as surrogates.
"""

from __future__ import annotations

import os
import re

_ESCAPE = re.compile(rb"\\x(5c|[89a-f][0-9a-f])")
_LOOKS_LIKE_ONE = re.compile(rb"\\(?=x(?:5c|[89a-f][0-9a-f]))")


def encode(path: str | bytes) -> str:
    """The text that stands for a path of the file system."""
    return _LOOKS_LIKE_ONE.sub(rb"\\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def decode(text: str) -> str:
    """The path that a text stands for. A text without escapes is the path itself."""
    raw = text.encode("utf-8", "surrogateescape")
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw))
