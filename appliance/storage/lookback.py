"""What the directory store can tell of its past: by the copier's notes, by ctime, and by counting hard links."""

from __future__ import annotations

import json
import mmap
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage import child, measure
from appliance.storage.argv import run
from appliance.storage.notes import tick

WALK_S = 3600.0
"""Deadline of a walk over one volume."""
_PROBE_S = 2.5
"""Longest wait for a file system's clock to go on; the coarsest count in two seconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """In bytes; see `measure`."""

    live: int
    each: tuple[int, ...]
    held: int
    only: int
    portion: int


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


def measured(live: Path | None, snapshots: Sequence[Path]) -> Measured:
    argv = [*child.argv(measure.__name__), str(live or ""), *map(str, snapshots)]
    answer = run(argv, timeout_s=WALK_S)
    if answer.code:
        raise StorageError(f"cannot measure: {answer.err}", where=str(live), hint="look at the directory's permissions")
    found = json.loads(answer.out)
    return Measured(found["live"], tuple(found["each"]), found["held"], found["only"], found["portion"])
