"""What holds for every queue: nobody gets what another has, nothing lies idle for nothing, and everybody has a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.scheduler.backfill import Claim, Timeline, closed, hard_ends
from appliance.scheduler.fitting import Board
from appliance.scheduler.order import order
from appliance.scheduler.placement import place
from appliance.scheduler.types import Card, Grant, Held, Policy, Preempt, Request, Who
from appliance.spec.machines import Shape
from tests.support.cluster import GIB, Machine, Work, ask, check_leases, instance, whole

POLICY = Policy()
CARDS = (
    whole("g0", 16, "T4"),
    whole("g1", 24),
    whole("g2", 24),
    whole("g3", None, "odd"),
    instance("m0", "1g.10gb"),
    instance("m1", "1g.10gb"),
    instance("m2", "3g.40gb", gib=40),
)
SHAPES = st.sampled_from(
    [
        Shape(gpus=1),
        Shape(gpus=2),
        Shape(gpus=4),
        Shape(gpus=9),
        Shape(gpus=1, least=20 * GIB),
        Shape(gpus=1, model="t*"),
        Shape(share=6 * GIB),
        Shape(share=15 * GIB),
        Shape(mig="1g.10gb"),
        Shape(gpus=2, mig="1g.10gb"),
        Shape(mig="3g.40gb"),
        Shape(mig="7g.80gb"),
    ]
)
OWNERS = st.sampled_from(["ann", "bob", "cid"])
BOUNDS = st.one_of(st.none(), st.floats(1, 5_000))


class Queue(RuleBasedStateMachine):
    """Requests come, become ready, are given cards, let go and are freed; cards fail and recover."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.cards: dict[str, Card] = {card.id: card for card in CARDS}
        self.held: dict[str, Held] = {}
        self.waiting: dict[str, Request] = {}
        self.leaving: set[str] = set()
        self.used: dict[str, float] = {}

    @initialize(used=st.dictionaries(OWNERS, st.floats(0, 1e6)))
    def begin(self, used: dict[str, float]) -> None:
        self.used = used

    @rule(
        shape=SHAPES,
        owner=OWNERS,
        priority=st.sampled_from([-50, 0, 0, 50]),
        ready=st.booleans(),
        bound=BOUNDS,
        preemptible=st.booleans(),
    )
    def ask(self, shape: Shape, owner: str, priority: int, ready: bool, bound: float | None, preemptible: bool) -> None:
        self.number += 1
        name = f"r{self.number}"
        who = Who("run", name, name, owner=owner)
        self.waiting[name] = Request(name, who, shape, priority, self.now, ready, bound, preemptible)

    @rule(seconds=st.floats(0, 2_000))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def becomes_ready(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting[name] = replace(self.waiting[name], ready=True)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        del self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def lets_go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        if not self.held[name].freeing:
            self.held[name] = replace(self.held[name], freeing=True, let_go=self.now)

    @precondition(lambda self: any(lease.freeing for lease in self.held.values()))
    @rule(data=st.data())
    def is_free(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(one for one, lease in self.held.items() if lease.freeing)))
        del self.held[name]
        self.leaving.discard(name)

    @rule(name=st.sampled_from([card.id for card in CARDS]), state=st.sampled_from(["ok", "ok", "drained", "lost"]))
    def card_changes(self, name: str, state: str) -> None:
        self.cards[name] = replace(self.cards[name], state=state)  # type: ignore[arg-type]

    @rule()
    def give(self) -> None:
        cards, held, requests = list(self.cards.values()), list(self.held.values()), list(self.waiting.values())
        found = place(cards, held, requests, self.used, POLICY, now=self.now, leaving=self.leaving)
        turned = place(cards, held[::-1], requests[::-1], self.used, POLICY, now=self.now, leaving=self.leaving)
        assert found == turned, "the order in which it is told matters"
        assert {one.request for one in found.grants} | {one.request for one in found.waits} == set(self.waiting)
        places = sorted(wait.place for wait in found.waits if wait.place)
        assert places == list(range(1, len(places) + 1))
        self._grants_are_right(found.grants)
        self._makes_way(found.preempts)
        self._works(found.claims)

    def _grants_are_right(self, grants: Sequence[Grant]) -> None:
        for grant in grants:
            request = self.waiting.pop(grant.request)
            assert request.ready
            for name in grant.cards:
                card = self.cards[name]
                assert card.state == "ok"
                assert (card.kind == "mig") == bool(request.shape.mig)
                assert not request.shape.least or (card.memory or 0) >= request.shape.least
            self.held[request.id] = Held(request, grant.cards, self.now)

    def _makes_way(self, preempts: Sequence[Preempt]) -> None:
        for preempt in preempts:
            victim, by = self.held[preempt.request].request, self.waiting[preempt.by]
            assert victim.preemptible
            assert victim.priority < by.priority
            assert preempt.request not in self.leaving
            assert not self.held[preempt.request].freeing
            self.leaving.add(preempt.request)

    def _works(self, claims: Mapping[str, tuple[str, ...]]) -> None:
        """No card that is well and kept for nobody lies idle while somebody who could begin waits for it."""
        board = Board(tuple(self.cards.values()), tuple(self.held.values()), POLICY, self.now)
        kept = {name: Claim(cards, self.now) for name, cards in claims.items()}
        for name in kept:
            assert not board.outside(self.waiting[name].shape), "what cannot be given holds up others"
        for request in self.waiting.values():
            if request.ready:
                assert board.pick(request.shape, closed(request, kept, self.now)) is None

    @invariant()
    def nobody_has_what_another_has(self) -> None:
        check_leases(tuple(self.cards.values()), self.held.values(), POLICY)


