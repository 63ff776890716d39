"""When a save in Jupyter becomes a moment of the history. Pure, but for one look at a file's times.

Jupyter's configuration has a hook that touches a file at each save. The file is the session's user's: its times are
looked at, it is never opened. Times here are of a clock that counts seconds and is never set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

Mark = tuple[int, int] | None
"""Of the file that is touched: another one means that there was a save. None: there is no such file."""
SPARE = 10.0
"""So many times as long as the last snapshot took, there is none after it: a large workspace has work to do too."""


def mark(file: Path) -> Mark:
    try:
        found = os.lstat(file)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Saves:
    """What is remembered of one workspace."""

    mark: Mark = None
    first: float | None = None
    """The first save that is in no moment yet."""
    last: float = 0.0
    rest_until: float = 0.0


def seen(saves: Saves, mark: Mark, now: float) -> Saves:
    """One that is seen for the first time counts too: the daemon may have been away when it was made."""
    if mark is None or mark == saves.mark:
        return saves
    return replace(saves, mark=mark, first=now if saves.first is None else saves.first, last=now)


def is_due(saves: Saves, *, quiet_s: float, every_s: float, now: float) -> bool:
    """After some quiet, and not later than `every_s` after the first save however busy the user is; 0: never."""
    if saves.first is None or not every_s or now < saves.rest_until:
        return False
    return now - saves.last >= quiet_s or now - saves.first >= every_s


def taken(saves: Saves, begun: float, now: float) -> Saves:
    """After a snapshot, or the attempt: what was saved since it began is for the next one."""
    first = saves.last if saves.last > begun else None
    return replace(saves, first=first, rest_until=now + SPARE * (now - begun))


def failed(saves: Saves, now: float, every_s: float) -> Saves:
    """After an attempt that failed: what was saved waits for the next one."""
    return replace(saves, rest_until=now + every_s)
