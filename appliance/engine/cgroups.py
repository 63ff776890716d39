"""What a container uses, from the kernel's own accounting files: control groups of version 1 and 2.

The engine's statistics say the same and take a second for each container; these files take none. They are there where
the engine runs on this machine; of an engine elsewhere nothing is known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

log = logging.getLogger(__name__)

UNIFIED = ""
"""Stands for version 2's one hierarchy among the names of version 1's controllers."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_s: float
    """Processor time since the container began, seconds over all its processors."""
    memory: int
    """Bytes that cannot be taken from it without harm: caches of files that nobody reads are left out."""


@dataclass(frozen=True, slots=True)
class Mounted:
    root: str
    """The group that is seen at `at`; `/` where it is all of them."""
    at: Path


def read(pid: int, container: str, proc: Path = Path("/proc")) -> Usage | None:
    """Of the container with this id whose first process is `pid`; None: not known.

    That number is checked against the process's group: the container may have ended and a stranger have its number.
    """
    try:
        found = folders(pid, container, proc)
        if "memory" in found and "cpuacct" in found:
            return _version_1(found["cpuacct"], found["memory"])
        return _version_2(found[UNIFIED]) if UNIFIED in found else None
    except (OSError, ValueError, KeyError) as error:
        log.debug("what container %s uses is not known: %s", container[:12], error)
        return None


def folders(pid: int, container: str, proc: Path = Path("/proc")) -> dict[str, Path]:
    """Controller -> where it tells of the container with this id whose first process is `pid`; none where that is
    another's. Raises OSError or ValueError where the kernel does not say."""
    groups = parse_groups((proc / str(pid) / "cgroup").read_text(), container)
    mounts = parse_mounts((proc / "self" / "mountinfo").read_text())
    return {name: where for name, group in groups.items() if (where := _folder(mounts.get(name), group))}


def folder(pid: int, container: str, proc: Path = Path("/proc")) -> Path:
    """Where the kernel tells of the container with this id whose first process is `pid`.

    Raises OSError, ValueError or KeyError where that is not known.
    """
    groups = parse_groups((proc / str(pid) / "cgroup").read_text(), container)
    mounts = parse_mounts((proc / "self" / "mountinfo").read_text())
    # any controller lists the processes, and what no controller counts is in the one that systemd uses
    for name in ("pids", "memory", UNIFIED, *groups):
        where = _folder(mounts.get(name), groups[name]) if name in groups else None
        if where and (where / "cgroup.procs").exists():
            return where
    raise KeyError(container)


def device_folder(pid: int, container: str, proc: Path = Path("/proc")) -> Path:
    """The same, of what decides which devices the container may open; raises the same."""
    groups = parse_groups((proc / str(pid) / "cgroup").read_text(), container)
    mounts = parse_mounts((proc / "self" / "mountinfo").read_text())
    name = "devices" if "devices" in mounts else UNIFIED
    where = _folder(mounts[name], groups[name])
    if where is None:
        raise KeyError(container)
    return where


def parse_groups(text: str, container: str) -> dict[str, str]:
    """Controller -> group of the container, from `/proc/PID/cgroup`; empty where that is another's process.

    A process inside may have moved on into groups below: the path ends at the container's own.
    """
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = PurePosixPath(path).parts
        depth = next((depth for depth, part in enumerate(parts, start=1) if container in part), 0)
        if not depth or ".." in parts:
            continue
        names = [UNIFIED] if number == "0" else controllers.split(",")
        found.update(dict.fromkeys(names, str(PurePosixPath(*parts[:depth]))))
    return found


def parse_mounts(text: str) -> dict[str, Mounted]:
    """Controller -> where its groups are, from `/proc/self/mountinfo`; the first mount of each counts."""
    found: dict[str, Mounted] = {}
    for names, mounted in _cgroup_mounts(text):
        for name in names:
            found.setdefault(name, mounted)
    return found


def _cgroup_mounts(text: str) -> Iterator[tuple[list[str], Mounted]]:
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(kind) < 3 or not kind[0].startswith("cgroup"):
            continue
        mounted = Mounted(_plain(fields[3]), Path(_plain(fields[4])))
        yield [UNIFIED] if kind[0] == "cgroup2" else kind[2].split(","), mounted


def _plain(field: str) -> str:
    """The kernel writes a space, a tab, a line's end and a backslash as three octal digits."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _folder(mounted: Mounted | None, group: str) -> Path | None:
    if mounted is None:
        return None
    path = PurePosixPath(group)
    if path.is_relative_to(mounted.root):
        path = PurePosixPath("/") / path.relative_to(mounted.root)
    return mounted.at / path.relative_to("/")


def _version_1(cpu: Path, memory: Path) -> Usage:
    nanoseconds = int((cpu / "cpuacct.usage").read_text())
    used = int((memory / "memory.usage_in_bytes").read_text())
    return Usage(nanoseconds / 1e9, max(0, used - _table(memory / "memory.stat").get("total_inactive_file", 0)))


def _version_2(folder: Path) -> Usage:
    used = int((folder / "memory.current").read_text())
    idle = _table(folder / "memory.stat").get("inactive_file", 0)
    return Usage(_table(folder / "cpu.stat")["usage_usec"] / 1e6, max(0, used - idle))


def _table(path: Path) -> Mapping[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2}
