"""Removing trees that a session, an image or a repository has made.

`rm` and not `shutil.rmtree`, which calls itself for each level before Python 3.13: a thousand folders in each other end
it. No link is followed, and what is mounted inside stays. All of it blocks.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.argv import Answer, run

log = logging.getLogger(__name__)

LIMIT_S = 3600.0
_AT_ONCE = 256
"""Paths in one call: the kernel bounds what a program is given."""


def remove(*paths: Path) -> None:
    """Each with all in it; gone already counts as done. Raises StorageError where something is left."""
    for start in range(0, len(paths), _AT_ONCE):
        answer = _rm(paths[start : start + _AT_ONCE])
        if answer.code:
            first = answer.err.partition("\n")[0]
            hint = "look at the disk and at what uses it; it is tried again by itself"
            raise StorageError(f"cannot be removed: {first}", where=str(paths[start]), hint=hint)


def discard(*paths: Path) -> None:
    """As `remove`; what is left is a line in the log, for somebody comes by again."""
    try:
        remove(*paths)
    except StorageError as error:
        log.warning("%s is left: %s", paths[0], error.message)


def empty(folder: Path) -> None:
    """Nothing stays in it. Raises StorageError."""
    remove(*(folder / name for name in os.listdir(folder)))


def _rm(paths: tuple[Path, ...]) -> Answer:
    return run(["rm", "-rf", "--one-file-system", "--", *map(str, paths)], timeout_s=LIMIT_S)
