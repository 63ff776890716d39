"""What the machine itself uses, from the kernel's files. Numbers are pure functions of their texts (proc(5))."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.usage.counters import links

log = logging.getLogger(__name__)

_TICKS = os.sysconf("SC_CLK_TCK")
SECTOR = 512
"""Bytes: the unit of `/proc/diskstats`, whatever the disk's own is."""
_IDLE = (3, 4)
"""Columns of `/proc/stat` in which a processor does nothing: idle, and waiting for a disk."""
_COUNTED = 8
"""The columns behind these are of guests, whose time is in the first two already."""


@dataclass(frozen=True, slots=True)
class Machine:
    """At one moment. None: the kernel does not tell."""

    cpu_s: float | None = None
    """Processor time in use since the machine's start, seconds over all processors."""
    cpus: int | None = None
    memory: int | None = None
    """Bytes of the whole."""
    memory_used: int | None = None
    """Bytes that cannot be given away without harm."""
    swap_used: int | None = None
    read: int | None = None
    """Bytes, from whole disks since the machine's start."""
    written: int | None = None
    received: int | None = None
    sent: int | None = None


def look(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Machine:
    """Never raises: what cannot be read is not told."""
    cpu_s, cpus = processors(_text(proc / "stat"))
    memory, memory_used, swap_used = memories(_text(proc / "meminfo"))
    disks = [disk for disk in _names(sys / "block") if (sys / "block" / disk / "device").exists()]
    read, written = disk_bytes(_text(proc / "diskstats"), disks)
    nets = sys / "class" / "net"
    received, sent = network_bytes(
        _text(proc / "net" / "dev"), [name for name in _names(nets) if (nets / name / "device").exists()]
    )
    return Machine(cpu_s, cpus, memory, memory_used, swap_used, read, written, received, sent)


def processors(text: str) -> tuple[float | None, int | None]:
    """Seconds in use, and how many there are, from `/proc/stat`."""
    lines = [words for line in text.splitlines() if (words := line.split()) and words[0].startswith("cpu")]
    whole = next((words[1 : 1 + _COUNTED] for words in lines if words[0] == "cpu"), [])
    if len(whole) <= max(_IDLE) or not all(word.isdigit() for word in whole):
        return None, None
    busy = sum(int(word) for column, word in enumerate(whole) if column not in _IDLE)
    return busy / _TICKS, len(lines) - 1


def memories(text: str) -> tuple[int | None, int | None, int | None]:
    """Bytes in all, of them in use, and of swap in use, from `/proc/meminfo`."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    whole, free = found.get("MemTotal"), found.get("MemAvailable")
    used = max(0, whole - free) if whole is not None and free is not None else None
    swap = max(0, found["SwapTotal"] - found["SwapFree"]) if {"SwapTotal", "SwapFree"} <= found.keys() else None
    return whole, used, swap


def disk_bytes(text: str, disks: Collection[str]) -> tuple[int | None, int | None]:
    """Bytes read and written, from `/proc/diskstats`: of whole disks, as what goes to a part goes to its disk too."""
    read = written = 0
    seen = False
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 10 and words[2] in disks and words[5].isdigit() and words[9].isdigit():
            seen = True
            read += int(words[5]) * SECTOR
            written += int(words[9]) * SECTOR
    return (read, written) if seen else (None, None)


def network_bytes(text: str, real: Collection[str]) -> tuple[int | None, int | None]:
    """Bytes received and sent by links with a device; by all but the loopback where none has (inside a container)."""
    try:
        found = links(text)
    except ValueError:
        return None, None
    counted = [link for name, link in found.items() if name in real] or list(found.values())
    return (sum(link[0] for link in counted), sum(link[1] for link in counted)) if counted else (None, None)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        log.debug("not told by the kernel: %s", error)
        return ""
