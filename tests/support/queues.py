"""What other schedulers would do with the same cards and requests: the peers of `place` in a simulated day.

All are told the limits that users give, and nothing else of how long something takes; who gives none is planned with
for LIMIT_S, which ends nobody. None of them preempts. Requests that want quite different cards do not wait for each
other: each kind of card is a queue of its own, as partitions are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from appliance.scheduler.backfill import GRACE_S, Timeline
from appliance.scheduler.fitting import Board
from appliance.scheduler.order import order
from appliance.scheduler.types import Card, Grant, Held, Placement, Policy, Request

LIMIT_S = 86_400.0
Queue = Callable[[Sequence[Request], Sequence[Held], Mapping[str, float], Policy, int], list[Request]]


def _limit(request: Request) -> float:
    return LIMIT_S if request.bound_s is None else request.bound_s


def by_age(requests: Sequence[Request], *_: object) -> list[Request]:
    return sorted(requests, key=lambda one: (one.asked, one.id))


def by_weight(
    requests: Sequence[Request], held: Sequence[Held], used: Mapping[str, float], policy: Policy, gpus: int
) -> list[Request]:
    """Priority, fair share and age together, as Slurm's multifactor plugin has it; in our own measure of them."""
    return order(requests, held, used, policy, gpus=gpus)


class _Peer:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def __call__(
        self,
        cards: Sequence[Card],
        held: Sequence[Held],
        requests: Sequence[Request],
        used: Mapping[str, float],
        policy: Policy,
        *,
        now: float,
        **_: object,
    ) -> Placement:
        board = Board(cards, held, policy, now)
        queue = self._queue(requests, held, used, policy, len({card.parent for card in cards}))
        return Placement(tuple(self._pass(board, queue)))

    def _pass(self, board: Board, queue: Sequence[Request]) -> list[Grant]:
        raise NotImplementedError

    @staticmethod
    def _give(board: Board, request: Request, cards: tuple[str, ...]) -> Grant:
        board.put(Held(request, cards, board.now))
        return Grant(request.id, cards)


class Fifo(_Peer):
    """Nobody goes by the first."""

    def _pass(self, board: Board, queue: Sequence[Request]) -> list[Grant]:
        grants: list[Grant] = []
        stopped: set[str] = set()
        for request in queue:
            names = board.kind(request.shape).names
            given = None if not stopped.isdisjoint(names) else board.pick(request.shape)
            if given is None:
                stopped |= names
            else:
                grants.append(self._give(board, request, given))
        return grants


def _ends(board: Board) -> Callable[[Held], float]:
    def ends(lease: Held) -> float:
        return max(lease.since + _limit(lease.request), board.now + GRACE_S)

    return ends


class Easy(_Peer):
    """The first that does not fit has a reservation by the limits; others go by where it begins no later for that."""

    def _pass(self, board: Board, queue: Sequence[Request]) -> list[Grant]:
        grants: list[Grant] = []
        kept: list[tuple[float, frozenset[str], frozenset[str]]] = []
        for request in queue:
            late = board.now + _limit(request)
            without = {card for at, reserved, _ in kept if late > at for card in reserved}
            given = board.pick(request.shape, without)
            if given is not None:
                grants.append(self._give(board, request, given))
                continue
            names = board.kind(request.shape).names
            if all(names.isdisjoint(theirs) for _, _, theirs in kept):
                at, cards = Timeline(board, _ends(board)).earliest(request.shape)
                kept.append((at, frozenset(card.id for card in cards), names))
        return grants


class Conservative(_Peer):
    """Everybody who waits has a reservation, at most DEPTH of them; who goes by delays none."""

    DEPTH = 30

    def _pass(self, board: Board, queue: Sequence[Request]) -> list[Grant]:
        grants: list[Grant] = []
        ends = _ends(board)
        busy = {card.id: sorted((board.now, ends(lease)) for lease in board.holders[card.id]) for card in board.cards}
        for request in queue[: self.DEPTH]:
            at, cards = self._find(board, request, busy)
            for card in cards:
                busy[card].append((at, at + _limit(request)))
            if at <= board.now:
                grants.append(self._give(board, request, cards))
        return grants

    @staticmethod
    def _find(
        board: Board, request: Request, busy: Mapping[str, Sequence[tuple[float, float]]]
    ) -> tuple[float, tuple[str, ...]]:
        kind, takes = board.kind(request.shape), _limit(request)
        names = [card.id for card in kind.like]
        for at in sorted({board.now, *(end for name in names for _, end in busy[name])}):
            open_then = [name for name in names if all(end <= at or begin >= at + takes for begin, end in busy[name])]
            if len(open_then) >= kind.need:
                return at, tuple(open_then[: kind.need])
        raise AssertionError("after everybody there is room")
