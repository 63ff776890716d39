"""Which processes a container has and what each is about, from this machine's `/proc`.

The engine's own list starts a program for each look; these files take a millisecond. They are there where the engine
runs on this machine; of an engine elsewhere nothing is known.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.engine import cgroups

log = logging.getLogger(__name__)

_TICKS = os.sysconf("SC_CLK_TCK")
_GROUP_FOLDERS = 1000
"""Control groups below the container's that are looked into; a container that makes more is not known."""
_CMDLINE_BYTES = 4096
SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "fish", "ksh", "csh", "tcsh", "busybox"})
HOLDERS = frozenset({"su", "sudo", "login", "screen", "script", "tmux"})
"""Programs that wait for the shell or the job inside them, which is seen by itself."""
HELPERS = ("gitstatusd",)
"""Beginnings of the names of what a shell begins for its prompt."""
_WITH_WORD = frozenset({"--init-file", "--rcfile", "--init-command", "-o", "-O", "+o", "+O"})
"""Options of shells whose next word is no program."""


@dataclass(frozen=True, slots=True)
class Inside:
    """One process, as this machine numbers it."""

    pid: int
    parent: int
    session: int
    terminal: bool
    """It belongs to a terminal."""
    cpu_s: float
    """Processor time since it began, seconds."""
    began: int
    """Ticks since the machine's start: a later process of the same number has another."""
    name: str
    """Of its program, 15 bytes at most; whatever the process likes."""
    argv: tuple[str, ...] = ()
    """Of those with a terminal only; the beginning of a long one."""

    @property
    def at_rest(self) -> bool:
        """A shell that waits for somebody to type, or a program that only holds one."""
        name = self.name.lstrip("-").partition(":")[0]
        if name in HOLDERS or name.startswith(HELPERS):
            return True
        return name in SHELLS and all(word[:1] in "-+" and not _has_command(word) for word in _options(self.argv))


def look(pid: int, container: str, proc: Path = Path("/proc")) -> Mapping[int, Inside] | None:
    """Those of the container with this id whose first process is `pid`; None: not known."""
    try:
        numbers = list(_numbers(cgroups.folder(pid, container, proc)))
    except (OSError, ValueError, KeyError) as error:
        log.debug("what runs in container %s is not known: %s", container[:12], error)
        return None
    found = (_read(number, proc) for number in numbers)
    return {one.pid: one for one in found if one}


def network(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Bytes in and out of the container whose first process is `pid`, since it began; None: not known.

    What its programs say to each other is not counted.
    """
    try:
        lines = (line.partition(":") for line in (proc / str(pid) / "net" / "dev").read_text().splitlines())
        links = [rest.split() for name, colon, rest in lines if colon and name.strip() != "lo"]
        return sum(int(link[0]) + int(link[8]) for link in links)
    except (OSError, ValueError, IndexError) as error:
        log.debug("what goes through the network of process %d is not known: %s", pid, error)
        return None


def age_s(one: Inside) -> float:
    """Seconds since it began, also those in which the machine slept; no clock that is set changes them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - one.began / _TICKS


def _numbers(folder: Path) -> Iterable[int]:
    """Also of groups that a process inside has made below."""
    for count, (where, _, files) in enumerate(os.walk(folder)):
        if count > _GROUP_FOLDERS:
            raise ValueError("it has too many control groups")
        if "cgroup.procs" in files:
            yield from map(int, (Path(where) / "cgroup.procs").read_text().split())


def _read(pid: int, proc: Path) -> Inside | None:
    """None: it has ended, also where nobody has read that out yet."""
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
        left, _, right = text.rpartition(")")  # its name may hold anything
        state, parent, _, session, terminal, *rest = right.split()
        if state in "ZX":
            return None
        argv = _argv(proc / str(pid) / "cmdline") if terminal != "0" else ()
    except (OSError, ValueError):
        return None
    return Inside(
        pid=pid,
        parent=int(parent),
        session=int(session),
        terminal=terminal != "0",
        cpu_s=(int(rest[6]) + int(rest[7])) / _TICKS,
        began=int(rest[14]),
        name=left.partition("(")[2],
        argv=argv,
    )


def _argv(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        return tuple(word.decode("utf-8", "replace") for word in file.read(_CMDLINE_BYTES).split(b"\0") if word)


def _options(argv: Sequence[str]) -> Iterator[str]:
    """Without the program's name and the words that belong to options."""
    words = iter(argv[1:])
    for word in words:
        yield word
        if word in _WITH_WORD:
            next(words, None)


def _has_command(word: str) -> bool:
    """Whether an option of a shell gives it a command, as `-c` and `-lc` do."""
    return not word.startswith("--") and "c" in word
