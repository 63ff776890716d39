"""Small files of the kernel that are read again and again: opening one costs fifteen times as much as reading it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

_PIECE = 1 << 16
MOST_BYTES = 1 << 20
"""Of one file: the kernel's are a few kilobytes."""
SHARE = 4
"""All of them together keep at most this part of the descriptors that the process may have."""


class Budget:
    """How many descriptors may stay open. Of one thread at a time."""

    def __init__(self, most: int | None = None) -> None:
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE if most is None else most
        self.used = 0


COMMON = Budget()


class Files:
    """`close` it. One that is not kept open, as there are too many, is opened for each look."""

    def __init__(self, budget: Budget = COMMON) -> None:
        self._budget = budget
        self._open: dict[Path, int] = {}

    def text(self, path: Path) -> str:
        """As it is now. Raises OSError, also where what it told of is gone."""
        kept = self._open.get(path)
        if kept is not None:
            return _text(kept)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if self._budget.used < self._budget.most:
            self._budget.used += 1
            self._open[path] = file
            return _text(file)
        try:
            return _text(file)
        finally:
            os.close(file)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
            self._budget.used -= 1


def text_below(folder: int, name: str) -> str:
    """Of a file below an open folder, once."""
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        return _text(file)
    finally:
        os.close(file)


def _text(file: int) -> str:
    found = b""
    while len(found) < MOST_BYTES and (piece := os.pread(file, _PIECE, len(found))):
        found += piece
    return found.decode("ascii", "replace")
