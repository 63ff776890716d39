"""Whether two revisions of a deployment have room side by side on this machine.

What a replica needs of the processor's memory is told from those that run: a newer one is taken to need as much.
What it needs of the GPUs is told by the name of its machine type.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.deployments.machines import machine
from appliance.engine import cgroups
from appliance.engine.types import Container
from appliance.gpu import inventory

log = logging.getLogger(__name__)

GPU_DEADLINE_S = 5.0
MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Need:
    """What the replicas of one revision take together."""

    gpus: int = 0
    memory: int | None = None
    """Bytes; None: not known."""


@dataclass(frozen=True, slots=True)
class Room:
    """What this machine has."""

    gpus: int = 0
    memory: int | None = None
    """Bytes that are free now; None: not known."""


def fits(wanted: Need, running: Need, others: Need, room: Room) -> str:
    """Why the wanted revision has no room beside the one that runs; empty: it has, or nothing is known. Pure.

    `others`: what runs besides the deployment. Where there is no GPU, nobody gets one, and so none is missing.
    """
    if room.gpus and wanted.gpus and wanted.gpus + running.gpus > room.gpus - others.gpus:
        free = max(0, room.gpus - others.gpus)
        return f"{free} of {room.gpus} GPUs are there for it, and both need {wanted.gpus + running.gpus}"
    if wanted.memory and room.memory is not None and wanted.memory > room.memory:
        return f"it is going to need {_gib(wanted.memory)} of memory, and {_gib(room.memory)} are free"
    return ""


def gpus(machine_type: str, replicas: int) -> int:
    found = machine(machine_type)
    return found.gpus * replicas if found else 0


async def used(containers: Iterable[Container]) -> int | None:
    """Memory of the largest of these, bytes; None: not known."""
    return await asyncio.to_thread(_used, [(one.pid, one.id) for one in containers if one.pid])


def _used(processes: Collection[tuple[int, str]]) -> int | None:
    usages = (cgroups.read(pid, container) for pid, container in processes)
    return max((usage.memory for usage in usages if usage), default=None)


Look = Callable[[], Awaitable[Room]]


async def look() -> Room:
    try:
        async with asyncio.timeout(GPU_DEADLINE_S):
            found = await asyncio.to_thread(inventory.look)
        count = len(found.devices)
    except TimeoutError:
        log.warning("NVML did not answer within %.0f s: revisions are not kept apart by their GPUs", GPU_DEADLINE_S)
        count = 0
    return Room(count, available(await asyncio.to_thread(_read, MEMORY)))


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
