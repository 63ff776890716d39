"""Which cards do for a shape, which of them are open, and which of those it gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import inf

from appliance.scheduler import words
from appliance.scheduler.freeing import STUCK_S
from appliance.scheduler.types import Card, Held, Policy
from appliance.spec.machines import Shape


def needs(shape: Shape) -> int:
    """How many cards one container of it is given."""
    return max(shape.gpus, 1) if shape.mig or shape.share else shape.gpus


def weight(shape: Shape) -> float:
    """GPUs it takes in the fair order; an instance counts by the sevenths that its profile names."""
    sevenths = shape.mig.partition("g")[0]
    part = min(int(sevenths), 7) / 7 if shape.mig and sevenths.isdecimal() and len(sevenths) < 3 else 1.0
    return needs(shape) * part


@dataclass(slots=True, eq=False)
class Kind:
    """What is alike for all requests of one shape in one pass; it is itself in a dictionary, not by its parts."""

    shape: Shape
    need: int
    like: tuple[Card, ...]
    names: frozenset[str]
    """Of the cards that would do."""
    usable: list[Card] | None = None


class Board:
    """The cards and their holders in the course of one pass; grants are put down as they are made."""

    def __init__(self, cards: Sequence[Card], held: Sequence[Held], policy: Policy, now: float) -> None:
        self.cards = tuple({card.id: card for card in cards}.values())
        self.position = {card.id: number for number, card in enumerate(self.cards)}
        self.policy = policy
        self.now = now
        self.holders: dict[str, list[Held]] = {card.id: [] for card in self.cards}
        self._kinds: dict[Shape, Kind] = {}
        self._known: dict[int, tuple[Shape, Kind]] = {}
        """By identity: to hash a shape costs more than all that is asked of it. The shape is kept so that it stays."""
        for lease in sorted(held, key=lambda one: (one.since, one.request.id)):
            self.put(lease)

    def put(self, lease: Held) -> None:
        for card in self.cards:
            # who holds a card that was split meanwhile holds all of its instances
            if card.id in lease.cards or card.parent in lease.cards:
                self.holders[card.id].append(lease)
        if lease.freeing:  # nothing else that is put down makes a card unusable
            for kind in self._kinds.values():
                kind.usable = None

    def kind(self, shape: Shape) -> Kind:
        known = self._known.get(id(shape))
        if known is not None:
            return known[1]
        kind = self._kinds.get(shape)
        if kind is None:
            like = tuple(card for card in self.cards if self._does(card, shape))
            kind = Kind(shape, needs(shape), like, frozenset(card.id for card in like))
            self._kinds[shape] = kind
        self._known[id(shape)] = shape, kind
        return kind

    def like(self, shape: Shape) -> tuple[Card, ...]:
        """The cards that would do, whatever their state."""
        return self.kind(shape).like

    def _does(self, card: Card, shape: Shape) -> bool:
        if card.kind != ("mig" if shape.mig else "whole") or card.profile.lower() != shape.mig.lower():
            return False
        if shape.model and not fnmatchcase(card.model.lower(), shape.model.lower()):
            return False
        # a memory that nobody tells is enough for who wants no certain amount only
        if shape.share and shape.share > self.room(card):
            return False
        return not shape.least or (card.memory is not None and card.memory >= shape.least)

    def room(self, card: Card) -> int:
        """Bytes of a card that may be promised to those who share it."""
        return int((card.memory or 0) * (1 - self.policy.share_margin))

    def fault(self, card: Card) -> str:
        """Why nothing can be put on a card for as long as nobody sees to it; empty: it is well."""
        if card.state != "ok":
            return words.state(card)
        for lease in self.holders[card.id]:
            if lease.freeing and lease.let_go is not None and self.now - lease.let_go >= STUCK_S:
                return f"is not given back: a process of {words.who(lease.request.who)} does not go"
        return ""

    def usable(self, shape: Shape) -> Sequence[Card]:
        kind = self.kind(shape)
        if kind.usable is None:
            kind.usable = [card for card in kind.like if not self.fault(card)]
        return kind.usable

    def outside(self, shape: Shape) -> str:
        """Why a request of it stands in no queue; empty: it can have its cards once others go."""
        like, need = self.like(shape), needs(shape)
        if len(like) < need:
            return words.impossible(shape, need, self.cards, len(like))
        bad = [(card, fault) for card in like if (fault := self.fault(card))]
        return words.unusable(shape, need, bad, len(like) - len(bad)) if len(like) - len(bad) < need else ""

    def promised(self, card: Card) -> float:
        """Bytes that are taken of a card's room; infinite where somebody has it alone."""
        return sum((lease.request.shape.share or inf for lease in self.holders[card.id]), 0.0)

    def open(self, card: Card, shape: Shape) -> bool:
        if not self.holders[card.id]:
            return True
        return bool(shape.share) and self.promised(card) + shape.share <= self.room(card)

    def pick(self, shape: Shape, without: Collection[str] = ()) -> tuple[str, ...] | None:
        """The cards it gets now: the smallest that do, of one model if that can be. None: it does not fit."""
        need = self.kind(shape).need
        found = [card for card in self.usable(shape) if card.id not in without and self.open(card, shape)]
        if len(found) < need:
            return None
        if shape.share:  # fill a card up before another is begun
            found.sort(key=lambda card: (-self.promised(card), card.memory or inf, self.position[card.id]))
        else:
            found = self._alike(found, need)
        return tuple(card.id for card in found[:need])

    def _alike(self, found: Iterable[Card], need: int) -> list[Card]:
        small = sorted(found, key=lambda card: (card.memory or inf, self.position[card.id]))
        if need > 1:
            for first in small:
                same = [card for card in small if card.model == first.model]
                if len(same) >= need:
                    return same
        return small
