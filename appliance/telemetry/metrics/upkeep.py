"""Has old metrics rolled up and removed, slice by slice, between the batches that come in.

A slice is one transaction: its rows are there as they were, or rolled up, whenever the daemon ends. What is to be done
is seen from what is there, so it goes on by itself after a kill. What is asked runs beside the writer and holds up
nobody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from typing import Any, Protocol

import duckdb

from appliance.telemetry.database import METRICS, ROLLUPS, SERIES
from appliance.telemetry.metrics import retention
from appliance.telemetry.metrics.numbering import Numbering
from appliance.telemetry.metrics.retention import Act, Slice

log = logging.getLogger(__name__)

MOST_SLICES = 500
"""Of one look: the rest is done at the next."""
FORGET_S = 86_400.0
"""A series without a sample for so long is not known by heart any more."""
EMPTY_EVERY_S = 3600.0
"""Between two looks for series that have no samples any more."""
QUIET_S = 3600.0
"""One that had a sample within this time is not removed: that sample may still wait to be written."""
MOST_REMOVED = 20_000
"""Series in one transaction."""


class Reading(Protocol):
    def __call__(self, question: Callable[[duckdb.DuckDBPyConnection], Any], /) -> Awaitable[Any]: ...


class Chores(Protocol):
    def __call__(self, work: Callable[[duckdb.DuckDBPyConnection], Any], /) -> Future[Any]: ...


class Upkeep:
    """On the event loop's thread."""

    def __init__(self, read: Reading, chore: Chores, numbering: Numbering) -> None:
        self._read = read
        self._chore = chore
        self._numbering = numbering
        self._emptied = float("-inf")

    async def tend(self, now: float, *, keep_hours: float, keep_days: float) -> int:
        """How many slices were done. `now` in unix seconds, by a clock that is to be believed."""
        left = MOST_SLICES
        for act, before in retention.due(now, keep_hours=keep_hours, keep_days=keep_days):
            left -= await self._do(act, before, left)
        self._numbering.forget(unused_since=now - FORGET_S)
        if not 0 <= now - self._emptied < EMPTY_EVERY_S:
            self._emptied = now
            await self._remove_empty(now)
        return MOST_SLICES - left

    async def forget(self, kind: str, name: str) -> None:
        """All metrics of a resource that is gone for good."""
        self._numbering.forget_subject(kind, name)
        await asyncio.wrap_future(self._chore(lambda connection: _forget(connection, kind, name)))

    async def _do(self, act: Act, before: int, most: int) -> int:
        seconds = act.width
        for done in range(most):
            oldest = await self._read(lambda connection: _oldest(connection, act, before))
            chosen = None
            if oldest is not None:
                chosen = retention.first_slice(act, before, oldest=oldest, seconds=seconds)
            if chosen is None:
                return done
            rows = await asyncio.wrap_future(self._chore(lambda connection, it=chosen: do(connection, it)))  # type: ignore[misc]
            seconds = retention.next_seconds(chosen, rows)
        return most

    async def _remove_empty(self, now: float) -> None:
        empty = self._numbering.release(await self._read(_empty_series), unused_since=now - QUIET_S)
        for start in range(0, len(empty), MOST_REMOVED):
            some = empty[start : start + MOST_REMOVED]
            await asyncio.wrap_future(self._chore(lambda connection, ids=some: _remove(connection, ids)))  # type: ignore[misc]


def do(connection: duckdb.DuckDBPyConnection, what: Slice) -> int:
    """In one transaction of the caller's; how many rows there were. Done again, it finds nothing."""
    act = what.act
    within = [what.since * 1_000_000, what.until * 1_000_000]
    where = f"{act.rows} AND ts >= make_timestamp(?) AND ts < make_timestamp(?)"
    if act.becomes:
        width = act.becomes * 1_000_000
        weights = ("samples", "mean", "least", "most", "last") if act.table == ROLLUPS else ("1", *["value"] * 4)
        samples, mean, least, most, last = weights
        connection.execute(
            f"INSERT INTO {ROLLUPS} SELECT make_timestamp(epoch_us(ts) // {width} * {width}) AS begun, {act.becomes},"
            f" series, sum({samples}), sum({mean} * {samples}) / sum({samples}), min({least}), max({most}),"
            f" arg_max({last}, ts) FROM {act.table} WHERE {where} GROUP BY begun, series ORDER BY begun, series",
            within,
        ).fetchall()
    row = connection.execute(f"DELETE FROM {act.table} WHERE {where}", within).fetchone()
    return int(row[0]) if row else 0


def _oldest(connection: duckdb.DuckDBPyConnection, act: Act, before: int) -> float | None:
    """Unix seconds. Only what is due is looked through, which is little: rows lie as they came."""
    row = connection.execute(
        f"SELECT epoch_us(min(ts)) FROM {act.table} WHERE {act.rows} AND ts < make_timestamp(?)", [before * 1_000_000]
    ).fetchone()
    return None if row is None or row[0] is None else row[0] / 1e6


def _empty_series(connection: duckdb.DuckDBPyConnection) -> list[int]:
    rows = connection.execute(
        f"SELECT id FROM {SERIES} WHERE id NOT IN (SELECT series FROM {METRICS} UNION SELECT series FROM {ROLLUPS})"
    ).fetchall()
    return [row[0] for row in rows]


def _remove(connection: duckdb.DuckDBPyConnection, numbers: Collection[int]) -> None:
    listed = ", ".join(str(int(number)) for number in numbers)
    used = f"SELECT series FROM {METRICS} UNION SELECT series FROM {ROLLUPS}"
    connection.execute(f"DELETE FROM {SERIES} WHERE id IN ({listed}) AND id NOT IN ({used})").fetchall()


def _forget(connection: duckdb.DuckDBPyConnection, kind: str, name: str) -> None:
    whose = f"(SELECT id FROM {SERIES} WHERE kind = ? AND name = ?)"
    for table in (METRICS, ROLLUPS):
        connection.execute(f"DELETE FROM {table} WHERE series IN {whose}", [kind, name]).fetchall()
    connection.execute(f"DELETE FROM {SERIES} WHERE kind = ? AND name = ?", [kind, name]).fetchall()
