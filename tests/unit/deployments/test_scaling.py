"""The autoscaler's arithmetic, and its laws over simulated loads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments.load import share
from appliance.deployments.scaling import (
    RISE_S,
    SETTLE_S,
    Bounds,
    Course,
    Opinion,
    Reading,
    decide,
    form_opinion,
)
from appliance.spec.catalogue import Machine
from appliance.spec.machines import Shape
from appliance.spec.models import Metric

CPU = Metric(kind="cpu", value=50)
MEMORY = Metric(kind="memory", value=80)
WIDE = Bounds(1, 100)
PERIOD_S = 15.0


def ask(value: float | None, *, count: int, ready: int | None = None, seen: int | None = None) -> Opinion | None:
    ready = count if ready is None else ready
    return form_opinion([Reading(CPU, value, ready if seen is None else seen)], count=count, ready=ready)


def number(opinion: Opinion | None) -> int | None:
    return opinion.replicas if opinion else None


@pytest.mark.parametrize(
    ("value", "count", "wanted"),
    [(100, 2, 4), (50, 3, 3), (54.9, 3, 3), (45.1, 3, 3), (56, 3, 4), (25, 4, 2), (0, 4, 1), (76, 2, 4)],
)
def test_as_many_as_the_load_asks_for(value: float, count: int, wanted: int) -> None:
    assert number(ask(value, count=count)) == wanted


def test_those_on_their_way_are_not_counted_twice() -> None:
    assert number(ask(100, count=4, ready=2)) == 4
    assert number(ask(250, count=4, ready=2)) == 10


def test_one_that_is_not_observed_yet_neither_raises_nor_lowers() -> None:
    assert number(ask(100, count=3, seen=1)) == 3
    assert number(ask(5, count=3, seen=2)) == 3


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -1.0])
def test_what_is_not_observed_is_no_opinion(value: float | None) -> None:
    assert ask(value, count=3) is None


def test_nobody_ready_is_no_opinion() -> None:
    assert ask(100, count=3, ready=0) is None


def test_the_largest_counts_and_a_missing_one_lowers_nothing() -> None:
    low, high = Reading(CPU, 5, 4), Reading(MEMORY, 160, 4)
    assert number(form_opinion([low, high], count=4, ready=4)) == 8
    missing = Reading(MEMORY, None, 0)
    assert form_opinion([low, missing], count=4, ready=4) is None
    assert number(form_opinion([Reading(CPU, 100, 4), missing], count=4, ready=4)) == 8


def test_the_words() -> None:
    opinion = form_opinion([Reading(Metric(kind="requestDuration", value=0.5), 2.123, 1)], count=1, ready=1)
    assert opinion == Opinion(5, "requests take 2.12 s on average, 0.5 s are aimed at")
    _, chosen = decide(Course(), Opinion(12, "busy"), count=1, bounds=Bounds(1, 8), now=0)
    assert chosen == Opinion(5, "busy; 12 would be needed, maxReplicas is 8; 8 are coming step by step")
    _, chosen = decide(Course(), Opinion(1, "idle"), count=3, bounds=WIDE, now=0)
    assert chosen == Opinion(3, "idle; 1 would do; fewer come after 5 minutes of that")


def test_up_by_four_or_twice_as_many_in_fifteen_seconds() -> None:
    course, count, seen = Course(), 1, []
    for step in range(5):
        course, chosen = decide(course, Opinion(90, ""), count=count, bounds=WIDE, now=step * PERIOD_S)
        count = chosen.replicas
        seen.append(count)
    assert seen == [5, 10, 20, 40, 80]


def test_looking_more_often_does_not_raise_faster() -> None:
    course, count = Course(), 1
    for second in range(int(RISE_S)):
        course, chosen = decide(course, Opinion(90, ""), count=count, bounds=WIDE, now=second)
        count = chosen.replicas
    assert count == 5


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(-5, 200)), st.floats(0.0, 400.0)), min_size=1, max_size=80),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_laws(opinions: list[tuple[int | None, float]], least: int, most: int, count: int) -> None:
    """Within bounds; nothing known changes nothing; never fewer than anybody asked for in the last five minutes."""
    bounds, course, now = Bounds(least, most), Course(), 1000.0
    count = bounds.clamp(count)
    before = [(now, count)]
    for asked, passed in opinions:
        now += passed
        opinion = None if asked is None else Opinion(asked, "")
        course, chosen = decide(course, opinion, count=count, bounds=bounds, now=now)
        assert bounds.clamp(chosen.replicas) == chosen.replicas
        if asked is None:
            assert chosen.replicas == count
        if chosen.replicas < count:
            lately = [number for at, number in before if at >= now - SETTLE_S]
            assert lately
            assert chosen.replicas >= max(lately)
        before.append((now, bounds.clamp(count if asked is None else asked)))
        count = chosen.replicas
        assert all(at >= now - SETTLE_S for at, _ in course.asked)


@given(st.floats(1, 4000), st.floats(10, 90), st.integers(1, 30), st.integers(0, 30))
def test_constant_load_never_flaps(load: float, aim: float, least: int, more: int) -> None:
    """Percent of one processor over all replicas, evenly shared. What has moved once never turns round."""
    bounds, course, count, now = Bounds(least, least + more), Course(), least, 0.0
    moves = []
    for _ in range(60):
        reading = Reading(Metric(kind="cpu", value=aim), load / count, count)
        opinion = form_opinion([reading], count=count, ready=count)
        course, chosen = decide(course, opinion, count=count, bounds=bounds, now=now)
        if chosen.replicas != count:
            moves.append(chosen.replicas - count)
        count, now = chosen.replicas, now + PERIOD_S
    assert all(move > 0 for move in moves)
    assert count == bounds.most or load / count <= aim * 1.1 + 1e-6


@given(st.integers(1, 8), st.integers(9, 10))
def test_up_within_two_periods_and_down_after_five_minutes(low: int, high: int) -> None:
    course, count, now = Course(), low, 0.0
    for _ in range(2):
        course, chosen = decide(course, Opinion(high, ""), count=count, bounds=WIDE, now=now)
        count, now = chosen.replicas, now + PERIOD_S
    assert count == high
    quiet = now
    while count == high:
        course, chosen = decide(course, Opinion(low, ""), count=count, bounds=WIDE, now=now)
        count, now = chosen.replicas, now + PERIOD_S
    assert count == low
    assert SETTLE_S - PERIOD_S <= now - quiet <= SETTLE_S + 2 * PERIOD_S


def test_after_a_long_gap_nothing_is_taken_for_five_minutes_of_quiet() -> None:
    course, _ = decide(Course(), Opinion(5, ""), count=5, bounds=WIDE, now=0)
    _, chosen = decide(course, Opinion(1, ""), count=5, bounds=WIDE, now=10 * SETTLE_S)
    assert chosen.replicas == 5


def test_what_100_percent_of_a_replica_are() -> None:
    host = Machine(16, 64 * 10**9, 1)
    assert share("C4", host, {}) == Machine(2, 4 * 10**9)
    assert share("H100", host, {}) == Machine(16, 64 * 10**9)
    assert share("ours", host, {}) == share("Free-GPU", host, {}) == share("", host, {}) == Machine(16, 64 * 10**9)
    machines = {"ours": Shape(cpus=4), "C4": Shape(cpus=1, memory=10**9), "huge": Shape(cpus=64, memory=10**12)}
    assert share("ours", host, machines) == Machine(4, 64 * 10**9)
    assert share("oursx2", host, machines) == Machine(8, 64 * 10**9)
    assert share("C4", host, machines) == Machine(1, 10**9)
    assert share("huge", host, machines) == Machine(16, 64 * 10**9)
