"""Looking into a hostile tree from a child program: by descriptor, one name at a time, never through a link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from appliance.storage.trees.pinning import FOLDER, LOOK


def look(folder: int, name: str) -> os.stat_result | None:
    """What `name` is, not what it points to; None where it is not there, or was removed meanwhile."""
    if folder < 0:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_folder(folder: int, name: str) -> int:
    """A descriptor of the directory `name`, or -1 where it is no directory any more."""
    if folder < 0:
        return -1
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link has taken its place
            return -1
        raise


def descend(root: int, names: Sequence[str]) -> int:
    """A descriptor of the directory that `names` lead to below `root`, or -1 where there is none."""
    at = os.open(".", FOLDER, dir_fd=root)
    for name in names:
        below = open_folder(at, name)
        os.close(at)
        if below < 0:
            return -1
        at = below
    return at


def open_regular(folder: int, name: str) -> int:
    """A descriptor for reading the regular file `name`. Raises FileNotFoundError for everything else.

    It is pinned before it is opened: opening a fifo would wait for a writer, opening a device may do anything.
    """
    pinned = os.open(name, LOOK, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(pinned).st_mode):
            raise FileNotFoundError(2, "not a regular file any more", name)
        return os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(pinned)
