"""Metrics that are asked for, as SQL with parameters, and the series that come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import duckdb

from appliance.errors import UsageError
from appliance.telemetry.database import METRICS, ROLLUPS, SERIES
from appliance.telemetry.metrics.numbering import Identity
from appliance.telemetry.metrics.types import MetricQuery, Point, Series, Subject

MOST_SERIES = 2000
"""Of one answer."""
MOST_POINTS = 500_000
"""Of one answer: with many series, each has fewer than the query's limit. DuckDB's `max` tells fewer than a million."""
SHORTEST_S = 0.001
LATEST_US = 253_402_300_799 * 1_000_000
"""Microseconds; the last second of the year 9999."""
_FETCH = 2000
_NAMES = "id, kind, name, part, container, metric, map_entries(labels)"


def read_metrics(connection: duckdb.DuckDBPyConnection, query: MetricQuery) -> list[Series]:
    """Raises UsageError where the query makes no sense, or more than `MOST_SERIES` match."""
    _check(query)
    connection.execute("BEGIN TRANSACTION READ ONLY")  # all reads see the same state
    wanted = _wanted(connection, query)
    first: dict[Identity, int] = {}
    shown = {number: first.setdefault(identity, number) for number, identity in wanted.items()}
    if len(first) > MOST_SERIES:
        raise UsageError(
            f"{len(first)} series match, {MOST_SERIES} are answered at most",
            where="metrics",
            hint="narrow it by kind, name, part or metric",
        )
    if not first or query.limit <= 0:
        return []
    limit = min(query.limit, max(1, MOST_POINTS // len(first)))
    connection.execute(*_points_sql(query, shown, limit))
    points: dict[int, list[Point]] = {}
    while rows := connection.fetchmany(_FETCH):
        for number, at, value, step, least, most in rows:
            points.setdefault(number, []).append(Point(at / 1e6, value, step, least, most))
    found = [(identity, points[number]) for identity, number in first.items() if number in points]
    return [
        Series(*identity, tuple(of_it))
        for identity, of_it in sorted(found, key=lambda one: (_order(one[0][0]), *one[0][1:]))
    ]


def read_names(connection: duckdb.DuckDBPyConnection, query: MetricQuery) -> list[tuple[Subject, str]]:
    """Which metrics there are, of whom, without their points; the query's times and limit do not count."""
    connection.execute("BEGIN TRANSACTION READ ONLY")
    names = {(subject, metric) for subject, metric, _ in _wanted(connection, query).values()}
    return sorted(names, key=lambda one: (_order(one[0]), one[1]))


def read_identities(connection: duckdb.DuckDBPyConnection, limit: int) -> tuple[list[tuple[int, Identity]], int]:
    """The newest series that are stored, oldest first, and the first number that none has had."""
    newest = connection.execute(
        f"SELECT greatest((SELECT max(id) FROM {SERIES}), (SELECT max(series) FROM {METRICS}),"
        f" (SELECT max(series) FROM {ROLLUPS}))"
    ).fetchone()
    connection.execute(f"SELECT {_NAMES} FROM {SERIES} ORDER BY id DESC LIMIT {int(limit)}")
    rows = connection.fetchall()
    return [(row[0], _identity(row)) for row in reversed(rows)], ((newest and newest[0]) or 0) + 1


def _check(query: MetricQuery) -> None:
    for name, value in (("since", query.since), ("until", query.until), ("every", query.every_s)):
        if not math.isfinite(value) or value < 0:
            raise UsageError(f"{name} is a number of seconds from 0 on", where=name)
    if 0 < query.every_s < SHORTEST_S:
        raise UsageError(f"a bucket is at least {SHORTEST_S:g} s wide", where="every")


def _wanted(connection: duckdb.DuckDBPyConnection, query: MetricQuery) -> dict[int, Identity]:
    wanted = {"kind": query.kind, "name": query.name, "part": query.part, "metric": query.metric}
    given = {column: value for column, value in wanted.items() if value}
    where = " AND ".join(f"{column} = ?" for column in given) or "true"
    connection.execute(f"SELECT {_NAMES} FROM {SERIES} WHERE {where} ORDER BY id", [*given.values()])
    return {row[0]: _identity(row) for row in connection.fetchall()}


def _identity(row: tuple[Any, ...]) -> Identity:
    _, kind, name, part, container, metric, labels = row
    pairs = tuple(sorted((pair["key"], pair["value"]) for pair in labels))
    return Subject(kind, name, part, container), metric, pairs


def _points_sql(query: MetricQuery, shown: Mapping[int, int], limit: int) -> tuple[str, list[Any]]:
    """A series may have more than one number: the daemon forgets one that had no sample for long."""
    within, values = "true", []
    for compared, moment in ((">=", query.since), ("<", query.until)):
        if moment:
            within += f" AND ts {compared} make_timestamp(?)"
            values.append(min(LATEST_US, round(moment * 1e6)))
    numbers = ", ".join(f"({int(number)}, {int(first)})" for number, first in shown.items())
    rows = (
        f"WITH which(series, shown) AS (VALUES {numbers}), points AS NOT MATERIALIZED ("
        f"SELECT shown, epoch_us(ts) AS us, step, value, value AS least, value AS most, 1 AS samples, 0 AS rolled"
        f" FROM {METRICS} JOIN which USING (series) WHERE {within}"
        f" UNION ALL SELECT shown, epoch_us(ts), NULL, mean, least, most, samples, 1"
        f" FROM {ROLLUPS} JOIN which USING (series) WHERE {within})"
    )
    if query.every_s:
        width = round(query.every_s * 1e6)
        rows += (
            f", buckets AS (SELECT shown, us // {width} * {width} AS us, max(step) AS step, min(least) AS least,"
            " max(most) AS most, sum(value * samples) / sum(samples) AS value FROM points GROUP BY ALL)"
            " SELECT shown, us, value, step, least, most FROM buckets"
        )
    else:
        # the moment of each series' last point first: to put all rows in order takes eight times as long
        rows += (
            f", begins AS (SELECT shown, list_min(max(us, {int(limit)})) AS begin FROM points GROUP BY shown)"
            " SELECT shown, us, value, step, CASE WHEN rolled = 1 THEN least END, CASE WHEN rolled = 1 THEN most END"
            " FROM points JOIN begins USING (shown) WHERE us >= begin"
        )
    newest = f" QUALIFY row_number() OVER (PARTITION BY shown ORDER BY us DESC, step DESC NULLS LAST) <= {int(limit)}"
    return f"{rows}{newest} ORDER BY shown, us, step", values * 2


def _order(subject: Subject) -> tuple[str, str, str, str]:
    return subject.kind, subject.name, subject.part, subject.container
