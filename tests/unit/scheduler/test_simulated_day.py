"""A small simulated day, as the bench of GPUs has it: everything has its turn with every scheduler, and the figures are
those of what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.scheduler.types import Placement
from tests.bench.bench_gpus import SCHEDULERS, bring, measure, row, simulate
from tests.support.cluster import Day, Machine, Work, ask, whole
from tests.support.queues import Conservative, Easy, Fifo, by_age

COUNT = 80


@pytest.mark.parametrize("name", SCHEDULERS)
def test_everything_has_its_turn(name: str) -> None:
    brought = bring(3, 0.95, count=COUNT)
    day = simulate(brought, SCHEDULERS[name], every_s=300.0)
    of = measure([(brought, day)])
    assert len(of.waits) == COUNT
    assert min(of.waits) >= 0
    assert max(of.waits) > 1, "nobody waited: it says nothing"
    assert 0 < of.utilisation <= 1
    assert 0 < of.jain <= 1
    assert of.preempted == 0 or name.startswith("place")
    held = sum((until - since) * len(cards) for since, until, cards in day.spans)
    given = {one: cards for _, one, cards in day.granted}
    worked = sum(one.takes * len(given[one.request.id]) for one in brought.work)
    assert held == pytest.approx(worked + day.lost_s)
    assert row(name, of).startswith(name)


def test_the_same_seed_brings_the_same_day() -> None:
    assert bring(3, 0.95, count=COUNT) == bring(3, 0.95, count=COUNT)
    assert bring(3, 0.95, count=COUNT) != bring(4, 0.95, count=COUNT)


def test_the_load_is_what_it_is_said_to_be() -> None:
    brought = bring(3, 0.75)
    asked = sum(one.takes * one.request.shape.gpus for one in brought.work if not one.request.shape.mig)
    assert asked == pytest.approx(0.75 * 8 * 86_400)


def test_one_that_is_never_given_a_turn_is_found() -> None:
    brought = bring(3, 0.95, count=COUNT)
    with pytest.raises(AssertionError, match="never had a turn"):
        simulate(replace(brought, work=brought.work[:3]), lambda *_, **__: Placement(), every_s=86_400.0)


def _day(scheduler: object) -> Day:
    """Two cards: one is taken for 1,000 s; then come one that wants both, a short one and a long one, with limits."""
    work = [
        Work(ask("holds", asked=0.0, bound_s=1_000.0), 1_000.0),
        Work(ask("both", 2, asked=10.0, bound_s=500.0), 500.0),
        Work(ask("short", asked=20.0, bound_s=900.0), 900.0),
        Work(ask("long", asked=30.0, bound_s=5_000.0), 5_000.0),
    ]
    return Machine((whole("g0"), whole("g1")), work, scheduler).run()  # type: ignore[arg-type]


def test_with_fifo_nobody_goes_by() -> None:
    began = _day(Fifo(by_age)).began
    assert began == {"holds": 0.0, "both": 1_000.0, "short": 1_500.0, "long": 1_500.0}


@pytest.mark.parametrize("peer", [Easy, Conservative])
def test_with_the_peers_the_short_one_goes_by_and_the_long_one_does_not(peer: type[Easy | Conservative]) -> None:
    began = _day(peer(by_age)).began
    assert began["short"] == 20.0
    assert began["both"] == 1_000.0
    assert began["long"] == 1_500.0
