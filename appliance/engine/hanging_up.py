"""A command inside a container whose terminal is gone: told so as a lost line tells it, then ended.

The kernel tells the first process of a session and what is in the foreground; a shell tells its jobs itself. What was
begun with `nohup`, `setsid` or in a `tmux` goes on, here as there: it was begun to outlive its terminal.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.engine.processes import Process, processes

log = logging.getLogger(__name__)

_PROC = Path("/proc")


def told(pid: int, known: Mapping[int, Process]) -> list[int]:
    """Whom the kernel would tell: the first process, and its foreground, without a terminal its own group. Pure.

    The first one comes first, else it might go on to its next command before it hears of it.
    """
    if pid not in known:
        return []
    first = known[pid]
    group = first.foreground if first.foreground > 0 else first.group
    return [pid] + [
        other
        for other, process in known.items()
        if other != pid and process.session == first.session and process.group == group
    ]


class Left:
    """The processes that were told, held by handles: a later one of the same number is none of them."""

    def __init__(self, handles: Mapping[int, int]) -> None:
        self._handles = dict(handles)

    def running(self) -> list[int]:
        """Those that have neither ended nor said that they do not mind."""
        return [pid for pid, handle in self._handles.items() if _runs(handle) and not _ignores(pid)]

    def kill(self) -> None:
        for pid in self.running():
            _send(self._handles[pid], signal.SIGKILL)

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()


@contextmanager
def hanging_up(pid: int, container_id: str) -> Iterator[Left]:
    """SIGHUP to a process of this machine, and to those with it, that belong to that container."""
    left = Left(dict(_held(told(pid, processes()) if pid > 1 else [], container_id)))
    try:
        for one in left.running():
            for number in (signal.SIGHUP, signal.SIGCONT):  # one that was stopped must run to hear of it
                _send(left._handles[one], number)
        yield left
    finally:
        left.close()


def _held(pids: Sequence[int], container_id: str) -> Iterator[tuple[int, int]]:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue  # it ended meanwhile
        try:
            own = container_id in (_PROC / str(pid) / "cgroup").read_text()
        except OSError:
            own = False
        if own:
            yield pid, handle
        else:
            os.close(handle)


def _runs(handle: int) -> bool:
    """The handle of a process becomes readable at its end."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return not poll.poll(0)


def _ignores(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return True  # it has ended
    line = next((line for line in text.splitlines() if line.startswith("SigIgn:")), "SigIgn: 0")
    return bool(int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1)


def _send(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError as error:
        log.debug("a process whose terminal is gone was not told: %s", error)
