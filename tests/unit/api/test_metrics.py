"""`/v1/metrics`: what is asked reaches the store, what comes back is told whole, and each new point is told once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api import metrics
from appliance.telemetry.metrics.types import MetricQuery, Point, Sample, Series, Subject
from appliance.telemetry.telemetry import Telemetry
from tests.conftest import Clock
from tests.unit.api.test_api import House, house, is_problem

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio

RUN = Subject("run", "fit.3", "train", "c1")
LOSS = Series(RUN, "loss", (("phase", "eval"),), (Point(1.0, 0.5, 10), Point(2.0, 0.25, 20, 0.2, 0.3)))


class Still:
    """A store that holds `found` and remembers what it was asked."""

    def __init__(self, *found: Series) -> None:
        self.found = list(found)
        self.asked: list[MetricQuery] = []
        self.looked = asyncio.Event()
        """Asked a third time: who follows has taken the listing."""

    async def metrics(self, query: MetricQuery) -> list[Series]:
        self.asked.append(query)
        if len(self.asked) == 3:
            self.looked.set()
        within = [
            replace(one, points=tuple(point for point in one.points if point.at >= query.since)[-query.limit :])
            for one in self.found
        ]
        return [one for one in within if one.points]

    async def metric_names(self, query: MetricQuery) -> list[tuple[Subject, str]]:
        self.asked.append(query)
        return [(one.subject, one.metric) for one in self.found]


@pytest.fixture
def still(house: House) -> Still:
    made = Still(LOSS)
    house.parts.telemetry = cast(Telemetry, made)
    return made


async def test_the_query_reaches_the_store(house: House, still: Still) -> None:
    path = "/v1/metrics?kind=run&name=fit.3&part=train&metric=loss&since=1.5&until=9&every=0.5&limit=7"
    assert (await house.trusted.get(path)).status_code == 200
    assert still.asked == [MetricQuery("run", "fit.3", "train", "loss", 1.5, 9.0, 0.5, 8)]


async def test_a_series_is_told_with_what_is_known_of_each_point(house: House, still: Still) -> None:
    answer = await house.trusted.get("/v1/metrics")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "items": [
            {
                "kind": "run",
                "name": "fit.3",
                "part": "train",
                "container": "c1",
                "metric": "loss",
                "labels": {"phase": "eval"},
                "points": [
                    {"at": 1.0, "value": 0.5, "step": 10},
                    {"at": 2.0, "value": 0.25, "step": 20, "least": 0.2, "most": 0.3},
                ],
                "cut": False,
            }
        ]
    }


@pytest.mark.parametrize(("limit", "told", "cut"), [(1, [2.0], True), (2, [1.0, 2.0], False), (3, [1.0, 2.0], False)])
async def test_a_limit_keeps_the_newest_and_says_that_there_is_more(
    house: House, still: Still, limit: int, told: list[float], cut: bool
) -> None:
    (series,) = (await house.trusted.get("/v1/metrics", params={"limit": limit})).json()["items"]
    assert [point["at"] for point in series["points"]] == told
    assert series["cut"] is cut


async def test_names_are_told_without_points(house: House, still: Still) -> None:
    answer = (await house.trusted.get("/v1/metrics/names?kind=run")).json()
    assert answer == {"items": [{"kind": "run", "name": "fit.3", "part": "train", "container": "c1", "metric": "loss"}]}
    assert still.asked[0].kind == "run"


@pytest.mark.parametrize(
    "query", ["since=x", "since=-1", "until=nan", "every=-1", "limit=1.5", "since=5&until=5", "follow=1&every=5"]
)
async def test_a_question_without_sense_is_a_usage_problem(house: House, still: Still, query: str) -> None:
    is_problem(await house.trusted.get(f"/v1/metrics?{query}"), 400, "usage")
    assert still.asked == []


async def test_a_listing_holds_what_the_real_store_was_given(house: House, tmp_path: Path, clock: Clock) -> None:
    telemetry = Telemetry(tmp_path / "metrics.duckdb", flush_s=0.05, memory_mb=256, clock=clock)
    await telemetry.start()
    try:
        at = clock() - 5
        await telemetry.record([Sample(RUN, "loss", 1 / step, at + step, step) for step in (1, 2, 4)])
        house.parts.telemetry = telemetry
        (series,) = (await house.trusted.get("/v1/metrics?kind=run&name=fit.3")).json()["items"]
        assert [(point["step"], point["value"]) for point in series["points"]] == [(1, 1.0), (2, 0.5), (4, 0.25)]
        (name,) = (await house.trusted.get("/v1/metrics/names")).json()["items"]
        assert (name["name"], name["metric"]) == ("fit.3", "loss")
        is_problem(await house.trusted.get("/v1/metrics?every=0.0001"), 400, "usage")
    finally:
        await telemetry.stop()


async def take(batches: AsyncIterator[list[Any]]) -> list[dict[str, Any]]:
    """The next batch; a listing and a look are at most two."""
    async with asyncio.timeout(60):
        return await anext(batches)


def told(batch: list[dict[str, Any]]) -> list[float]:
    return [point["at"] for series in batch for point in series["points"]]


async def test_following_begins_with_the_listing_and_tells_each_point_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FOLLOW_POLL_S", 0.001)
    clock = Clock(1000.0)
    still = Still(replace(LOSS, points=tuple(Point(at, at) for at in (1.0, 988.0, 990.0, 999.0))))
    async with aclosing(cast(Any, metrics.follow(still.metrics, MetricQuery(limit=1), clock))) as batches:
        first = await take(batches)
        assert (told(first), first[0]["cut"]) == ([999.0], True)
        still.found = [replace(LOSS, points=(*still.found[0].points, Point(998.0, 7.0), Point(1001.0, 8.0)))]
        assert told(await take(batches)) == [998.0, 1001.0]
        clock.now = 1002.0
        still.found.append(replace(LOSS, metric="accuracy", points=(Point(1001.0, 8.0),)))
        (other,) = await take(batches)
        assert (other["metric"], told([other])) == ("accuracy", [1001.0])


async def test_a_reader_that_stalls_misses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "FOLLOW_POLL_S", 0.001)
    clock = Clock(1000.0)
    still = Still(replace(LOSS, points=(Point(999.0, 1.0),)))
    async with aclosing(cast(Any, metrics.follow(still.metrics, MetricQuery(limit=10), clock))) as batches:
        assert told(await take(batches)) == [999.0]
        clock.now = 5000.0
        still.found = [replace(LOSS, points=tuple(Point(at, 1.0) for at in (999.0, 1003.0, 4000.0, 4999.0)))]
        assert told(await take(batches)) == [1003.0, 4000.0, 4999.0]


async def test_a_stream_tells_points_as_events_and_ends_with_the_daemon(
    house: House, still: Still, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "FOLLOW_POLL_S", 0.001)

    async def read() -> str:
        return (await house.trusted.get("/v1/metrics?follow=1")).text

    reading = asyncio.create_task(read())
    async with asyncio.timeout(60):
        await still.looked.wait()
        house.parts.stopping.set()
        text = await reading
    (line,) = [line for line in text.splitlines() if line.startswith("data:")]
    assert json.loads(line[5:])["metric"] == "loss"


@given(st.lists(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=8), max_size=8))
def test_whatever_overlaps_every_point_is_told_exactly_once(looks: list[list[tuple[int, int]]]) -> None:
    seen = metrics.Seen()
    out: list[Point] = []
    for look in looks:
        points = tuple(dict.fromkeys(Point(float(at), float(value)) for at, value in look))
        for series in seen.fresh([replace(LOSS, points=points)] if points else []):
            out += series.points
    assert len(out) == len(set(out))
    assert set(out) == {Point(float(at), float(value)) for look in looks for at, value in look}


def test_what_is_not_asked_for_again_is_forgotten() -> None:
    seen = metrics.Seen()
    seen.fresh([LOSS])
    seen.forget(before=2.0)
    assert [point.at for told in seen.points.values() for point in told] == [2.0]
    seen.forget(before=3.0)
    assert not seen.points


async def test_what_the_store_cut_for_its_own_limit_is_told_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MOST_POINTS", 4)
    both = Still(LOSS, replace(LOSS, metric="accuracy", points=LOSS.points[:1]))
    house.parts.telemetry = cast(Telemetry, both)
    found = (await house.trusted.get("/v1/metrics")).json()["items"]
    assert [(one["metric"], len(one["points"]), one["cut"]) for one in found] == [
        ("loss", 2, True),
        ("accuracy", 1, False),
    ]
