"""What the replicas of a deployment are under: their processors, their memory, and how long requests take."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from appliance.deployments.scaling import Reading
from appliance.engine import cgroups
from appliance.engine.cgroups import Usage
from appliance.engine.docker import Engine
from appliance.errors import ApplianceError
from appliance.spec.catalogue import Machine, machine
from appliance.spec.machines import Shape, own_shape
from appliance.spec.models import Metric

log = logging.getLogger(__name__)

WINDOW_S = 300.0
ENGINE_S = 5.0
"""So long the engine may take to say where the replicas are; then they are not observed this time."""


@dataclass(frozen=True, slots=True)
class Sample:
    cpus: float
    """Processors in use, the average since the look before."""
    memory: int
    """Bytes."""


class Usages:
    """Asks for those replicas only that are named; of each the second look is the first that says something."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: dict[str, tuple[float, Usage]] = {}

    async def look(self, containers: Collection[str], now: float) -> Mapping[str, Sample]:
        """By container id; `now` is of a clock that nobody sets. Empty where the engine does not answer."""
        samples = {}
        try:
            async with asyncio.timeout(ENGINE_S):
                for container_id in containers:
                    found = await self._engine.inspect(container_id)
                    usage = cgroups.read(found.pid, container_id) if found and found.pid else None
                    if usage and (sample := self._sample(container_id, usage, now)):
                        samples[container_id] = sample
        except (ApplianceError, TimeoutError) as error:
            log.debug("what replicas use is not known: %s", error)
        return samples

    def keep(self, containers: Collection[str]) -> None:
        """Forget all others."""
        self._before = {key: usage for key, usage in self._before.items() if key in containers}

    def _sample(self, container_id: str, usage: Usage, now: float) -> Sample | None:
        before = self._before.get(container_id)
        self._before[container_id] = (now, usage)
        if before is None or now <= before[0]:
            return None
        return Sample(max(0.0, usage.cpu_s - before[1].cpu_s) / (now - before[0]), usage.memory)


class Window:
    """How long the requests of one route took, of the last five minutes."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, float, int]] = deque()
        """Second, sum of durations, number; oldest first."""

    def add(self, duration_s: float, now: float) -> None:
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            _, total, number = self._seconds.pop()
            self._seconds.append((second, total + duration_s, number + 1))
            return
        self._seconds.append((second, duration_s, 1))
        self._forget(now)

    def clear(self) -> None:
        self._seconds.clear()

    def average(self, now: float) -> float | None:
        """Seconds; None: there were none."""
        self._forget(now)
        number = sum(entry[2] for entry in self._seconds)
        return sum(entry[1] for entry in self._seconds) / number if number else None

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - WINDOW_S:
            self._seconds.popleft()


def readings(
    metrics: Sequence[Metric],
    samples: Mapping[str, Sample],
    *,
    ready: int,
    share: Machine,
    duration_s: float | None,
) -> list[Reading]:
    """`share` is what one replica may use; `duration_s` the average of the route's requests. Pure."""
    found = []
    for metric in metrics:
        if metric.kind == "requestDuration":
            found.append(Reading(metric, duration_s, ready))
            continue
        used = [
            one.cpus / share.cpus if metric.kind == "cpu" else one.memory / share.memory for one in samples.values()
        ]
        found.append(Reading(metric, 100 * sum(used) / len(used) if used else None, len(used)))
    return found


def this_machine() -> Machine:
    return Machine(os.cpu_count() or 1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def share(name: str, host: Machine, machines: Mapping[str, Shape]) -> Machine:
    """What one replica on a machine of this type may use of this machine: 100 percent of it."""
    own = own_shape(name, machines)
    found = Machine(own.cpus, own.memory) if own else machine(name) or Machine(0, 0)
    return Machine(min(found.cpus or host.cpus, host.cpus), min(found.memory or host.memory, host.memory))
