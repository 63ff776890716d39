"""Safe tools for trees that others write to: a workspace, what a job has left, what somebody has uploaded.

No link in the tree is followed, no fifo and no device is opened, and names are bytes that nobody trusts. Everything
here blocks; callers run it in a worker thread.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from appliance.errors import NotFound, TooLarge, UsageError
from appliance.storage.trees.pinning import FOLDER, missing, parts_of, pin, pinned
from appliance.storage.trees.replacing import Mark, Replacement, replace, tidy

__all__ = [
    "MOST_ENTRIES",
    "Kind",
    "Mark",
    "Replacement",
    "TreeEntry",
    "list_directory",
    "list_first",
    "open_file",
    "pin",
    "pinned",
    "replace",
    "tidy",
]

MOST_ENTRIES = 200_000
"""Of one listed directory: a hostile one must not fill the daemon's memory."""

Kind = Literal["file", "directory", "link", "other"]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    name: bytes
    kind: Kind
    size: int
    """Of a file's content; of a link, the length of where it points."""
    modified: float
    """Unix time."""
    target: bytes | None = None
    """Where a link points."""


def open_file(root: Path, path: str) -> BinaryIO:
    """The regular file `path` below `root`. Raises UsageError for a path that leads out, NotFound for the rest."""
    if not parts_of(path):
        raise UsageError("a file is needed, not the whole tree", hint="give a relative path such as data/train.csv")
    with pinned(root, path) as found:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise NotFound(f"{path!r} is not a regular file", hint="only files can be read")
        try:  # not to wait for whoever holds a lease on the file
            return open(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise missing(path, error) from None


def list_directory(root: Path, path: str = "") -> list[TreeEntry]:
    """What is in the directory `path` below `root`, sorted by name. Raises as `open_file`, and TooLarge."""
    return list_first(root, path, MOST_ENTRIES)[0]


def list_first(root: Path, path: str, most: int) -> tuple[list[TreeEntry], int]:
    """As `list_directory`, of which the first ones alone are looked at, and how many there are."""
    with pinned(root, path) as found:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            raise NotFound(f"{path!r} is not a directory", hint="links are not followed")
        try:
            here = os.open(".", FOLDER, dir_fd=found)
        except OSError as error:
            raise missing(path, error) from None
    try:
        names = []
        with os.scandir(here) as there:
            for one in there:
                names.append(one.name)
                if len(names) > MOST_ENTRIES:
                    raise TooLarge(
                        f"more than {MOST_ENTRIES} entries in {path!r}", hint="look into one of its directories"
                    )
        first = heapq.nsmallest(most, names, key=os.fsencode)
        return [entry for name in first if (entry := _entry(name, here)) is not None], len(names)
    finally:
        os.close(here)


def kind_of(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "other"


def _entry(name: str, folder: int) -> TreeEntry | None:
    """None: it has gone since the directory was listed, or is a link no more."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        kind = kind_of(found.st_mode)
        target = os.fsencode(os.readlink(name, dir_fd=folder)) if kind == "link" else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return None
        raise
    size = found.st_size if kind in ("file", "link") else 0
    return TreeEntry(os.fsencode(name), kind, size, found.st_mtime, target)
