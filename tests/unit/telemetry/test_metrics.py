"""Metrics through telemetry's door: stored, asked for, kept up."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import duckdb
import pytest

from appliance.errors import TelemetryError, UsageError
from appliance.telemetry.database import SERIES
from appliance.telemetry.metrics import query as metric_query
from appliance.telemetry.metrics import upkeep
from appliance.telemetry.metrics.types import MetricQuery, Point, Sample, Subject
from appliance.telemetry.telemetry import Telemetry

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86_400.0
RUN = Subject("run", "train.1", "fit", "c1")
OTHER = Subject("run", "train.2", "fit", "c2")

Opener = Callable[[], AbstractAsyncContextManager[Telemetry]]


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opener:
    @asynccontextmanager
    async def open_it() -> AsyncIterator[Telemetry]:
        telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.02, memory_mb=128, clock=clock)
        await telemetry.start()
        try:
            yield telemetry
        finally:
            await telemetry.stop()

    return open_it


def curve(subject: Subject = RUN, *, begin: float = NOW - 100, count: int = 100) -> list[Sample]:
    return [Sample(subject, "loss", float(number), begin + number, number) for number in range(count)]


async def stored_series(telemetry: Telemetry) -> list[str]:
    """Whose the rows of series are: one series may have more than one."""

    def names(connection: duckdb.DuckDBPyConnection) -> list[str]:
        return [row[0] for row in connection.execute(f"SELECT name FROM {SERIES} ORDER BY name").fetchall()]

    return await telemetry._read(names, 60)


async def test_what_was_recorded_is_there(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record([*curve(), *curve(OTHER), Sample(RUN, "lr", 0.1, NOW, None, (("group", "a"),))])
        found = await telemetry.metrics(MetricQuery(kind="run", name="train.1"))
        assert [(one.subject, one.metric, one.labels, len(one.points)) for one in found] == [
            (RUN, "loss", (), 100),
            (RUN, "lr", (("group", "a"),), 1),
        ]
        assert found[0].points[0] == Point(NOW - 100, 0.0, 0)
        assert [point.step for point in found[0].points] == list(range(100))
        names = await telemetry.metric_names(MetricQuery())
        assert names == [(RUN, "loss"), (RUN, "lr"), (OTHER, "loss")]
    async with opened() as telemetry:
        assert len(await telemetry.metrics(MetricQuery(metric="loss"))) == 2
        await telemetry.record([Sample(RUN, "loss", 5.0, NOW)])
        # each keeps its number over a restart
        assert await stored_series(telemetry) == ["train.1", "train.1", "train.2"]


async def test_what_is_measured_comes_within_the_flush(opened: Opener) -> None:
    async with opened() as telemetry:
        telemetry.measured([Sample(RUN, "loss", 1.0, NOW), Sample(RUN, "loss", math.nan, NOW)])
        with anyio.fail_after(30):
            while not await telemetry.metrics(MetricQuery()):  # noqa: ASYNC110 -- nobody tells
                await anyio.sleep(0.01)
        assert ["NaN" in warning for warning in telemetry.warnings] == [True]
    with pytest.raises(TelemetryError):
        await telemetry.record([Sample(RUN, "loss", 1.0, NOW)])
    telemetry.measured([Sample(RUN, "loss", 1.0, NOW)])


async def test_nothing_to_store_is_stored_at_once(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record([])
        await telemetry.record([Sample(RUN, "loss", math.inf, NOW)])
        assert await telemetry.metrics(MetricQuery()) == []


async def test_times_limits_and_buckets(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record(reversed(curve()))
        newest = (await telemetry.metrics(MetricQuery(limit=3)))[0].points
        assert [point.value for point in newest] == [97.0, 98.0, 99.0]
        between = (await telemetry.metrics(MetricQuery(since=NOW - 50, until=NOW - 48)))[0].points
        assert [point.value for point in between] == [50.0, 51.0]
        buckets = (await telemetry.metrics(MetricQuery(every_s=50)))[0].points
        assert buckets == (Point(NOW - 100, 24.5, 49, 0.0, 49.0), Point(NOW - 50, 74.5, 99, 50.0, 99.0))
        assert await telemetry.metrics(MetricQuery(name="nobody")) == []
        assert await telemetry.metrics(MetricQuery(until=1)) == []
        assert await telemetry.metrics(MetricQuery(limit=0)) == []


@pytest.mark.parametrize(
    "senseless",
    [
        MetricQuery(since=math.nan),
        MetricQuery(until=math.inf),
        MetricQuery(since=-1),
        MetricQuery(every_s=-1),
        MetricQuery(every_s=1e-9),
    ],
)
async def test_a_query_without_sense_is_refused(opened: Opener, senseless: MetricQuery) -> None:
    async with opened() as telemetry:
        with pytest.raises(UsageError):
            await telemetry.metrics(senseless)


@pytest.mark.parametrize("query", [MetricQuery(since=1e300), MetricQuery(until=1e300, every_s=1e12)])
async def test_a_time_beyond_all_dates_is_answered(opened: Opener, query: MetricQuery) -> None:
    async with opened() as telemetry:
        await telemetry.record(curve())
        assert len(await telemetry.metrics(query)) == (1 if query.until else 0)


async def test_too_many_series_are_refused_and_not_cut(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_query, "MOST_SERIES", 2)
    async with opened() as telemetry:
        await telemetry.record([Sample(RUN, f"m{number}", 1.0, NOW) for number in range(3)])
        with pytest.raises(UsageError, match="3 series"):
            await telemetry.metrics(MetricQuery())
        assert len(await telemetry.metrics(MetricQuery(metric="m1"))) == 1


async def test_many_series_share_the_points_of_an_answer(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_query, "MOST_POINTS", 20)
    async with opened() as telemetry:
        await telemetry.record([*curve(), *curve(OTHER)])
        assert [len(one.points) for one in await telemetry.metrics(MetricQuery())] == [10, 10]


async def test_no_more_than_the_limit_where_all_come_at_one_moment(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record(Sample(RUN, "loss", float(step), NOW, step) for step in range(50))
        [found] = await telemetry.metrics(MetricQuery(limit=3))
        assert [point.step for point in found.points] == [47, 48, 49]


async def test_who_asks_is_seen(opened: Opener) -> None:
    async with opened() as telemetry:
        assert telemetry.metrics_asked == -math.inf
        await telemetry.metrics(MetricQuery())
        assert telemetry.metrics_asked > -math.inf


async def test_old_metrics_are_rolled_up_and_go_in_the_end(opened: Opener, clock: Clock) -> None:
    steps = [Sample(RUN, "epoch", 1.0, NOW, 3)]
    usage = [Sample(RUN, "usage", float(second), NOW + second) for second in range(120)]
    async with opened() as telemetry:
        clock.now = NOW + 200
        await telemetry.record([*steps, *usage])
        assert await telemetry.tend_metrics(NOW + HOUR, keep_hours=24, keep_days=30) == 0
        assert await telemetry.tend_metrics(NOW + 2 * DAY, keep_hours=24, keep_days=30) > 0
        epoch, used = await telemetry.metrics(MetricQuery())
        assert epoch.points == (Point(NOW, 1.0, 3),)
        assert used.points == (Point(NOW, 29.5, None, 0.0, 59.0), Point(NOW + 60, 89.5, None, 60.0, 119.0))
        assert (await telemetry.metrics(MetricQuery(metric="usage", every_s=3600)))[0].points == (
            Point(NOW, 59.5, None, 0.0, 119.0),
        )
        await telemetry.tend_metrics(NOW + 15 * DAY, keep_hours=24, keep_days=30)
        assert (await telemetry.metrics(MetricQuery(metric="usage")))[0].points == (Point(NOW, 59.5, None, 0.0, 119.0),)
        clock.now = NOW + 31 * DAY
        await telemetry.record([Sample(OTHER, "usage", 1.0, clock.now)])
        await telemetry.tend_metrics(clock.now, keep_hours=24, keep_days=30)
        assert await stored_series(telemetry) == ["train.2"], "a series of nothing is removed, and no other"
        await telemetry.record([Sample(RUN, "usage", 2.0, clock.now)])
        again = await telemetry.metrics(MetricQuery(name="train.1"))
        assert [len(one.points) for one in again] == [1]


async def test_a_series_with_two_numbers_is_one(opened: Opener, clock: Clock) -> None:
    async with opened() as telemetry:
        await telemetry.record([Sample(RUN, "loss", 1.0, NOW)])
        await telemetry.tend_metrics(NOW + 3 * DAY, keep_hours=0, keep_days=0)
        clock.now = NOW + 3 * DAY
        await telemetry.record([Sample(RUN, "loss", 2.0, clock.now)])
        [found] = await telemetry.metrics(MetricQuery())
        assert [point.value for point in found.points] == [1.0, 2.0]
        assert await stored_series(telemetry) == ["train.1", "train.1"]


async def test_a_series_stays_as_long_as_its_samples_may_still_be_written(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record([Sample(RUN, "loss", 1.0, NOW - 31 * DAY)])
        await telemetry.tend_metrics(NOW, keep_hours=24, keep_days=30)
        assert await telemetry.metrics(MetricQuery()) == []
        assert await stored_series(telemetry) == ["train.1"]
        await telemetry.tend_metrics(NOW + 2 * HOUR, keep_hours=24, keep_days=30)
        assert await stored_series(telemetry) == []


async def test_what_cannot_be_rolled_up_is_told(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise duckdb.IOException("no space left")

    monkeypatch.setattr(upkeep, "do", full)
    async with opened() as telemetry:
        await telemetry.record(curve(count=1))
        with pytest.raises(TelemetryError, match="no space left"):
            await telemetry.tend_metrics(NOW + 40 * DAY, keep_hours=24, keep_days=30)
        assert len(await telemetry.metrics(MetricQuery())) == 1


async def test_a_database_that_was_begun_anew_is_told_its_series_again(opened: Opener) -> None:
    async with opened() as telemetry:
        await telemetry.record(curve(count=1))
        telemetry._store.moved_aside += 1
        await telemetry.record(curve(count=2))
        assert await stored_series(telemetry) == ["train.1", "train.1"]


async def test_a_resource_that_is_gone_leaves_no_metrics(opened: Opener, clock: Clock) -> None:
    async with opened() as telemetry:
        await telemetry.record([*curve(), *curve(OTHER)])
        await telemetry.forget_metrics("run", "train.1")
        assert [one.subject for one in await telemetry.metrics(MetricQuery())] == [OTHER]
        await telemetry.record([replace(curve()[0], value=7.0)])
        found = await telemetry.metrics(MetricQuery(name="train.1"))
        assert [point.value for point in found[0].points] == [7.0]
