"""Which programs on the GPUs are of which container. The driver names them by pid, the kernel knows their group.

A daemon that does not live among the machine's own pids finds nothing under those numbers, or a stranger: what cannot
be told is said to be so, and is never taken for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.engine.devices import container_of
from appliance.gpu.types import Inventory, Process

Cgroup = Callable[[int], str | None]


def cgroup(pid: int, proc: Path = Path("/proc")) -> str | None:
    """Text of the groups of this process, also of one that is dead and not gone. None: there is no such process."""
    try:
        return (proc / str(pid) / "cgroup").read_text(errors="replace")
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Programs:
    """What is on the cards at one moment."""

    containers: Mapping[int, str] = field(default_factory=dict)
    """Pid -> our container."""
    unknown: frozenset[int] = frozenset()
    """Pids that are no process here, or not any more."""

    def on(self, processes: Sequence[Process] | None, containers: Collection[str]) -> tuple[int, ...] | None:
        """Those of these containers. None: it cannot be told whether there are any."""
        if processes is None:
            return None
        found = tuple(one.pid for one in processes if self.containers.get(one.pid) in containers)
        if not found and any(one.pid in self.unknown for one in processes):
            return None
        return found


def look(inventory: Inventory, known: Collection[str], read: Cgroup = cgroup) -> Programs:
    """`known`: ids of containers of ours, also of those that are gone by now."""
    containers, unknown = dict[int, str](), set[int]()
    for pid in {process.pid for process in _every(inventory)}:
        text = read(pid)
        if text is None:
            unknown.add(pid)
        elif container := container_of(text, known):
            containers[pid] = container
    return Programs(containers, frozenset(unknown))


def on_card(inventory: Inventory, uuid: str) -> Sequence[Process] | None:
    """On a card or an instance. One that is not there has nobody on it; None: it cannot be seen."""
    for device in inventory.devices:
        if device.uuid == uuid:
            return device.processes if not device.lost else None
        for mig in device.migs:
            if mig.uuid == uuid:
                return mig.processes if not device.lost else None
    return () if inventory.ok else None


def _every(inventory: Inventory) -> Iterator[Process]:
    for device in inventory.devices:
        lists: Iterable[Sequence[Process] | None] = (device.processes, *(mig.processes for mig in device.migs))
        for processes in lists:
            yield from processes or ()
