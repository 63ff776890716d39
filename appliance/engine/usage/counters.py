"""The kernel's accounting files as numbers. Pure; the formats are those of the kernel's documentation
(admin-guide/cgroup-v1, admin-guide/cgroup-v2, proc(5))."""

from __future__ import annotations

from dataclasses import dataclass

NO_LIMIT = 1 << 60
"""Version 1 writes the largest number of pages where there is no limit; no machine has so many bytes."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one container at one moment. None: the kernel does not tell. What is counted, is counted from its start."""

    cpu_s: float
    """Processor time, seconds over all processors."""
    memory: int
    """Bytes that cannot be taken from it without harm: caches of files that nobody reads are left out."""
    memory_limit: int | None = None
    """Bytes; None also where it has none."""
    read: int | None = None
    """Bytes from disks. The kernel counts what ZFS reads and writes to nobody."""
    written: int | None = None
    received: int | None = None
    """Bytes through its network, without what its programs say to each other."""
    sent: int | None = None
    pids: int | None = None
    """Processes and threads now."""


def table(text: str) -> dict[str, int]:
    """`name number` in each line; what has another form is passed over."""
    found = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if number.isdigit():
            found[name] = int(number)
    return found


def limit(text: str) -> int | None:
    """`max`, or a number of bytes; None: there is no limit. Raises ValueError for anything else."""
    if text.strip() == "max":
        return None
    number = int(text)
    return number if number < NO_LIMIT else None


def io_version_1(text: str) -> tuple[int, int]:
    """Bytes read and written over all devices, from `blkio.throttle.io_service_bytes_recursive`."""
    read = written = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in ("Read", "Write"):
            number = int(words[2])
            read, written = (read + number, written) if words[1] == "Read" else (read, written + number)
    return read, written


def io_version_2(text: str) -> tuple[int, int]:
    """The same, from `io.stat`."""
    read = written = 0
    for line in text.splitlines():
        pairs = dict(word.partition("=")[::2] for word in line.split()[1:])
        read += int(pairs.get("rbytes", 0))
        written += int(pairs.get("wbytes", 0))
    return read, written


def links(text: str) -> dict[str, tuple[int, int]]:
    """Link -> bytes received and sent, from `/proc/PID/net/dev`; without the loopback."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.rpartition(":")  # an alias has a colon in its name
        words = rest.split()
        if colon and name.strip() != "lo" and len(words) >= 9:
            found[name.strip()] = int(words[0]), int(words[8])
    return found


def traffic(text: str) -> tuple[int, int]:
    """Bytes received and sent over all links but the loopback."""
    found = links(text).values()
    return sum(link[0] for link in found), sum(link[1] for link in found)