Queue.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestQueue = Queue.TestCase


LONGEST = 3_000.0
ASKED = 1_000.0


@pytest.mark.parametrize(("count", "need"), [(2, 2), (3, 3), (3, 2), (4, 3)])
@settings(max_examples=15)
@given(
    sizes=st.lists(st.tuples(st.floats(1, LONGEST), BOUNDS), min_size=5, max_size=25),
    gap=st.floats(200, 600),
)
def test_the_head_begins_within_its_patience_what_holds_then_and_one_window(
    count: int, need: int, sizes: list[tuple[float, float | None]], gap: float
) -> None:
    """Its turn comes when the last of those rightly before it has begun; the law bounds its wait from there.

    Let P be the later of its turn and the end of its patience. Whoever goes by after P is ended by force before a
    window ends: windows end at multiples of the patience since it was asked for. So it begins no later than at the
    first end of a window at which all have ended that began before P or had their turn before it:

        wait <= max(turn - asked, patience) + the longest remainder of those + one window (= patience).

    The turn itself is bounded by the backlog: each card goes to the next of it within the longest that anything runs.
    The bound knows nothing of those that were asked for later, however many come.
    """
    small = []
    for number in range(int(15_000 / gap)):  # more than the machine can do, for as long as the large one waits
        takes, bound = sizes[number % len(sizes)]
        small.append(Work(ask(f"s{number}", asked=number * gap, bound_s=bound), takes))
    cards = tuple(whole(f"g{number}") for number in range(count))
    day = Machine(cards, [*small, Work(ask("large", need, asked=ASKED), 10.0)], place).run(until=15_000)
    before = [one.request.id for one in small if one.request.asked < ASKED]
    turn = max([ASKED, *(day.began[one] for one in before)])
    backlog = sum(day.began[one] > ASKED for one in before)
    assert turn <= ASKED + ceil(backlog / count) * LONGEST
    from_then = max(turn, ASKED + POLICY.patience_s)
    earlier = {name for name, at in day.began.items() if at < from_then}
    settled = max([from_then, *(day.ended[name] for name in earlier.union(before))])
    window = ASKED + ceil((settled - ASKED) / POLICY.patience_s) * POLICY.patience_s
    assert day.began["large"] <= window <= from_then + LONGEST + POLICY.patience_s


def test_that_law_can_fail() -> None:
    """Without patience, small work that has no bound goes by one that asks for many, for ever."""
    small = [Work(ask(f"s{number}", asked=number * 50.0), 150.0) for number in range(400)]
    large = Work(ask("large", 2, asked=1_000.0), 10.0)
    cards = (whole("g0"), whole("g1"))
    never = Machine(cards, [*small, large], place, policy=Policy(patience_s=1e9)).run(until=15_000)
    assert "large" not in never.began


