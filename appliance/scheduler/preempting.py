"""Whose work makes way: only work that opted in, only for a higher priority, and only where that is enough."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from appliance.scheduler import words
from appliance.scheduler.fitting import Board, needs
from appliance.scheduler.types import Card, Held, Preempt, Request


def victims(request: Request, board: Board, leaving: Collection[str]) -> tuple[Held, ...]:
    """Few that are enough, of those the least important, then the youngest; none where no number is enough.

    `leaving`: those who were told to go already.
    """
    need = needs(request.shape)
    cards = board.usable(request.shape)
    going = set(leaving) | {lease.request.id for card in cards for lease in board.holders[card.id] if lease.freeing}
    offered = {
        lease.request.id: lease
        for card in cards
        for lease in board.holders[card.id]
        if lease.request.preemptible and lease.request.priority < request.priority and lease.request.id not in going
    }
    if _opened(request, board, cards, going) >= need or _opened(request, board, cards, {*going, *offered}) < need:
        return ()
    told: set[str] = set()
    while (have := _opened(request, board, cards, {*going, *told})) < need:
        told.add(_next(request, board, cards, going | told, offered, need - have))
    # who was told before another made it needless stays
    for one in sorted(told, key=lambda one: offered[one].since):
        if _opened(request, board, cards, {*going, *told} - {one}) >= need:
            told.discard(one)
    return tuple(offered[one] for one in sorted(told))


def preempts(request: Request, told: Sequence[Held]) -> tuple[Preempt, ...]:
    why = f"it makes way for {words.who(request.who)}, which has priority {request.priority} and waits for its GPUs"
    return tuple(Preempt(lease.request.id, request.id, why) for lease in told)


def _opened(request: Request, board: Board, cards: Sequence[Card], gone: Collection[str]) -> int:
    return sum(_left(request, board, card, gone) == 0 for card in cards)


def _left(request: Request, board: Board, card: Card, gone: Collection[str]) -> float:
    """What of a card is still in the way: holders, or for one that shares, bytes."""
    staying = [lease for lease in board.holders[card.id] if lease.request.id not in gone]
    if not request.shape.share:
        return len(staying)
    if any(not lease.request.shape.share for lease in staying):
        return float("inf")
    taken = sum(lease.request.shape.share for lease in staying)
    return max(taken + request.shape.share - board.room(card), 0)


def _next(
    request: Request,
    board: Board,
    cards: Sequence[Card],
    gone: set[str],
    offered: dict[str, Held],
    wanted: int,
) -> str:
    """The one that opens most of the cards still wanted; where none opens one alone, the one on the nearest to open."""
    opened = _opened(request, board, cards, gone)

    def key(one: str) -> tuple[float, float, int, float, str]:
        gain = min(_opened(request, board, cards, gone | {one}) - opened, wanted)
        mine = [card for card in cards if any(lease.request.id == one for lease in board.holders[card.id])]
        # a card on which somebody stays who makes way for nobody is no way forward
        near = min(
            (_left(request, board, card, gone) for card in mine if _left(request, board, card, {*gone, *offered}) == 0),
            default=float("inf"),
        )
        return (-gain, near, offered[one].request.priority, -offered[one].since, one)

    return min((one for one in offered if one not in gone), key=key)
