"""Whether a tree has changed since a moment, told by ctime, and whether a file system can be trusted with that."""

from __future__ import annotations

import mmap
import os
import secrets
import time
from pathlib import Path

from appliance.storage.argv import run
from appliance.storage.trees.notes import tick

WALK_S = 3600.0
"""Deadline of a walk over one volume: looking for changes, measuring or removing it."""
_PROBE_S = 2.5
"""Longest wait for a file system's clock to go on; the coarsest count in two seconds."""


def trusts_ctime(folder: Path, *, mapped: bool) -> bool:
    """Whether a ctime tells every change here, tried out: some file systems leave it as it is when a file is renamed,
    and some when a page is written that is mapped (`mapped`), even after everything was written out."""
    probe, clock = folder / f"probe-{secrets.token_hex(4)}", folder / f"clock-{secrets.token_hex(4)}"
    try:
        with probe.open("wb+") as file:
            file.truncate(mmap.PAGESIZE)
            if mapped and not _mapping_tells(file.fileno(), clock):
                return False
        moment = tick(str(clock), _PROBE_S)
        return probe.rename(folder / f"{probe.name}-2").stat().st_ctime_ns >= moment
    finally:
        for made in (probe, clock, folder / f"{probe.name}-2"):
            made.unlink(missing_ok=True)


def _mapping_tells(descriptor: int, clock: Path) -> bool:
    try:
        page = mmap.mmap(descriptor, mmap.PAGESIZE)
    except OSError:
        return True  # nobody can
    with page:
        page[0] = 1
        os.fsync(descriptor)
        moment = tick(str(clock), _PROBE_S)
        page[0] = 2
        return os.fstat(descriptor).st_ctime_ns >= moment


def any_since(root: Path, moment_ns: int, *, below: bool = False) -> bool:
    """Something in `root` has changed at that moment or later; also where that cannot be told for certain.

    `below` leaves out `root` itself.
    """
    if time.time_ns() < moment_ns:
        return True  # the clock was set back: what has changed since then has an earlier ctime
    before = moment_ns - 1
    stamp = f"@{before // 10**9}.{before % 10**9:09}"
    depth = ["-mindepth", "1"] if below else []
    answer = run(["find", str(root), *depth, "-xdev", "-newerct", stamp, "-print", "-quit"], timeout_s=WALK_S)
    return bool(answer.out) or answer.code != 0
