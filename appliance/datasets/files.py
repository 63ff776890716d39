"""Reading one file of a version. Its content came from a job, so no link in it is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from appliance.errors import NotFound, UsageError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens nothing yet: a fifo would block, and a device may do anything."""


def open_file(root: Path, path: str) -> BinaryIO:
    """The regular file `path` below `root`. Raises UsageError for a path that leads out, NotFound for the rest."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in path:
        raise UsageError(f"not a path inside a dataset: {path!r}", hint="give a relative path such as data/train.csv")
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        pinned = os.open(parts[-1], _LOOK, dir_fd=folder)
    except OSError as error:
        raise NotFound(f"no readable file {path!r}: {error.strerror}", hint="links are not followed") from None
    finally:
        os.close(folder)
    try:
        if not stat.S_ISREG(os.fstat(pinned).st_mode):
            raise NotFound(f"{path!r} is not a regular file", hint="only files can be read")
        return open(f"/proc/self/fd/{pinned}", "rb")
    finally:
        os.close(pinned)
