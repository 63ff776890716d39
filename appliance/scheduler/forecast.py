"""When those who wait will probably begin: the queue played forward with what things usually take.

It is good for words only. Who goes by others in a gap that opens before their turn begins earlier than is said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf
from types import MappingProxyType

from appliance.scheduler.backfill import GRACE_S, Timeline
from appliance.scheduler.fitting import Board, Kind
from appliance.scheduler.types import Held, Request

OVERRUN = 0.5
"""What has gone on for longer than usual probably goes on for this part of its time so far."""


def forecasts(
    waiting: Sequence[Request],
    board: Board,
    expected: Mapping[str, float],
    leaving: Collection[str],
    claims: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> dict[str, float]:
    """Unix seconds for each of those in order whose turn can be foreseen. `expected`: request -> seconds it takes.

    `claims`: request -> the cards that are kept for it; nobody can tell when who comes behind it has one of these.
    """
    timeline = Timeline(board, usual_ends(board.now, expected, leaving))
    found: dict[str, float] = {}
    never: set[Kind] = set()
    for request in waiting:
        # what is taken meanwhile only makes the next of a kind later
        if not request.ready:
            continue
        kind = board.kind(request.shape)
        at, cards = (inf, ()) if kind in never else timeline.earliest(request.shape)
        if at == inf:
            never.add(kind)
            for card_id in claims.get(request.id, ()):
                timeline.take(card_id, request.shape, inf)
            continue
        found[request.id] = at
        takes = min(expected.get(request.id, inf), inf if request.bound_s is None else request.bound_s)
        for card in cards:
            timeline.take(card.id, request.shape, at + takes)
    return found


def usual_ends(now: float, expected: Mapping[str, float], leaving: Collection[str]) -> Callable[[Held], float]:
    def ends(lease: Held) -> float:
        request = lease.request
        if lease.freeing or request.id in leaving:
            return now + GRACE_S
        bound = inf if request.bound_s is None else max(lease.since + request.bound_s, now + GRACE_S)
        usual = inf
        if request.id in expected:
            usual = lease.since + expected[request.id]
            if usual <= now:
                usual = now + max(GRACE_S, OVERRUN * (now - lease.since))
        return min(bound, usual)

    return ends
