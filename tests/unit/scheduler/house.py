"""A scheduler on a real database with an engine, a driver and clocks that obey the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appliance.engine.labels import GPUS, Owner
from appliance.engine.types import Container
from appliance.errors import EngineDown
from appliance.gpu.types import Device, Fault, Inventory, Mig, Process
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.types import Answer, Card, Who
from appliance.spec.machines import Shape
from appliance.state import events
from appliance.state.db import Database

NOW = 1_790_000_000.0
GIB = 2**30
MACHINES = {
    "small": Shape(gpus=1),
    "pair": Shape(gpus=2),
    "part": Shape(gpus=1, share=10 * GIB),
    "slice": Shape(gpus=1, mig="1g.10gb"),
}


def notebook(name: str, owner: str = "local") -> Who:
    return Who("notebook", name, f"uid-{name}", owner=owner)


def job(run: str, name: str = "train", owner: str = "local") -> Who:
    return Who("run", f"{run}.1", f"run-{run}", name, owner)


class Watch:
    def __init__(self, inventory: Inventory) -> None:
        self.latest = inventory
        self.known = True
        self.on_inventory: list[Callable[[Inventory], None]] = []
        self.on_fault: list[Callable[[Fault], None]] = []
        self.retried = 0

    def retry(self) -> None:
        self.retried += 1


@dataclass
class House:
    """One machine. `restart` is a daemon that was killed and begins again."""

    path: Path
    cards: int = 1
    now: float = NOW
    elapsed: float = 0.0
    containers: dict[str, Container] = field(default_factory=dict)
    down: bool = False
    groups: dict[int, str] = field(default_factory=dict)
    """Pid -> container, of what the kernel knows."""
    changed: list[Who] = field(default_factory=list)
    preempted: list[tuple[Who, str]] = field(default_factory=list)
    lost: list[tuple[Who, str]] = field(default_factory=list)
    faulty: list[tuple[Who, str]] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    """Containers that hold more than their share."""
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        devices = tuple(
            Device(f"GPU-{number}", number, "A100", memory=80 * GIB, processes=(), utilisation=0)
            for number in range(self.cards)
        )
        self.inventory = Inventory(self.now, devices, "580", "13.0", "found", present=True)
        self.db = Database(self.path)
        self.build()

    def build(self) -> None:
        self.watch = Watch(self.inventory)
        self.scheduler = Scheduler(
            db=self.db,
            containers=self._listed,
            watch=self.watch,
            machines=MACHINES,
            clock=lambda: self.now,
            counter=lambda: self.elapsed,
            cgroup=lambda pid: f"5:devices:/docker/{self.groups[pid]}\n" if pid in self.groups else None,
            **self.options,
        )
        self.scheduler.on_change = self.changed.append
        self.scheduler.on_preempt = lambda who, words: self.preempted.append((who, words))
        self.scheduler.on_lost = lambda who, words: self.lost.append((who, words))
        self.scheduler.on_over = self.over.append
        self.scheduler.on_fault = lambda who, words: self.faulty.append((who, words))

    async def restart(self) -> None:
        self.db.close()
        self.db = Database(self.path)
        self.build()
        await self.scheduler.begin()

    async def _listed(self) -> list[Container]:
        if self.down:
            raise EngineDown("the engine is away")
        return list(self.containers.values())

    def look(self, **changes: Any) -> None:
        """The driver is asked again; `changes` of the inventory."""
        self.inventory = replace(self.inventory, at=self.now, **changes)
        self.watch.latest = self.inventory
        for told in self.watch.on_inventory:
            told(self.inventory)

    def card(self, number: int = 0, **changes: Any) -> None:
        devices = list(self.inventory.devices)
        devices[number] = replace(devices[number], **changes)
        self.look(devices=tuple(devices))

    def fail(self, kind: Any = "card", number: int = 0, words: str = "fell off the bus", **more: Any) -> None:
        for told in self.watch.on_fault:
            told(Fault(self.now, f"GPU-{number}", kind, words, **more))

    async def passes(self, seconds: float = 1.0, *, looks: bool = True) -> None:
        """So much time, and then a tick."""
        self.now += seconds
        self.elapsed += seconds
        if looks:
            self.look()
        await self.scheduler.tick()

    # -- what a controller does

    def ask(self, who: Who, machine: str = "small", *, ready: bool = True, **more: Any) -> Answer:
        return self.scheduler.ask(who, machine=machine, ready=ready, **more)

    def make(self, who: Who, *, tell: bool = True, state: str = "running") -> str:
        """A container with what it was granted."""
        answer = self.scheduler.peek(who)
        assert answer.state == "granted"
        made = f"{next(self._numbers):064x}"
        labels = Owner("me", who.kind, who.name, who.uid, who.part).to_labels()
        labels |= {LEASE: answer.lease, GPUS: ",".join(answer.cards)}
        self.containers[made] = Container(made, made, "i", "i", labels, state)
        if tell:
            self.scheduler.held(who, made)
        return made

    def run_on(self, container: str, pid: int = 100, number: int = 0) -> None:
        self.groups[pid] = container
        self.card(number, processes=(Process(pid, GIB),))

    def state(self, container: str, state: str) -> None:
        self.containers[container] = replace(self.containers[container], state=state)

    # -- what is told

    def events(self) -> list[tuple[str, str, str]]:
        return [(one.name, one.reason, one.message) for one in events.after(self.db.read, 0)]

    def reasons(self, name: str) -> list[str]:
        return [reason for told, reason, _ in self.events() if told == name]

    def owners(self) -> dict[str, str]:
        """Card -> whose it is."""
        return {card: one.held.request.who.name for one in self.scheduler.snapshot().leases for card in one.held.cards}


def split(device: Device, *profiles: str) -> Device:
    migs = tuple(
        Mig(f"MIG-{device.index}-{n}", one, gi=n, memory=10 * GIB, processes=()) for n, one in enumerate(profiles)
    )
    return replace(device, mig=True, migs=migs, processes=None, utilisation=None)


def states(cards: tuple[Card, ...]) -> list[str]:
    return [card.state for card in cards]
