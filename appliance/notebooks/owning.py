"""Handing a tree to the user that a session runs as.

The owner of the top directory tells whose the tree is: it is handed over last, so a tree that a kill left half handed
over is done again. No link is followed, so no entry outside the tree is touched, whatever a session has put there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from appliance.errors import NotFound, StorageError
from appliance.storage.trees.pinning import FOLDER, folder, parts_of

Owner = tuple[int, int]
"""uid and gid."""
DEEPEST = 512
"""Directories on the way down that are open at once; what lies deeper keeps its owner."""


class _Level(NamedTuple):
    folder: int
    names: Iterator[str]


def owner_of(user: str) -> Owner:
    """Of a spec's `UID:GID`."""
    uid, _, gid = user.partition(":")
    return int(uid), int(gid)


def give(top: Path, owner: Owner, *, again: bool = False) -> bool:
    """Hand `top` and all in it to `owner`, unless it is theirs already; `again`: whoever has the top.

    False: there was nothing to do. Blocking. Raises OSError.
    """
    here = os.open(top, FOLDER)
    try:
        if not again and _is_of(os.fstat(here), owner):
            return False
        if os.geteuid() != 0 and owner == (0, 0):
            return False  # a daemon that is not root has no files of root's to give
        _walk(here, owner)
        os.fchown(here, *owner)
    finally:
        os.close(here)
    return True


def give_below(top: Path, path: str, owner: Owner) -> None:
    """Hand one entry of the tree at `top`, with all in it, to `owner`. Gone already counts as done. Blocking."""
    parts = parts_of(path)
    if not parts or (os.geteuid() != 0 and owner == (0, 0)):
        return
    with suppress(NotFound, FileNotFoundError), folder(top, parts[:-1], path) as parent:
        below = _entry(parent, parts[-1], owner, descend=True)
        if below is not None:
            try:
                _walk(below, owner)
                os.fchown(below, *owner)
            finally:
                os.close(below)


@contextmanager
def told() -> Iterator[None]:
    """What the file system refuses is an error in words."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or "")
        if os.geteuid() != 0 and isinstance(error, PermissionError):
            hint = "only an appliance that runs as root gives files to another user: remove `user`"
        else:
            hint = "look at the disk; it is tried again by itself"
        words = f"the notebook's files cannot be given to its user: {error.strerror or error}"
        raise StorageError(words, where=where, hint=hint) from None


def _walk(top: int, owner: Owner) -> None:
    levels = [_Level(top, iter(os.listdir(top)))]
    try:
        while levels:
            folder, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                if folder != top:
                    os.fchown(folder, *owner)
                    os.close(folder)
                continue
            with suppress(FileNotFoundError):  # removed since the directory was listed
                below = _entry(folder, name, owner, descend=len(levels) < DEEPEST)
                if below is not None:
                    levels.append(_Level(below, iter(os.listdir(below))))
    finally:
        for folder, _ in levels:
            if folder != top:
                os.close(folder)


def _entry(folder: int, name: str, owner: Owner, *, descend: bool) -> int | None:
    """A directory to go on with, still its old owner's; anything else is handed over at once."""
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode) and descend:
        with suppress(NotADirectoryError, OSError):  # another thing has come in its place: it is none to enter
            return os.open(name, FOLDER, dir_fd=folder)
    if not _is_of(found, owner):
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    return None


def _is_of(found: os.stat_result, owner: Owner) -> bool:
    return (found.st_uid, found.st_gid) == owner
