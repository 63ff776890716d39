"""The `zfs` and `zpool` programs: argv, a deadline, and their exact words as our errors.

Only what OpenZFS and zfs-fuse 0.7 have in common: no `list -p`, no `-j`, no `create -u`, no `version`.
"""

from __future__ import annotations

import re

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, StorageError
from appliance.storage.argv import run

QUICK_S = 60.0
SLOW_S = 600.0
"""Deadline of a destroy, which may have much to free."""


def zfs(*arguments: str, timeout_s: float = QUICK_S) -> str:
    """Its output. Raises NotFound, Conflict (clones), AlreadyThere, Busy, NoSpace, else StorageError."""
    return _call("zfs", arguments, timeout_s)


def zpool(*arguments: str, timeout_s: float = QUICK_S) -> str:
    return _call("zpool", arguments, timeout_s)


class AlreadyThere(StorageError):
    """What was to be made exists. Never leaves this room."""


class Busy(StorageError):
    """Something uses the dataset."""


_MEANINGS: tuple[tuple[str, type[ApplianceError], str], ...] = (
    (r"dataset already exists|filesystem already mounted|not currently mounted", AlreadyThere, ""),
    (r"dependent clones", Conflict, "delete first what was made from it"),
    (r"does not exist|no such pool|could not find any snapshots", NotFound, "`zfs list` shows what there is"),
    (r"busy", Busy, "stop what uses it, then repeat the command"),
    (r"out of space|No space left|quota exceeded", NoSpace, "free some space in the pool, then repeat the command"),
    (r"[Pp]ermission denied", StorageError, "run the daemon as root"),
    (r"suspended|I/O error|faulted|unavailable", StorageError, "look at the pool: `zpool status`"),
    (r"connect|/dev/zfs|modprobe|ZFS modules", StorageError, "start ZFS: `modprobe zfs`, or the zfs-fuse daemon"),
)


def meaning(program: str, arguments: tuple[str, ...], text: str) -> ApplianceError:
    """The error for what the program wrote. Pure."""
    where = f"{program} {' '.join(arguments)}"
    words = re.sub(r"'[^']*'", "", text)  # a name in it means nothing: a dataset may be called `busy`
    for pattern, error, hint in _MEANINGS:
        if re.search(pattern, words):
            return error(text, where=where, hint=hint)
    return StorageError(text, where=where, hint="look at the pool: `zpool status`")


def _call(program: str, arguments: tuple[str, ...], timeout_s: float) -> str:
    answer = run([program, *arguments], timeout_s=timeout_s)
    if answer.code:
        raise meaning(program, arguments, answer.err)
    return answer.out.decode("utf-8", "replace")
