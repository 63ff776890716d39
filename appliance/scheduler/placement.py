"""Who gets which cards now. A pure function: the same cards, leases and requests always give the same answer.

One pass in order. What fits is given. The first that does not fit is the head: cards are kept for it, and others go by
on what is left, or where force ends them in time. Requests that want quite different cards have a head each. What this
machine cannot give, or not as its cards are now, stands in no queue and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from appliance.scheduler.backfill import Claim, claim, closed
from appliance.scheduler.fitting import Board
from appliance.scheduler.forecast import forecasts
from appliance.scheduler.order import order
from appliance.scheduler.preempting import preempts, victims
from appliance.scheduler.reasons import Reasons
from appliance.scheduler.types import Card, Grant, Held, Placement, Policy, Preempt, Request, Wait


def place(
    cards: Sequence[Card],
    held: Sequence[Held],
    requests: Sequence[Request],
    used: Mapping[str, float],
    policy: Policy,
    *,
    now: float,
    expected: Mapping[str, float] = {},
    leaving: Collection[str] = (),
) -> Placement:
    """`used`: owner -> GPU-seconds, old ones counting less; `expected`: request -> seconds that such a thing usually
    takes, also for those who hold; `leaving`: those who were told to make way and have not let go yet."""
    board = Board(cards, held, policy, now)
    holding = {lease.request.id for lease in held}
    asked = {request.id: request for request in requests if request.id not in holding}
    never = {kind: board.outside(kind.shape) for kind in dict.fromkeys(board.kind(one.shape) for one in asked.values())}
    outside = {one.id: why for one in asked.values() if (why := never[board.kind(one.shape)])}
    within = [request for request in asked.values() if request.id not in outside]
    queue = order(within, held, used, policy, gpus=len({card.parent for card in board.cards}))
    one = _Pass(board, leaving)
    for request in queue:
        one.consider(request)
    waiting = [request for request in queue if request.id not in one.grants]
    preempted = (preempt.request for preempt in one.preempts)
    kept = {request: claim.cards for request, claim in one.claims.items()}
    begin = forecasts(waiting, board, expected, {*leaving, *preempted}, kept)
    reasons = Reasons(board, one.claims, one.heads, one.leaving)
    waits = [
        Wait(request.id, number, reasons.why(request), reasons.behind(request), begin.get(request.id))
        for number, request in enumerate(waiting, 1)
    ]
    return Placement(
        tuple(Grant(request, given) for request, given in one.grants.items()),
        tuple(one.preempts),
        (*waits, *(Wait(request, 0, why) for request, why in sorted(outside.items()))),
        kept,
    )


class _Pass:
    def __init__(self, board: Board, leaving: Collection[str]) -> None:
        self.board = board
        self.leaving = set(leaving)
        self.grants: dict[str, tuple[str, ...]] = {}
        self.claims: dict[str, Claim] = {}
        self.preempts: list[Preempt] = []
        self.heads: dict[str, Request] = {}
        """Card -> the head of those who want it."""

    def consider(self, request: Request) -> None:
        if not request.ready:
            return
        board = self.board
        given = board.pick(request.shape, closed(request, self.claims, board.now))
        if given is not None:
            self.grants[request.id] = given
            board.put(Held(request, given, board.now))
            return
        like = board.kind(request.shape).names
        if not self.heads.keys().isdisjoint(like):
            return
        self.heads |= dict.fromkeys(like, request)
        if board.now - request.asked >= board.policy.preempt_after_s:
            told = preempts(request, victims(request, board, self.leaving))
            self.preempts += told
            self.leaving |= {preempt.request for preempt in told}
        kept = claim(request, board, self.leaving)
        if kept is not None:
            self.claims[request.id] = kept
