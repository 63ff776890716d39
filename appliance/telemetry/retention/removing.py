"""Removing log lines, as SQL. What reads runs beside the writer; what writes is done in slices, each one transaction.

What is to go is seen from what is there, so a kill at any instant leaves less to do and nothing half done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb

from appliance.telemetry.database import CURSORS, LINES, SOURCES
from appliance.telemetry.retention.policy import Plan, Source

SLICE = 250_000
"""Lines that are removed in one transaction: some hundredths of a second."""

Where = tuple[str, list[Any]]
"""A condition on `l`, a line, and `k`, from which number on the lines of its source stay; and its values."""


def newest(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """The highest number of a source, and of a line or cursor."""
    [row] = connection.execute(
        f"SELECT coalesce(max(id), 0), (SELECT coalesce(max(seq), 0) FROM"
        f" (SELECT seq FROM {LINES} UNION ALL SELECT seq FROM {CURSORS})) FROM {SOURCES}"
    ).fetchall()
    return int(row[0]), int(row[1])


def sources(connection: duckdb.DuckDBPyConnection, until: int) -> list[Source]:
    rows = connection.execute(f"SELECT id, kind, name, container FROM {SOURCES} WHERE id <= ?", [until]).fetchall()
    return [Source(*row) for row in rows]


def ended(connection: duckdb.DuckDBPyConnection, numbers: Sequence[int], before: float) -> list[int]:
    """Of these sources those that have lines, and none at or after this unix time."""
    listed = ", ".join(str(int(number)) for number in numbers)
    if not listed:
        return []
    rows = connection.execute(
        f"SELECT source FROM {LINES} WHERE source IN ({listed}) GROUP BY source HAVING max(ts) < make_timestamp(?)",
        [_us(before)],
    ).fetchall()
    return [row[0] for row in rows]


def old(connection: duckdb.DuckDBPyConnection, before: float) -> set[int]:
    """Sources with lines before this unix time. Only those rows are looked through: they lie as they came."""
    rows = connection.execute(f"SELECT DISTINCT source FROM {LINES} WHERE ts < make_timestamp(?)", [_us(before)])
    return {row[0] for row in rows.fetchall()}


def last_lines(connection: duckdb.DuckDBPyConnection, numbers: Iterable[int], most: int) -> dict[int, int]:
    """Of each of these sources that has lines: the number of the first of its `most` newest ones."""
    listed = ", ".join(str(int(number)) for number in numbers)
    if not listed:
        return {}
    rows = connection.execute(
        f"SELECT source, min(seq) FROM (SELECT source, seq FROM {LINES} WHERE source IN ({listed})"
        f" QUALIFY row_number() OVER (PARTITION BY source ORDER BY seq DESC) <= {int(most)}) GROUP BY source"
    ).fetchall()
    return dict(rows)


def by_owner(numbers: Sequence[int]) -> Where:
    return f"l.source IN ({', '.join(str(int(number)) for number in numbers)})", []


def by_age(plan: Plan) -> Where:
    kept, values = "k.floor IS NULL OR l.seq < k.floor", [_us(plan.before or 0)]
    if plan.failed_before is not None:
        kept += " OR l.ts < make_timestamp(?)"
        values.append(_us(plan.failed_before))
    return f"l.ts < make_timestamp(?) AND ({kept})", values


def by_number(before: int) -> Where:
    return "l.seq < ? AND (k.floor IS NULL OR l.seq < k.floor)", [before]


def remove(connection: duckdb.DuckDBPyConnection, where: Where, floors: Mapping[int, int]) -> int:
    """Up to `SLICE` lines; how many. `floors`: source -> the number from which on its lines are spared."""
    condition, values = where
    [[removed]] = connection.execute(
        f"DELETE FROM {LINES} WHERE rowid IN (SELECT l.rowid FROM {LINES} l"
        " LEFT JOIN (SELECT unnest(?::INTEGER[]) AS source, unnest(?::BIGINT[]) AS floor) k ON k.source = l.source"
        f" WHERE {condition} LIMIT {SLICE})",
        [[*floors.keys()], [*floors.values()], *values],
    ).fetchall()
    return int(removed)


def stored_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """That the lines take in the file, as of the last checkpoint, without those that have been removed since."""
    taken, wasted = taken_bytes(connection)
    return taken - wasted


def taken_bytes(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """What the lines take in the file, and how much of it is removed lines.

    Blocks hold rows by the thousand and may be free only when the last of them is gone: so that is taken by share.
    """
    [[blocks, held]] = connection.execute(
        "SELECT count(DISTINCT block) FILTER (block >= 0), sum(rows) FROM (SELECT"
        " unnest(list_append(coalesce(additional_block_ids, []), block_id)) AS block,"
        " CASE WHEN column_id = 0 AND segment_type <> 'VALIDITY' THEN count ELSE 0 END AS rows"
        f" FROM pragma_storage_info('{LINES}'))"
    ).fetchall()
    [[size]] = connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()
    [[there]] = connection.execute(f"SELECT count(*) FROM {LINES}").fetchall()
    taken = blocks * size
    return taken, int(taken * max(0.0, 1.0 - there / held)) if held else 0


def number_at(connection: duckdb.DuckDBPyConnection, share: float, floors: Mapping[int, int]) -> int:
    """The line's number below which this share lies of all lines that are not spared; 0: there are none."""
    [[number]] = connection.execute(
        f"SELECT quantile_disc(l.seq, ?) FROM {LINES} l"
        " LEFT JOIN (SELECT unnest(?::INTEGER[]) AS source, unnest(?::BIGINT[]) AS floor) k ON k.source = l.source"
        " WHERE k.floor IS NULL OR l.seq < k.floor",
        [min(1.0, max(0.0, share)), [*floors.keys()], [*floors.values()]],
    ).fetchall()
    return number or 0


def remove_unused(connection: duckdb.DuckDBPyConnection, living: Iterable[str], until: int, mark: int) -> int:
    """Sources up to this number that have no lines and whose container is gone, with their positions; how many.

    One whose position was written after `mark` may belong to a container that is newer than `living`.
    """
    rows = connection.execute(
        f"SELECT id, container FROM {SOURCES} WHERE id <= ? AND NOT list_contains(?::VARCHAR[], container)"
        f" AND container NOT IN (SELECT container FROM {CURSORS} WHERE seq > ?)"
        f" AND id NOT IN (SELECT DISTINCT source FROM {LINES})",
        [until, [*living], mark],
    ).fetchall()
    if rows:
        containers = [container for _, container in rows]
        where = "list_contains(?::VARCHAR[], container)"
        connection.execute(f"DELETE FROM {CURSORS} WHERE {where}", [containers]).fetchall()
        listed = ", ".join(str(int(number)) for number, _ in rows)
        connection.execute(f"DELETE FROM {SOURCES} WHERE id IN ({listed})").fetchall()
    return len(rows)


def of_owner(connection: duckdb.DuckDBPyConnection, kind: str, name: str) -> list[int]:
    rows = connection.execute(f"SELECT id FROM {SOURCES} WHERE kind = ? AND name = ?", [kind, name]).fetchall()
    return [row[0] for row in rows]


def _us(at: float) -> int:
    return round(at * 1e6)
