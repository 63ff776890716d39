"""What becomes of old metrics: the plan by itself, and the plan carried out on a database."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.telemetry.database import METRICS, ROLLUPS, open_database
from appliance.telemetry.metrics import retention, upkeep
from appliance.telemetry.metrics.retention import HOURS, MINUTES, OLD_ROLLUPS, OLD_SAMPLES, Act, Slice

NOW = 1_800_000_123.0
DAY = 86_400


def test_nothing_is_due_where_all_is_kept() -> None:
    assert retention.due(NOW, keep_hours=0, keep_days=0) == []


def test_each_kind_has_its_time() -> None:
    found = retention.due(NOW, keep_hours=24, keep_days=30)
    assert [act for act, _ in found] == [OLD_SAMPLES, OLD_ROLLUPS, MINUTES, HOURS]
    for act, before in found:
        assert before % act.width == 0
    gone, _, minutes, hours = (before for _, before in found)
    assert 0 <= NOW - DAY - minutes < 60
    assert 0 <= NOW - 14 * DAY - hours < 3600
    assert 0 <= NOW - 30 * DAY - gone < 60


@given(
    st.sampled_from([MINUTES, HOURS, OLD_SAMPLES]),
    st.floats(0, 4e9),
    st.integers(0, 4_000_000),
    st.integers(1, retention.LONGEST_S),
)
def test_a_slice_has_whole_widths_and_begins_with_the_oldest(act: Act, oldest: float, times: int, seconds: int) -> None:
    before = times * act.width
    found = retention.first_slice(act, before, oldest=oldest, seconds=seconds)
    if oldest >= before:
        assert found is None
        return
    assert found is not None
    assert found.since % act.width == found.until % act.width == 0
    assert found.since <= oldest < found.until <= before


@given(st.integers(0, 10_000_000), st.integers(1, 10_000))
def test_the_next_slice_has_rather_as_many_rows_as_it_should(rows: int, minutes: int) -> None:
    seconds = retention.next_seconds(Slice(MINUTES, 0, minutes * 60), rows)
    assert 60 <= seconds <= max(retention.LONGEST_S, minutes * 60)
    assert (seconds > minutes * 60) <= (rows < retention.FEW_ROWS)


@pytest.fixture
def connection(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    return open_database(tmp_path / "t.duckdb", memory_mb=128)[0]


def put(connection: duckdb.DuckDBPyConnection, rows: list[tuple[float, int, int | None, float]]) -> None:
    values = [(datetime.fromtimestamp(at, UTC).replace(tzinfo=None), *rest) for at, *rest in rows]
    appender = connection.appender(METRICS)
    appender.append_rows(values)
    appender.flush()


def rolled(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, ...]]:
    return connection.execute(
        f"SELECT epoch(ts)::BIGINT, seconds, series, samples, mean, least, most, last FROM {ROLLUPS} ORDER BY ALL"
    ).fetchall()


def carry_out(connection: duckdb.DuckDBPyConnection, act: Act, before: int) -> int:
    """As `upkeep` does it, without its threads; the number of slices."""
    done = 0
    seconds = act.width
    while (oldest := upkeep._oldest(connection, act, before)) is not None:
        chosen = retention.first_slice(act, before, oldest=oldest, seconds=seconds)
        assert chosen is not None
        rows = upkeep.do(connection, chosen)
        assert rows > 0
        seconds = retention.next_seconds(chosen, rows)
        done += 1
        assert upkeep.do(connection, chosen) == 0, "done again, it finds nothing"
    return done


def test_samples_become_minutes_and_those_hours(connection: duckdb.DuckDBPyConnection) -> None:
    put(connection, [(at, 1, None, float(at % 60)) for at in range(7200)])
    put(connection, [(30.0, 2, 5, 1.5), (31.0, 2, None, 2.5)])
    carry_out(connection, MINUTES, 7140)
    minutes = rolled(connection)
    assert minutes[:2] == [(0, 60, 1, 60, 29.5, 0.0, 59.0, 59.0), (0, 60, 2, 1, 2.5, 2.5, 2.5, 2.5)]
    assert len(minutes) == 120
    left = connection.execute(f"SELECT count(*) FILTER (step = 5), count(*) FROM {METRICS}").fetchone()
    assert left == (1, 61)
    carry_out(connection, HOURS, 3600)
    assert [row[1:3] for row in rolled(connection)][:2] == [(3600, 1), (3600, 2)]
    assert rolled(connection)[0] == (0, 3600, 1, 3600, 29.5, 0.0, 59.0, 59.0)
    assert connection.execute(f"SELECT count(*) FROM {ROLLUPS} WHERE seconds = 60").fetchone() == (59,)


def test_the_mean_of_an_hour_is_that_of_its_samples(connection: duckdb.DuckDBPyConnection) -> None:
    put(connection, [(0.0, 1, None, 0.0), *((60.0 + second, 1, None, 4.0) for second in range(3))])
    carry_out(connection, MINUTES, 3600)
    carry_out(connection, HOURS, 3600)
    assert rolled(connection) == [(0, 3600, 1, 4, 3.0, 0.0, 4.0, 4.0)]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40_000).map(lambda at: at * 7 / 2),
            st.integers(1, 3),
            st.none() | st.integers(0, 9),
            st.floats(-1e6, 1e6),
        ),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 39),
)
def test_no_sample_is_lost_or_counted_twice(rows: list[tuple[float, int, int | None, float]], hours: int) -> None:
    database = duckdb.connect()
    database.execute("CREATE SCHEMA store")
    database.execute(f"CREATE TABLE {METRICS} (ts TIMESTAMP, series INTEGER, step BIGINT, value DOUBLE)")
    columns = "ts TIMESTAMP, seconds UINTEGER, series INTEGER, samples UINTEGER, mean DOUBLE, least DOUBLE"
    database.execute(f"CREATE TABLE {ROLLUPS} ({columns}, most DOUBLE, last DOUBLE)")
    put(database, rows)
    for act in (MINUTES, HOURS, MINUTES):
        carry_out(database, act, hours * 3600)
    found = database.execute(
        f"SELECT series, sum(samples), sum(total), min(least), max(most) FROM ("
        f" SELECT series, 1 AS samples, value AS total, value AS least, value AS most FROM {METRICS} UNION ALL"
        f" SELECT series, samples, mean * samples, least, most FROM {ROLLUPS}) GROUP BY series ORDER BY series"
    ).fetchall()
    for series, samples, total, least, most in found:
        values = [row[3] for row in rows if row[1] == series]
        assert samples == len(values)
        assert math.isclose(total, sum(values), rel_tol=1e-9, abs_tol=1e-3)
        assert (least, most) == (min(values), max(values))
    assert len(found) == len({row[1] for row in rows})
    late = database.execute(
        f"SELECT count(*) FROM {METRICS} WHERE step IS NULL AND ts < make_timestamp(?)", [hours * 3_600_000_000]
    ).fetchone()
    assert late == (0,)
    database.close()


def test_what_is_too_old_goes(connection: duckdb.DuckDBPyConnection) -> None:
    put(connection, [(float(at), 1, at if at % 2 else None, 1.0) for at in range(300)])
    carry_out(connection, MINUTES, 180)
    for act in (OLD_SAMPLES, OLD_ROLLUPS):
        carry_out(connection, act, 120)
    assert [row[0] for row in rolled(connection)] == [120]
    assert connection.execute(f"SELECT epoch(min(ts)) FROM {METRICS}").fetchone() == (121.0,)
