"""A machine's GPUs in a few words, and its day played forward with a scheduler of one's choice."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from appliance.scheduler.types import Card, Held, Placement, Policy, Request, Who
from appliance.spec.machines import Shape

GIB = 2**30
POLICY = Policy()


def whole(name: str, gib: int | None = 24, model: str = "RTX", **more: object) -> Card:
    card = Card(name, name, "whole", "", None if gib is None else gib * GIB, model)
    return replace(card, **more)  # type: ignore[arg-type]


def instance(name: str, profile: str, parent: str = "split", gib: int = 10) -> Card:
    return Card(name, parent, "mig", profile, gib * GIB, "A100")


def ask(
    name: str,
    shape: Shape | int = 1,
    *,
    asked: float = 0.0,
    priority: int = 0,
    owner: str = "local",
    ready: bool = True,
    bound_s: float | None = None,
    preemptible: bool = False,
) -> Request:
    given = Shape(gpus=shape) if isinstance(shape, int) else shape
    who = Who("run", name, name, owner=owner)
    return Request(name, who, given, priority, asked, ready, bound_s, preemptible)


def holds(request: Request, *cards: str, since: float = 0.0, freeing: bool = False) -> Held:
    return Held(request, cards, since, freeing)


@dataclass
class Work:
    """What somebody brings: when, and how long it goes on unless it is ended before."""

    request: Request
    takes: float


Placer = Callable[..., Placement]


@dataclass
class Day:
    """What became of each request."""

    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    granted: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)
    spans: list[tuple[float, float, tuple[str, ...]]] = field(default_factory=list)
    """From when to when somebody held which cards."""
    lost_s: float = 0.0
    """GPU-seconds of work that was preempted and is done again."""
    preempted: int = 0
    said: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    """When one was first told, and what."""
    told_s: list[float] = field(default_factory=list)
    """Processor time of each decision."""
    deepest: int = 0


class Machine:
    """A discrete event loop. Laws that hold for every scheduler are checked at each step."""

    def __init__(
        self,
        cards: Sequence[Card],
        work: Sequence[Work],
        place: Placer,
        *,
        policy: Policy = POLICY,
        expected: Callable[[Work], float | None] = lambda _: None,
        every_s: float = 60.0,
        timer: Callable[[], float] | None = None,
        half_life_s: float = 86_400.0,
    ) -> None:
        self.cards = tuple(cards)
        self.work = {one.request.id: one for one in work}
        self.place = place
        self.policy = policy
        self.every_s = every_s
        self.timer = timer
        self.half_life_s = half_life_s
        self.expected = {one.request.id: takes for one in work if (takes := expected(one)) is not None}
        self.held: dict[str, Held] = {}
        self.waiting: dict[str, Request] = {}
        self.used: dict[str, float] = {}
        self.now = 0.0
        self.day = Day()

    def run(self, until: float = float("inf"), most: int = 1_000_000) -> Day:
        """Until nothing is left to happen, or the given moment."""
        events: list[tuple[float, int, str, str]] = []
        for number, one in enumerate(self.work.values()):
            heapq.heappush(events, (one.request.asked, number, "asks", one.request.id))
        number = len(self.work)
        ticking = False
        for _ in range(most):
            if not events or events[0][0] > until:
                break
            at = events[0][0]
            self._pass_time(at)
            while events and events[0][0] == at:
                _, _, what, name = heapq.heappop(events)
                if what == "asks":
                    self.waiting[name] = self.work[name].request
                elif what == "ends" and name in self.held and self._ends(name) <= at:
                    lease = self.held.pop(name)
                    self.day.ended[name] = at
                    self.day.spans.append((lease.since, at, lease.cards))
                elif what == "tick":
                    ticking = False
            for name in self._decide():
                number += 1
                heapq.heappush(events, (self._ends(name), number, "ends", name))
            if self.waiting and not ticking and (events or self.held):
                number += 1
                ticking = True
                heapq.heappush(events, (at + self.every_s, number, "tick", ""))
        return self.day

    def _ends(self, name: str) -> float:
        one = self.work[name]
        bound = one.request.bound_s
        return self.held[name].since + (one.takes if bound is None else min(one.takes, bound))

    def _pass_time(self, at: float) -> None:
        took = at - self.now
        if took <= 0:
            return
        faded = 0.5 ** (took / self.half_life_s)
        self.used = {owner: seconds * faded for owner, seconds in self.used.items()}
        for lease in self.held.values():
            owner = lease.request.who.owner
            self.used[owner] = self.used.get(owner, 0.0) + took * len(lease.cards)
        self.now = at

    def _decide(self) -> list[str]:
        begun: list[str] = []
        while True:
            before = self.timer() if self.timer else 0.0
            found = self.place(
                self.cards,
                tuple(self.held.values()),
                tuple(self.waiting.values()),
                self.used,
                self.policy,
                now=self.now,
                expected=self.expected,
            )
            if self.timer:
                self.day.told_s.append(self.timer() - before)
            self.day.deepest = max(self.day.deepest, len(self.waiting))
            for wait in found.waits:
                self.day.said.setdefault(wait.request, (self.now, wait.forecast))
            for grant in found.grants:
                request = self.waiting.pop(grant.request)
                self.held[grant.request] = Held(request, grant.cards, self.now)
                self.day.began[grant.request] = self.now
                self.day.granted.append((self.now, grant.request, grant.cards))
                begun.append(grant.request)
            check_leases(self.cards, self.held.values(), self.policy)
            if not found.preempts:
                return begun
            for preempt in found.preempts:
                lease = self.held.pop(preempt.request)
                self.waiting[preempt.request] = lease.request
                self.day.preempted += 1
                self.day.spans.append((lease.since, self.now, lease.cards))
                self.day.lost_s += (self.now - lease.since) * len(lease.cards)
                if preempt.request in begun:
                    begun.remove(preempt.request)


def check_leases(cards: Sequence[Card], held: Collection[Held], policy: Policy) -> None:
    """Never two exclusive leases on one card, and never more promised of a shared one than it has."""
    by_card: dict[str, list[Held]] = {}
    for lease in held:
        assert len(set(lease.cards)) == len(lease.cards), lease
        for card in lease.cards:
            by_card.setdefault(card, []).append(lease)
    sizes: Mapping[str, Card] = {card.id: card for card in cards}
    for card, holders in by_card.items():
        if len(holders) > 1:
            assert all(lease.request.shape.share for lease in holders), (card, holders)
        shares = sum(lease.request.shape.share for lease in holders)
        if shares:
            assert shares <= (sizes[card].memory or 0) * (1 - policy.share_margin), (card, holders)
