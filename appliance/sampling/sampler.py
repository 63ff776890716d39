"""Looks at what runs and at the machine: every second while it matters to anybody, else every ten.

The files are read in one thread of its own, and none but this module's state is touched there. Which containers run is
known from the engine's events and from a listing now and then; while the engine is away, those that were known are
read on, as the kernel goes on counting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from anyio import to_thread

from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.engine.usage.meter import Meter
from appliance.errors import ApplianceError
from appliance.gpu.types import Inventory
from appliance.sampling import machine, samples
from appliance.sampling.samples import Busy
from appliance.scheduler import programs
from appliance.telemetry.metrics.types import Sample, Subject

log = logging.getLogger(__name__)

OFTEN_S = 1.0
SELDOM_S = 10.0
LOOKED_S = 15.0
"""Who has asked for metrics within this time looks at them still."""
LISTING_S = 30.0
"""Between two listings of the containers where no event has told of a change."""
RETRY_S = 2.0
"""The same, where the engine did not answer."""
GPUS_S = 15.0
"""What was seen of the cards earlier than this is not told as of now."""
RUNS = "run"
"""Kind of the containers that are looked at each second as long as they run."""


@dataclass(slots=True)
class _Metered:
    subject: Subject
    meter: Meter
    busy: Busy | None = None


class Sampler:
    """`run` goes on for ever. All but the reading is on the event loop's thread."""

    def __init__(
        self,
        *,
        listing: Callable[[], Awaitable[Sequence[Container]]],
        inspect: Callable[[str], Awaitable[Container | None]],
        inventory: Callable[[], Inventory],
        store: Callable[[list[Sample]], None],
        asked: Callable[[], float],
        clock: Callable[[], float] = time.time,
        counter: Callable[[], float] = time.monotonic,
        open_meter: Callable[[int, str], Meter | None] = Meter.open,
    ) -> None:
        """`asked`: when somebody last asked for metrics, on `counter`, the clock that nobody sets."""
        self._listing = listing
        self._inspect = inspect
        self._inventory = inventory
        self._store = store
        self._asked = asked
        self._clock = clock
        self._counter = counter
        self._open = open_meter
        self._metered: dict[str, _Metered] = {}
        """By container id; those whose end is not known yet."""
        self._over: list[Meter] = []
        """To be closed, as soon as nothing is read."""
        self._machine: Busy | None = None
        self._listed = float("-inf")
        self._looked = float("-inf")
        self._news = asyncio.Event()
        self._thread = anyio.CapacityLimiter(1)

    async def run(self) -> None:
        try:
            while True:
                await self.tick()
                self._news.clear()
                try:
                    async with asyncio.timeout(OFTEN_S):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            self._forget(list(self._metered))
            self._close()

    def noticed(self, container: str, action: str) -> None:
        """The engine has told of a container: one that starts is looked at at once."""
        if action == "start":
            self._forget([container])  # it may have been another process before
            self.look_anew()

    def look_anew(self) -> None:
        """At once, and at whatever runs now: the engine answers for the first time, or again."""
        self._listed = float("-inf")
        self._looked = float("-inf")
        self._news.set()

    async def tick(self) -> None:
        """One look, where it is time for one."""
        now = self._counter()
        if now - self._listed >= LISTING_S:
            await self._list(now)
        pause = OFTEN_S if self._matters(now) else SELDOM_S
        if now - self._looked < pause * 0.9:  # timers are not exact
            return
        self._looked = now
        metered, at = dict(self._metered), self._clock()
        found, ended = await to_thread.run_sync(self._read, metered, at, limiter=self._thread)
        self._forget([one for one in ended if self._metered.get(one) is metered[one]])
        self._close()
        self._store(found)

    def _matters(self, now: float) -> bool:
        return now - self._asked() < LOOKED_S or any(one.subject.kind == RUNS for one in self._metered.values())

    async def _list(self, now: float) -> None:
        self._listed = now
        try:
            running = {one.id: one for one in await self._listing() if one.state in ("running", "paused")}
            self._forget([one for one in self._metered if one not in running])
            for one in running.keys() - self._metered.keys():
                await self._meter(one)
        except ApplianceError as error:
            log.debug("which containers run is not known: %s", error)
            self._listed = now - LISTING_S + RETRY_S

    async def _meter(self, container_id: str) -> None:
        container = await self._inspect(container_id)
        owner = owner_of(container.labels) if container else None
        if container is None or owner is None or not container.pid:
            return
        meter = await to_thread.run_sync(self._open, container.pid, container.id, limiter=self._thread)
        if meter is not None:
            subject = Subject(owner.shown_kind, owner.name, owner.part, container.id)
            self._forget([container.id])
            self._metered[container.id] = _Metered(subject, meter)

    def _forget(self, containers: Sequence[str]) -> None:
        for one in containers:
            if metered := self._metered.pop(one, None):
                self._over.append(metered.meter)

    def _close(self) -> None:
        while self._over:
            self._over.pop().close()

    def _read(self, metered: dict[str, _Metered], at: float) -> tuple[list[Sample], list[str]]:
        """In the thread: what was seen, and the containers that have ended."""
        found: list[Sample] = []
        ended: list[str] = []
        for container, one in metered.items():
            counters = one.meter.read()
            if counters is None:
                ended.append(container)
                continue
            busy = Busy(self._counter(), counters.cpu_s)
            found += samples.of_container(one.subject, counters, samples.percent(one.busy, busy), at=at)
            one.busy = busy
        found += self._of_machine(at)
        found += self._of_gpus(metered, at)
        return found, ended

    def _of_machine(self, at: float) -> list[Sample]:
        seen = machine.look()
        if seen.cpu_s is None:
            return samples.of_machine(seen, None, at=at)
        busy = Busy(self._counter(), seen.cpu_s)
        before, self._machine = self._machine, busy
        return samples.of_machine(seen, samples.percent(before, busy), at=at)

    def _of_gpus(self, metered: dict[str, _Metered], at: float) -> list[Sample]:
        inventory = self._inventory()
        if not inventory.devices or not 0 <= at - inventory.at < GPUS_S:
            return []
        pids = programs.look(inventory, metered.keys()).containers
        owners = {pid: metered[container].subject for pid, container in pids.items()}
        return samples.of_gpus(inventory, owners, at=at)
