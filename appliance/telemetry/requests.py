"""Requests at the front door, counted: what is stored of them, and what is asked of that. Pure but for the SQL.

Stored is one row for each second, route and replica, with its latencies as histograms; single requests only where
something went wrong, and of those not all. Milliseconds and bytes, as the front door counts them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from appliance.router.requests import Request
from appliance.telemetry.database import FAILURES, REQUESTS

PER_OCTAVE = 4
"""Buckets for each doubling: a latency is told to within a tenth."""
BUCKETS = 20 * PER_OCTAVE + 1
"""Up to 2^20 ms, 17 minutes; what took longer is in the last one."""
MOST_FAILURES = 50
"""Single requests that are stored of one second's rows."""
MOST_ROWS = 10_000
"""Seconds, routes and replicas that wait to be stored: far more than there can be, unless somebody makes them up."""
MOST_STEPS = 1000
HELD_MS = 20
"""Less than that nobody was made to wait: the front door was busy."""
_MOST = 1 << 44
"""Of any one number: whoever reaches the socket of records may say what it likes, and sums have to fit."""
_LAST = 253_402_300_799.0
"""The end of the year 9999."""

_KINDS = {"deployments": "deployment", "notebooks": "notebook"}


@dataclass(slots=True)
class _Count:
    """Of one second, route and replica."""

    requests: int = 0
    statuses: list[int] = field(default_factory=lambda: [0] * 10)
    """By first digit."""
    cut: int = 0
    held: int = 0
    held_ms: int = 0
    held_most_ms: int = 0
    wait_ms: int = 0
    total_ms: int = 0
    received: int = 0
    sent: int = 0
    waits: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    totals: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, request: Request) -> None:
        """Some thousand times a second."""
        self.requests += 1
        self.statuses[min(request.status, 999) // 100] += 1
        self.cut += request.cut
        self.received += min(_MOST, request.received)
        self.sent += min(_MOST, request.sent)
        if request.held_ms >= HELD_MS:
            held = min(_MOST, request.held_ms)
            self.held += 1
            self.held_ms += held
            self.held_most_ms = max(self.held_most_ms, held)
        if request.status == 101:
            return  # a tunnel lives as long as its two ends like
        if request.wait_ms >= 0:
            wait = min(_MOST, request.wait_ms)
            self.wait_ms += wait
            self.waits[bucket(wait)] += 1
        total = min(_MOST, request.total_ms)
        self.total_ms += total
        self.totals[bucket(total)] += 1

    def row(self) -> tuple[Any, ...]:
        return (
            *(self.requests, *self.statuses[2:6], self.cut),
            *(self.held, self.held_ms, self.held_most_ms, self.wait_ms, self.total_ms, self.received, self.sent),
            *(_trimmed(self.waits), _trimmed(self.totals)),
        )


class Tally:
    """Requests that are not stored yet."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], _Count] = {}
        self._failures: list[Request] = []

    def add(self, request: Request) -> None:
        if not 0 <= request.at <= _LAST:
            return
        key = (int(request.at), request.prefix, request.target)
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= MOST_ROWS:
                return
            count = self._counts[key] = _Count()
        count.add(request)
        if (request.status >= 500 or request.cut) and len(self._failures) < MOST_FAILURES:
            self._failures.append(request)

    def take(self) -> dict[str, list[tuple[Any, ...]]]:
        """Rows by table; it is empty afterwards, and so may the answer be."""
        rows = {
            REQUESTS: [
                (_moment(second), *_owner(prefix), target, *count.row())
                for (second, prefix, target), count in self._counts.items()
            ],
            FAILURES: [_failure(request) for request in self._failures],
        }
        self._counts, self._failures = {}, []
        return {table: found for table, found in rows.items() if found}


@dataclass(frozen=True, slots=True)
class Step:
    at: float
    """Its beginning, unix seconds."""
    requests: int
    errors: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests that began between two times and have ended. `errors` are answers of 5xx and those that were cut."""

    requests: int
    errors: int
    p50_s: float | None
    """Half of the answers were whole within so long, held time included; None: there were none."""
    p95_s: float | None
    p99_s: float | None
    held: int
    """So many had to wait for a replica."""
    longest_held_s: float
    targets: Mapping[str, tuple[int, int]]
    """Replica, as the front door names it -> requests, errors; empty name: no replica saw them."""
    steps: Sequence[Step]
    """Oldest first, all of one length, the empty ones too."""


def read_traffic(
    connection: duckdb.DuckDBPyConnection, prefix: str, *, since: float, until: float, steps: int
) -> Traffic:
    kind, name = _owner(prefix)
    steps = max(1, min(steps, MOST_STEPS))
    length = max(1e-6, until - since) / steps
    where = "kind = ? AND name = ? AND ts >= make_timestamp(?) AND ts < make_timestamp(?)"
    start, end = _microseconds(since), _microseconds(until)
    values: list[Any] = [kind, name, start, end]
    errors = "sum(least(requests, failed + cut))"
    connection.execute("BEGIN TRANSACTION READ ONLY")  # all see the same state
    targets = connection.execute(
        f"SELECT target, sum(requests), {errors}, sum(held), max(held_most_ms) FROM {REQUESTS}"
        f" WHERE {where} GROUP BY target ORDER BY target",
        values,
    ).fetchall()
    by_step = connection.execute(
        f"SELECT CAST(floor((epoch_us(ts) - ?) / ?) AS BIGINT) AS step, sum(requests), {errors} FROM {REQUESTS}"
        f" WHERE {where} GROUP BY step",
        [start, length * 1e6, *values],
    ).fetchall()
    histogram = connection.execute(
        "SELECT place - 1, sum(number) FROM (SELECT unnest(totals) AS number,"
        f" generate_subscripts(totals, 1) AS place FROM {REQUESTS} WHERE {where}) GROUP BY place",
        values,
    ).fetchall()
    totals = {int(place): int(number) for place, number in histogram}
    counted = {min(max(int(step), 0), steps - 1): (int(one), int(two)) for step, one, two in by_step}
    return Traffic(
        requests=sum(int(row[1]) for row in targets),
        errors=sum(int(row[2]) for row in targets),
        p50_s=quantile(totals, 0.5),
        p95_s=quantile(totals, 0.95),
        p99_s=quantile(totals, 0.99),
        held=sum(int(row[3]) for row in targets),
        longest_held_s=max((int(row[4]) for row in targets), default=0) / 1000,
        targets={row[0]: (int(row[1]), int(row[2])) for row in targets},
        steps=tuple(Step(since + number * length, *counted.get(number, (0, 0))) for number in range(steps)),
    )


def bucket(milliseconds: int) -> int:
    """Bucket 0 holds up to 1 ms, bucket n up to 2^(n/PER_OCTAVE) ms."""
    return _SHORT[milliseconds] if milliseconds < len(_SHORT) else _bucket(milliseconds)


def _bucket(milliseconds: int) -> int:
    return 0 if milliseconds <= 1 else min(BUCKETS - 1, math.ceil(PER_OCTAVE * math.log2(milliseconds)))


_SHORT = tuple(map(_bucket, range(1024)))
"""Of the latencies that most requests have."""


def quantile(histogram: Mapping[int, int], part: float) -> float | None:
    """Seconds within which this part of all are; None: there are none. Within a bucket they lie evenly."""
    left = part * sum(histogram.values())
    for place, number in sorted(histogram.items()):
        if not number:
            continue
        if left <= number:
            low: float = 0.0 if place == 0 else 2.0 ** ((place - 1) / PER_OCTAVE)
            high: float = 2.0 ** (place / PER_OCTAVE)
            return (low + (high - low) * left / number) / 1000
        left -= number
    return None


def _trimmed(counts: list[int]) -> list[int]:
    """Without the empty buckets at the end."""
    return counts[: max((place + 1 for place, number in enumerate(counts) if number), default=0)]


def _failure(request: Request) -> tuple[Any, ...]:
    times = (min(number, _MOST) for number in (request.held_ms, request.wait_ms, request.total_ms))
    status = min(request.status, 999)
    return (_moment(request.at), *_owner(request.prefix), request.target, status, request.cut, *times)


def _owner(prefix: str) -> tuple[str, str]:
    """Kind and name."""
    folder, _, name = prefix.removeprefix("/").partition("/")
    return _KINDS.get(folder, folder), name


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


def _microseconds(at: float) -> int:
    return round(at * 1e6)
