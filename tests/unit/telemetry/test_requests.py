"""Requests, counted, stored and asked for again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.router.requests import Request
from appliance.telemetry import database, store, telemetry
from appliance.telemetry.database import FAILURES, MIGRATIONS, REQUESTS
from appliance.telemetry.requests import BUCKETS, HELD_MS, MOST_FAILURES, Tally, bucket, quantile
from appliance.telemetry.telemetry import Telemetry

pytestmark = pytest.mark.anyio

WEB = "/deployments/web"
NOW = float(int(time.time())) - 60


def request(at: float = NOW, **more: Any) -> Request:
    fields: dict[str, Any] = {
        "prefix": WEB,
        "target": "one",
        "status": 200,
        "held_ms": 0,
        "wait_ms": 10,
        "total_ms": 20,
        "cut": False,
        "received": 100,
        "sent": 1000,
        **more,
    }
    return Request(at=at, **fields)


def hostile(number: int) -> Request:
    """As whoever reaches the socket of records may make it."""
    return request(
        at=float(number), status=number, held_ms=number, wait_ms=number, total_ms=number, received=number, sent=number
    )


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Telemetry]:
    monkeypatch.setattr(telemetry, "COUNT_S", 0.01)
    opened = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await opened.start()
    yield opened
    await opened.stop()


async def stored(running: Telemetry, number: int, question: str = "SELECT sum(requests) FROM requests") -> None:
    """Until this is the answer."""
    with anyio.fail_after(60):
        while (await running.sql(question))[1] != [(number,)]:  # noqa: ASYNC110 -- the writer's thread tells nobody
            await anyio.sleep(0.01)


async def test_what_was_counted_is_told(running: Telemetry) -> None:
    running.count([request(at=NOW + second, total_ms=100) for second in range(10)])
    running.count([request(target="two", status=502, wait_ms=-1), request(target="", status=503, held_ms=8000)])
    running.count([request(prefix="/deployments/other"), request(prefix="/notebooks/web"), request(at=NOW - 9)])
    await stored(running, 15)
    found = await running.traffic(WEB, since=NOW, until=NOW + 10, steps=5)
    assert (found.requests, found.errors, found.held, found.longest_held_s) == (12, 2, 1, 8.0)
    assert found.targets == {"": (1, 1), "one": (10, 0), "two": (1, 1)}
    assert [(step.at, step.requests, step.errors) for step in found.steps] == [
        (NOW, 4, 2),
        *((NOW + second, 2, 0) for second in (2, 4, 6, 8)),
    ]
    assert found.p50_s == pytest.approx(0.1, rel=0.2)
    assert (found.p50_s or 0) <= (found.p95_s or 0) <= (found.p99_s or 0)


async def test_where_nothing_came_nothing_is_told(running: Telemetry) -> None:
    found = await running.traffic(WEB, since=NOW, until=NOW + 10, steps=2)
    assert (found.requests, found.errors, found.p50_s, found.targets) == (0, 0, None, {})
    assert [step.requests for step in found.steps] == [0, 0]


async def test_sql_sees_them_and_the_ones_that_failed(running: Telemetry) -> None:
    running.count([request(), request(status=404), request(status=500), request(status=0, cut=True)])
    await stored(running, 4)
    names, rows = await running.sql("SELECT kind, name, target, ok, refused, failed, cut, sent FROM requests")
    assert (names[0], rows) == ("kind", [("deployment", "web", "one", 1, 1, 1, 1, 4000)])
    _, rows = await running.sql("SELECT status, cut FROM failed_requests ORDER BY status")
    assert rows == [(0, True), (500, False)]


async def test_what_was_counted_last_is_stored_at_the_end(tmp_path: Path) -> None:
    for number in range(2):
        opened = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
        await opened.start()
        assert (await opened.traffic(WEB, since=0, until=NOW + 1)).requests == number
        opened.count([request()])
        await opened.stop()
        opened.count([request()])  # too late, and no harm


@pytest.mark.parametrize("number", [0, 10**15, 10**12 - 1])
async def test_no_record_can_stop_the_writing(running: Telemetry, number: int) -> None:
    running.count([hostile(number), request(prefix="/", status=999), *([request(sent=10**15)] * 100)])
    await stored(running, 101)
    assert not running.warnings


async def test_old_ones_go(running: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PRUNE_ROWS", 1)
    day = 86400
    running.count([request(at=NOW - 20 * day, status=500), request(at=NOW - 14 * day, status=500)])
    await stored(running, 2)
    running.count([request(at=NOW + 400 * day)])  # the machine's clock was wrong for a moment
    await stored(running, 1, "SELECT count(*) FROM failed_requests")
    await stored(running, 2)


async def test_a_database_of_the_version_before_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "telemetry.duckdb"
    with duckdb.connect(str(file)) as old:
        old.execute("CREATE SCHEMA store")
        old.execute("CREATE TABLE store.schema_version (version INTEGER NOT NULL)")
        old.execute(MIGRATIONS[0])
        old.execute("INSERT INTO store.schema_version VALUES (1)")
        old.execute("INSERT INTO store.sources VALUES (7, 'deployment', 'web', '1-0', 'c1')")
    connection, warnings = database.open_database(file, memory_mb=128)
    assert not warnings
    assert connection.execute("SELECT count(*) FROM requests").fetchall() == [(0,)]
    assert connection.execute("SELECT id FROM store.sources").fetchall() == [(7,)]
    connection.close()


def test_a_tally_is_one_row_for_each_second_and_replica() -> None:
    tally = Tally()
    for _ in range(1000):
        tally.add(request(at=NOW + 0.5, held_ms=HELD_MS - 1, status=500))
    tally.add(request(at=NOW + 0.9, held_ms=HELD_MS))
    tally.add(request(at=NOW + 1))
    rows = tally.take()
    assert [row[4] for row in rows[REQUESTS]] == [1001, 1]
    assert len(rows[FAILURES]) == MOST_FAILURES
    assert tally.take() == {}


def test_websockets_count_and_their_length_does_not() -> None:
    tally = Tally()
    tally.add(request(status=101, total_ms=10**8))
    row = tally.take()[REQUESTS][0]
    assert (row[4], row[13], row[14], row[17], row[18]) == (1, 0, 0, [], [])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_true_to_within_a_bucket(latencies: list[int], part: float) -> None:
    histogram: dict[int, int] = {}
    for latency in latencies:
        histogram[bucket(latency)] = histogram.get(bucket(latency), 0) + 1
    ordered = sorted(latencies)
    exact = next(value for place, value in enumerate(ordered, start=1) if place >= part * len(ordered) - 1e-9)
    found = quantile(histogram, part)
    assert found is not None
    assert exact / 1.2 - 1 <= found * 1000 <= exact * 1.2 + 1


@given(st.integers(0, 10**15))
def test_every_latency_has_a_bucket(latency: int) -> None:
    assert 0 <= bucket(latency) < BUCKETS
