"""Whether two revisions of a deployment have room side by side on this machine.

What a replica needs of the processor's memory is told from those that run: a newer one is taken to need as much. Of
the GPUs the scheduler tells how many are free for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from appliance.engine import cgroups
from appliance.engine.types import Container

MEMORY = Path("/proc/meminfo")
Look = Callable[[], int | None]
"""Bytes of memory that can be had now; None: not known."""


def gpus_apart(replicas: int, *, free: int | None, own: int) -> str:
    """Why so many replicas cannot have their GPUs beside those that run; empty: they can, or to wait is as good. Pure.

    `free`: so many could have theirs now; None: they need none, or nobody gets one here. `own`: so many of the
    deployment's others have some: where all of these would not do either, nobody leaves for it.
    """
    if free is None or not free < replicas <= free + own:
        return ""
    return f"GPUs are free for {free} of its {replicas} replicas, and those that run have the others"


def memory_apart(wanted: int | None, free: int | None) -> str:
    """The same of memory, bytes; None: not known, and then it fits. Pure."""
    if not wanted or free is None or wanted <= free:
        return ""
    return f"it is going to need {_gib(wanted)} of memory, and {_gib(free)} are free"


async def used(containers: Iterable[Container]) -> int | None:
    """Memory of the largest of these, bytes; None: not known."""
    return await asyncio.to_thread(_used, [(one.pid, one.id) for one in containers if one.pid])


def _used(processes: Collection[tuple[int, str]]) -> int | None:
    usages = (cgroups.read(pid, container) for pid, container in processes)
    return max((usage.memory for usage in usages if usage), default=None)


def look() -> int | None:
    return available(_read(MEMORY))


def available(meminfo: str) -> int | None:
    """Bytes that can be had without swapping, from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == "MemAvailable" and words and words[0].isdigit():
            return int(words[0]) * 1024
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
