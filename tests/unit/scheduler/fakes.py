"""GPUs that obey the test, behind the same door as the scheduler's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from appliance.scheduler.types import Answer, Who

Key = tuple[str, str, str]
"""Kind, uid and part: whose a lease is, whatever the name is by now."""


def key_of(who: Who) -> Key:
    return who.kind, who.uid, who.part


@dataclass(frozen=True, slots=True)
class Asked:
    """The newest question of one, as it was put."""

    who: Who
    machine: str
    gpus: int
    ready: bool
    priority: int | None
    bound_s: float | None
    preemptible: bool | None
    place: int
    """In the queue: whoever asked first has the least."""
    cards: tuple[str, ...] = ()
    lease: str = ""
    since: float = 0.0
    container: str = ""
    """That was made with the cards."""


class FakeLeases:
    """First come, first served, from so many cards; what is given back is free at once.

    `machines`: machine type -> how many GPUs it means. `on_change` is called with who waits when its answer changes.
    """

    def __init__(self, cards: int = 1, *, machines: Mapping[str, int] | None = None) -> None:
        self.total = tuple(f"GPU-{number}" for number in range(cards))
        self.machines = dict({"P4000": 1} if machines is None else machines)
        self.asked: dict[Key, Asked] = {}
        self.released: list[Who] = []
        """Those that had or awaited something, in order."""
        self.busy: bool | None = True
        self.words = ""
        """What is said of a grant."""
        self.clock: Callable[[], float] = lambda: 0.0
        self.lingering = False
        """What is left to a successor is free only at `arrive`: somebody's process is still on it."""
        self.on_change: Callable[[Who], None] = lambda who: None
        self._numbers = itertools.count(1)

    # -- what the rooms ask

    def ask(
        self,
        who: Who,
        *,
        machine: str,
        gpus: int = 0,
        ready: bool,
        priority: int | None = None,
        bound_s: float | None = None,
        preemptible: bool | None = None,
    ) -> Answer:
        count = gpus or self.machines.get(machine, 0)
        if not count:
            self.release(who)
            return Answer("unneeded")
        before = self.asked.get(key_of(who))
        if before and self._count(before) != count:
            self.release(who)
            before = None
        place = before.place if before else next(self._numbers)
        found = Asked(who, machine, gpus, ready, priority, bound_s, preemptible, place)
        if before:
            found = replace(
                found, cards=before.cards, lease=before.lease, since=before.since, container=before.container
            )
        self.asked[key_of(who)] = found
        self._serve(but=who)
        return self.peek(who)

    def peek(self, who: Who) -> Answer:
        one = self.asked.get(key_of(who))
        if one is None:
            return Answer("none")
        if one.lease:
            return Answer("granted", one.cards, one.lease, one.since, self.words)
        count = self._count(one)
        if count > len(self.total):
            return Answer("impossible", words=f"it asks for {count} GPUs, this machine has {len(self.total)}")
        holders = sorted(f"{other.who.kind} {other.who.name}" for other in self.asked.values() if other.cards)
        behind = f", behind {', '.join(holders)}" if holders else ""
        return Answer("waits", words=f"it waits for {count} GPU{'s' if count > 1 else ''}{behind}")

    def held(self, who: Who, container: str) -> None:
        one = self.asked[key_of(who)]
        assert one.lease, f"{who} holds nothing"
        self.asked[key_of(who)] = replace(one, container=container)

    def release(self, who: Who, *, successor: Who | None = None) -> None:
        one = self.asked.pop(key_of(who), None)
        if one is None:
            return
        self.released.append(who)
        other = self.asked.get(key_of(successor)) if successor else None
        if successor and one.cards and not (other and other.cards):  # who has something gets no more
            lease = "" if self.lingering else one.lease
            self.asked[key_of(successor)] = replace(one, who=successor, container="", lease=lease, since=self.clock())
        self._serve(but=who)

    def free(self, machine: str, gpus: int = 0) -> int | None:
        count = gpus or self.machines.get(machine, 0)
        return len(self.left) // count if count else None

    def gpu_busy(self, uid: str) -> bool | None:
        return self.busy if any(one.who.uid == uid and one.cards for one in self.asked.values()) else False

    def never(self, machine: str, gpus: int) -> str:
        count = gpus or self.machines.get(machine, 0)
        return f"it asks for {count} GPUs, this machine has {len(self.total)}" if count > len(self.total) else ""

    # -- what the test does

    def of(self, uid: str, part: str = "") -> Asked | None:
        return next((one for one in self.asked.values() if (one.who.uid, one.who.part) == (uid, part)), None)

    def take(self, name: str = "stranger", gpus: int = 1) -> Who:
        """Somebody else asks for some, and has them at once where they are free."""
        who = Who("run", name, name)
        self.ask(who, machine="", gpus=gpus, ready=True)
        return who

    def arrive(self) -> None:
        """What was left to successors is free by now."""
        for key, one in list(self.asked.items()):
            if one.cards and not one.lease:
                self.asked[key] = replace(one, lease=f"lease-{next(self._numbers)}", since=self.clock())

    @property
    def left(self) -> tuple[str, ...]:
        taken = {card for one in self.asked.values() for card in one.cards}
        return tuple(card for card in self.total if card not in taken)

    def _count(self, one: Asked) -> int:
        return one.gpus or self.machines.get(one.machine, 0)

    def _serve(self, *, but: Who) -> None:
        """Everybody whose turn it is gets cards; told are those that did not ask just now."""
        for key, one in sorted(self.asked.items(), key=lambda item: item[1].place):
            count = self._count(one)
            if one.ready and not one.cards and len(self.left) >= count:
                self.asked[key] = replace(
                    one, cards=self.left[:count], lease=f"lease-{next(self._numbers)}", since=self.clock()
                )
                if key != key_of(but):
                    self.on_change(one.who)
