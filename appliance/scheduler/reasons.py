"""Why each of those who wait does so, and behind whom, once a pass is over.

Asked of each in the order of the queue. What is alike for many is put into words once: this is done each second, for as
many as wait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from appliance.scheduler import words
from appliance.scheduler.backfill import Claim, closed
from appliance.scheduler.fitting import Board, Kind
from appliance.scheduler.types import Request


@dataclass(slots=True)
class _Ahead:
    """The different names of those of a queue who were there before."""

    names: dict[str, None] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        if name not in self.names:
            self.names[name] = None
            if len(self.first) <= words.NAMED:
                self.first.append(name)


class Reasons:
    """Of one pass: the board as it is after it, what is kept, card -> head of those who want it, who was told to go."""

    def __init__(
        self, board: Board, claims: Mapping[str, Claim], heads: Mapping[str, Request], leaving: Collection[str]
    ) -> None:
        self._board = board
        self._claims = claims
        self._heads = {head.id: head for head in heads.values()}
        self._leaving = leaving
        self._whys: dict[tuple[Kind, frozenset[str], str], str] = {}
        self._holders: dict[Kind, str] = {}
        self._ahead: dict[Kind, _Ahead] = {}
        """Of each kind, whoever went before and wants one of the same cards."""
        self._before: list[tuple[Kind, str]] = []

    def why(self, request: Request) -> str:
        if not request.ready:
            return words.FETCHING
        kind = self._board.kind(request.shape)
        kept = frozenset(closed(request, self._claims, self._board.now))
        key = kind, kept, request.id if request.id in self._claims else ""
        if key not in self._whys:
            self._whys[key] = self._why(request, kind, kept)
        return self._whys[key]

    def _why(self, request: Request, kind: Kind, closed_to_it: Collection[str]) -> str:
        board = self._board
        usable = board.usable(request.shape)
        free = [card for card in usable if board.open(card, request.shape)]
        kept = sum(card.id in closed_to_it for card in free)
        text = f"it waits for {words.shape(request.shape, kind.need)}: "
        if len(free) - kept < kind.need <= len(free):
            return text + f"{len(free)} of {len(usable)} free, and kept for {self._keepers(request, kind)}"
        if free:
            return text + f"{len(free)} of {len(usable)} free"
        return text + ("none is free" if len(usable) > 1 else "it is taken")

    def behind(self, request: Request) -> str:
        """The first of those who want the same, or where there are none, who holds what it wants."""
        kind = self._board.kind(request.shape)
        ahead = self._ahead.get(kind)
        if ahead is None:
            ahead = self._ahead[kind] = _Ahead()
            for other, name in self._before:
                if not kind.names.isdisjoint(other.names):
                    ahead.add(name)
        count = len(ahead.names)
        text = f"behind {words.counted(ahead.first, count)}" if count else self._held(request, kind)
        if request.ready:
            name = words.who(request.who)
            self._before.append((kind, name))
            for other, queue in self._ahead.items():
                if not kind.names.isdisjoint(other.names):
                    queue.add(name)
        return text

    def _held(self, request: Request, kind: Kind) -> str:
        if kind not in self._holders:
            board = self._board
            cards = [card for card in board.usable(request.shape) if not board.open(card, request.shape)]
            holders = {one.request.id: one for card in cards for one in board.holders[card.id]}
            told = [
                replace(lease, freeing=True) if lease.request.id in self._leaving else lease
                for lease in holders.values()
            ]
            self._holders[kind] = words.held_by(told)
        return self._holders[kind]

    def _keepers(self, request: Request, kind: Kind) -> str:
        return words.listed(
            [
                words.who(self._heads[one].who)
                for one, kept in self._claims.items()
                if one != request.id and one in self._heads and not kind.names.isdisjoint(kept.cards)
            ]
        )