@st.composite
def days(draw: st.DrawFn) -> list[Work]:
    work = []
    for number in range(draw(st.integers(1, 25))):
        request = ask(
            f"r{number}",
            draw(SHAPES),
            asked=draw(st.floats(0, 5_000)),
            priority=draw(st.sampled_from([-50, 0, 50])),
            owner=draw(OWNERS),
            bound_s=draw(BOUNDS),
            preemptible=draw(st.booleans()),
        )
        work.append(Work(request, draw(st.floats(1, 3_000))))
    return work


@settings(max_examples=60)
@given(work=days())
def test_everything_that_can_be_given_has_its_turn(work: list[Work]) -> None:
    board = Board(CARDS, (), POLICY, 0.0)
    day = Machine(CARDS, work, place).run(most=20_000)
    assert set(day.ended) == {one.request.id for one in work if not board.outside(one.request.shape)}


@settings(max_examples=60)
@given(work=days(), used=st.dictionaries(OWNERS, st.floats(0, 1e7)))
def test_of_one_owner_and_priority_who_asked_first_goes_first(work: list[Work], used: dict[str, float]) -> None:
    requests = [replace(one.request, preemptible=False) for one in work]
    found = order(requests, [], used, POLICY, gpus=4)
    for owner in ("ann", "bob", "cid"):
        for priority in (-50, 0, 50):
            asked = [one.asked for one in found if one.who.owner == owner and one.priority == priority]
            assert asked == sorted(asked)


@settings(max_examples=60)
@given(work=days())
def test_what_was_given_leaves_nothing_to_give(work: list[Work]) -> None:
    """Of one owner: between several, each grant changes whose turn is next."""
    requests = [replace(one.request, preemptible=False, who=replace(one.request.who, owner="local")) for one in work]
    first = place(CARDS, [], requests, {}, POLICY, now=5_000.0)
    held = [
        Held(next(one for one in requests if one.id == grant.request), grant.cards, 5_000.0) for grant in first.grants
    ]
    second = place(CARDS, held, requests, {}, POLICY, now=5_000.0)
    assert second.grants == ()
    # who went by on a kept card has it now; the rest is kept still
    taken = {card for lease in held for card in lease.cards}
    for name, kept in first.claims.items():
        assert set(kept) - taken <= set(second.claims[name])
    assert [(wait.request, wait.place) for wait in second.waits] == [(w.request, w.place) for w in first.waits]


@settings(max_examples=100)
@given(
    taken=st.lists(st.tuples(st.sampled_from([100.0, 200.0, 300.0, inf]), st.integers(0, 15)), max_size=6),
    later=st.lists(st.tuples(st.sampled_from([150.0, 200.0, 400.0, inf]), st.integers(0, 15)), max_size=3),
    share=st.integers(0, 15),
)
def test_a_card_opens_when_those_who_stay_leave_enough_of_it(
    taken: list[tuple[float, int]], later: list[tuple[float, int]], share: int
) -> None:
    """A share of 0: it is wanted, or held, alone."""
    card, now = whole("g0", 16), 50.0
    held = [
        Held(ask(f"h{number}", Shape(gpus=1, share=part * GIB), bound_s=end), ("g0",), 0.0)
        for number, (end, part) in enumerate(taken)
    ]
    board = Board((card,), held, POLICY, now)
    line = Timeline(board, hard_ends(now, ()))
    for end, part in later:
        line.take("g0", Shape(gpus=1, share=part * GIB), end)

    def fits(at: float) -> bool:
        staying = [part for end, part in (*taken, *later) if end > at]
        if not share:
            return not staying
        return all(staying) and sum(staying) * GIB + share * GIB <= board.room(card)

    shape = Shape(gpus=1, share=share * GIB)
    assert line.opens(card, shape) == next(at for at in (now, 100.0, 150.0, 200.0, 300.0, 400.0, inf) if fits(at))
