"""What is kept for the head of the queue, and what may use it meanwhile without making the head wait longer.

Only ends that are brought about by force count here. What things usually take is good for words, not for promises.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from appliance.scheduler.fitting import Board, needs
from appliance.scheduler.types import Card, Held, Request
from appliance.spec.machines import Shape

GRACE_S = 60.0
"""Within so long, what was told to go is taken to be gone; also what has overrun its bound."""


@dataclass(frozen=True, slots=True)
class Claim:
    cards: tuple[str, ...]
    until: float
    """Who is surely gone by then may have one of them."""


class Timeline:
    """When each card comes free, by one opinion of when its holders end."""

    def __init__(self, board: Board, ends: Callable[[Held], float]) -> None:
        self._board = board
        self._taken: dict[str, list[tuple[float, float]]] = {
            card: sorted((ends(lease), lease.request.shape.share or inf) for lease in holders)
            for card, holders in board.holders.items()
        }

    def opens(self, card: Card, shape: Shape) -> float:
        """When one of that shape has its part of the card; infinite: nobody knows."""
        board, taken = self._board, self._taken[card.id]
        if not shape.share:
            return taken[-1][0] if taken else board.now
        room: float = board.room(card) - shape.share
        if room < 0:
            return inf
        for end, amount in reversed(taken):
            room -= amount
            if room < 0:
                return max(end, board.now)
        return board.now

    def take(self, card: str, shape: Shape, until: float) -> None:
        insort(self._taken[card], (until, shape.share or inf))

    def earliest(self, shape: Shape) -> tuple[float, list[Card]]:
        """When enough cards are open together, and which to keep: the last to open, so that the others can be used."""
        need = self._board.kind(shape).need
        opening = sorted(
            (self.opens(card, shape), self._board.position[card.id], card) for card in self._board.usable(shape)
        )
        if len(opening) < need:
            return inf, []
        at = opening[need - 1][0] if need else self._board.now
        by_then = [card for opens, _, card in opening if opens <= at]
        return at, by_then[len(by_then) - need :]


def hard_ends(now: float, leaving: Collection[str]) -> Callable[[Held], float]:
    """When a lease ends by force; infinite where nothing ends it."""

    def ends(lease: Held) -> float:
        if lease.freeing or lease.request.id in leaving:
            return now + GRACE_S
        bound = lease.request.bound_s
        if bound is None:
            return inf
        return lease.since + bound if lease.since + bound > now else now + GRACE_S

    return ends


def claim(request: Request, board: Board, leaving: Collection[str]) -> Claim | None:
    """What is kept for the first that does not fit.

    Where the bounds of the holders tell when it fits, the cards it gets then. Once its patience is over, also whatever
    comes free, until it is enough: without bounds nothing else would ever end the waiting of one that asks for many.
    """
    at, kept = Timeline(board, hard_ends(board.now, leaving)).earliest(request.shape)
    waited, patience = board.now - request.asked, board.policy.patience_s
    if at <= board.now + GRACE_S:
        # nearly there, and by a guess where something is late: whoever went by now could make it later again and again
        return Claim(_named(kept, board), board.now)
    if waited < patience:
        return Claim(_named(kept, board), at) if at < inf else None
    near = _near(request.shape, board)
    cards = _named([*near, *(kept if at < inf else ())], board)
    # windows are the same for everybody who goes by: at their end all of the claimed cards are free together
    window = request.asked + ceil(waited / patience) * patience if patience > 0 else board.now
    return Claim(cards, min(at, window))


def _named(cards: Sequence[Card], board: Board) -> tuple[str, ...]:
    return tuple(sorted({card.id for card in cards}, key=board.position.__getitem__))


def _near(shape: Shape, board: Board) -> Sequence[Card]:
    """The open ones, and as many of those that are only shared as are still wanted, the emptiest first."""
    usable = board.usable(shape)
    mine = [card for card in usable if board.open(card, shape)]
    shared = [card for card in usable if card not in mine and board.promised(card) < inf]
    shared.sort(key=lambda card: (board.promised(card), board.position[card.id]))
    return mine + shared[: max(needs(shape) - len(mine), 0)]


def closed(request: Request, claims: Mapping[str, Claim], now: float) -> set[str]:
    """The cards that others' claims keep from a request."""
    return {
        card
        for owner, kept in claims.items()
        if owner != request.id and (request.bound_s is None or now + request.bound_s > kept.until)
        for card in kept.cards
    }
