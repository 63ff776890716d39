"""GPUs that a session has and does not use: told, and taken for who waits where that is set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.notebooks.idle import Course
from appliance.notebooks.idle_gpus import Rule, describe
from tests.unit.notebooks.test_watching import Watched, house

__all__ = ["house"]
pytestmark = pytest.mark.anyio


@pytest.fixture
async def stopping(house: Watched) -> Watched:
    """One that is stopped after 300 s without use of its GPU, told 60 s before."""
    await house.notebooks.close()
    house.settings = replace(house.settings, idle_gpu_after_s=200.0, idle_gpu_stop_s=300.0, idle_warn_s=60.0)
    house.notebooks = house.another()
    return house


def test_only_a_row_of_looks_that_found_nothing_counts() -> None:
    rule = Rule(tell_s=100.0, stop_s=0.0, warn_s=10.0)
    course, said = Course(), {}
    for now in range(0, 500, 10):
        course, shown = describe("nb", course, rule, busy=now == 200, waited="run other", now=float(now), unix=0.0)
        said[now] = shown.reason if shown else ""
        assert not shown or not shown.end, "no time is set after which it ends"
    assert [now for now, reason in said.items() if reason] == [*range(100, 200, 10), *range(310, 500, 10)]
    _, shown = describe("nb", course, rule, busy=False, waited="run other", now=5000.0, unix=0.0)
    assert shown is None, "nobody knows what went on in a gap"


async def test_unused_it_is_told_once_and_not_stopped_while_nobody_waits(stopping: Watched) -> None:
    stopping.leases.busy = False
    await stopping.begin({"gpus": 1})
    await stopping.pass_time(600)
    assert stopping.row.desired == "running"
    assert "its GPU has done nothing since" in stopping.row.message
    assert "`appliance notebook stop nb`" in stopping.row.message
    assert len(stopping.told("GpuUnused")) == 1
    stopping.leases.busy = True
    await stopping.pass_time(20)
    assert stopping.row.message == ""


async def test_it_is_stopped_for_who_waits_after_a_warning_and_with_a_snapshot(stopping: Watched) -> None:
    stopping.leases.busy = False
    await stopping.begin({"gpus": 1})
    await stopping.pass_time(600)
    stopping.waited.add(stopping.row.uid)
    await stopping.pass_time(20)
    assert stopping.row.desired == "running", "it is warned first, however long it has been idle"
    assert len(stopping.told("IdleGpuWarning")) == 1
    assert "it stops at" in stopping.row.message
    (stopping.files / "last.txt").write_text("written just before")
    await stopping.pass_time(90)
    assert (stopping.row.desired, stopping.row.phase) == ("stopped", "Stopped")
    assert stopping.causes == ["start", "idle"]
    (ended,) = stopping.told("IdleGpu")
    assert stopping.row.message == ended.message
    assert "run other waits for one; `appliance notebook start nb`" in ended.message
    assert stopping.leases.left == ("GPU-0",)


@pytest.mark.parametrize("busy", [True, None])
async def test_one_that_works_or_cannot_be_seen_is_left_alone(stopping: Watched, busy: bool | None) -> None:
    stopping.leases.busy = busy
    await stopping.begin({"gpus": 1})
    stopping.waited.add(stopping.row.uid)
    await stopping.pass_time(900)
    assert (stopping.row.desired, stopping.row.message) == ("running", "")


async def test_who_waits_no_more_takes_the_warning_back(stopping: Watched) -> None:
    stopping.leases.busy = False
    await stopping.begin({"gpus": 1})
    stopping.waited.add(stopping.row.uid)
    await stopping.pass_time(290)
    assert "it stops at" in stopping.row.message
    stopping.waited.clear()
    await stopping.pass_time(300)
    assert stopping.row.desired == "running"
    assert "it stops at" not in stopping.row.message
    pages = [body["text"] for path, body in stopping.session.asked if "/appliance/warn" in path]
    assert pages[-1] == ""


async def test_one_without_a_gpu_is_none_of_this(stopping: Watched) -> None:
    stopping.leases.busy = False
    await stopping.begin({})
    stopping.waited.add(stopping.row.uid)
    await stopping.pass_time(900)
    assert (stopping.row.desired, stopping.row.message) == ("running", "")
