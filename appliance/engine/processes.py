"""Ending a command inside a container from outside. The engine can start one there (exec) and cannot end it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


_PROC = Path("/proc")
_ROUNDS = 100
"""Looks for what a command has begun meanwhile; one that begins more for ever is given up."""


@dataclass(frozen=True, slots=True)
class Process:
    """As this machine numbers it."""

    parent: int
    session: int
    group: int = 0
    foreground: int = -1
    """The group that its terminal speaks with; -1: it has none."""


def kill_inside(pid: int, container_id: str) -> bool:
    """SIGKILL to a process of this machine, and to all that it has begun, if it belongs to that container.

    False where it does not, or is gone. `pid` is what the engine says: the first process of a session of its own. It,
    and each of the others, is checked against its control group, so that an engine with process numbers of its own
    (another machine, a virtual machine) cannot make this end a stranger.
    """
    if pid <= 1:
        return False
    known: set[int] = set()
    for _ in range(_ROUNDS):
        # what is told to end begins nothing any more: a look that finds nobody new has found all
        new = {pid, *begun({pid, *known}, processes(), session=pid)} - known
        if not new:
            return True
        if pid in new and not _kill(pid, container_id):
            return False
        for one in new - {pid}:
            _kill(one, container_id)
        known |= new
    log.warning("what process %d has begun in container %s may go on: it begins ever more", pid, container_id[:12])
    return True


def begun(pids: Collection[int], processes: Mapping[int, Process], *, session: int) -> set[int]:
    """Those that descend from these, and those of the session, whose parents may have ended. Pure."""
    found = {pid for pid, process in processes.items() if process.session == session}
    reached = {*pids, *found}
    while more := {pid for pid, process in processes.items() if process.parent in reached} - reached:
        reached |= more
    return reached - set(pids)


def processes() -> dict[int, Process]:
    """Those that run; what has ended and is not read out yet is not among them."""
    return dict(_read())


def _read() -> Iterator[tuple[int, Process]]:
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        state, *numbers = text.rpartition(")")[2].split()[:6]  # its name may hold anything
        if state not in "ZX":
            parent, group, session, _, foreground = map(int, numbers)
            yield int(entry.name), Process(parent, session, group, foreground)


def _kill(pid: int, container_id: str) -> bool:
    try:
        handle = os.pidfd_open(pid)  # from here on it is this process and not a later one of the same number
    except OSError:
        return False
    try:
        if container_id not in (_PROC / str(pid) / "cgroup").read_text():
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError as error:
        log.debug("process %d of container %s was not ended: %s", pid, container_id[:12], error)
        return False
    finally:
        os.close(handle)
    return True
