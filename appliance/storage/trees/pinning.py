"""Walking into a tree that others write to: by descriptor, one part at a time, and through no link.

A path from outside is text below a root; names that are not UTF-8 are surrogates, as `os.fsdecode` makes them. What a
walk ends at stays that file, however its path is changed meanwhile, so the answer is used through the descriptor only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import NotFound, UsageError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens nothing yet: a fifo would block, and a device may do anything."""


def parts_of(path: str) -> list[str]:
    """The names on the way; none for the root itself. Raises UsageError for a path that leads out."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in path or not _encodes(path):
        raise UsageError(f"not a path inside the tree: {path!r}", hint="give a relative path such as data/train.csv")
    return parts


def pin(root: Path, path: str) -> int:
    """An O_PATH descriptor of what is at `path` below `root`; of the link itself where it is one. The caller closes it.

    Raises UsageError for a path that leads out, NotFound where nothing is there or a link is on the way.
    """
    parts = parts_of(path)
    with folder(root, parts[:-1], path) as parent:
        try:
            return os.open(parts[-1] if parts else ".", LOOK, dir_fd=parent)
        except OSError as error:
            raise missing(path, error) from None


@contextmanager
def pinned(root: Path, path: str) -> Iterator[int]:
    """`pin`, closed at the end."""
    descriptor = pin(root, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder(root: Path, parts: Sequence[str], path: str) -> Iterator[int]:
    """An open directory, `parts` below `root`; `path` is for the error."""
    descriptor = -1
    try:
        descriptor = descend(root, parts)
    except OSError as error:
        raise missing(path, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def descend(root: Path, parts: Sequence[str]) -> int:
    """As `folder`, with OSError and for the caller to close."""
    here = os.open(root, FOLDER)
    for part in parts:
        try:
            below = os.open(part, FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def missing(path: str, error: OSError) -> NotFound:
    return NotFound(f"nothing that can be opened at {path!r}: {error.strerror}", hint="links are not followed")


def _encodes(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
