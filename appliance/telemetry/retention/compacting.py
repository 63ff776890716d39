"""Giving space back to the disk, by copying what is left into a fresh file that then takes the old one's place.

DuckDB uses the space of deleted rows again and never gives it back: its file shrinks only from the end, where some row
nearly always lies (measured with 2.0; neither VACUUM nor CHECKPOINT nor rewriting a table changes that). While lines
come and go evenly that is as it should be. After much was removed at once, the file would stay as large as it ever was.

Log lines, which are nearly all of it, are copied while others come in and are read. For the rest, and for the lines
that came meanwhile, the writer is held, and the engine's files hold what comes. Rows go from one database to the other
as Arrow streams in memory: neither of them can open a file of its own accord.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from appliance.errors import TelemetryError
from appliance.telemetry.database import LINES, open_database
from appliance.telemetry.retention.removing import taken_bytes
from appliance.telemetry.store import Store, wal_of

log = logging.getLogger(__name__)

WORTH_SHARE = 0.4
"""Of the file, that is free: less comes and goes by itself."""
WORTH_BYTES = 128 * 1024 * 1024
"""The same, in bytes."""
SPARE_BYTES = 256 * 1024 * 1024
"""Of the disk, that stay free while there are two files."""
MEMORY_MB = 256
SLICE = 250_000
"""Lines that are copied at once: a third of a second."""
_BARE = "schema_version"
_OUTER = "incoming"


class _Rows:
    """What a query answers, for another database. It is asked twice: for the columns, then for the rows."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, query: str) -> None:
        self._connection = connection
        self._query = query
        self._cursors: list[duckdb.DuckDBPyConnection] = []

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        cursor = self._connection.cursor()
        self._cursors.append(cursor)
        relation: Any = cursor.sql(self._query)
        return relation.__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        for cursor in self._cursors:
            cursor.close()


def worth_it(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether enough of the file is free or holds removed lines, as of the last checkpoint."""
    _, total, free = _blocks(connection)
    _, wasted = taken_bytes(connection)
    return free + wasted >= max(WORTH_BYTES, WORTH_SHARE * total)


def compact(store: Store) -> int:
    """Bytes that the disk has got back. Nothing may be deleted from the lines meanwhile. Blocks, for long.

    Raises TelemetryError where it cannot be done; everything is as it was then, and may be tried again.
    """
    fresh = store.fresh
    before = store.file.stat().st_size
    with store.reading() as connection:
        used, _, free = _blocks(connection)
    if shutil.disk_usage(store.file.parent).free < used + SPARE_BYTES:
        raise TelemetryError(
            f"{free >> 20} MiB of the log and metric database are free inside it and cannot be given back to the disk:"
            f" that needs {(used + SPARE_BYTES) >> 20} MiB for a while",
            where=str(store.file),
            hint="free some space; until then new lines use what is free inside",
        )
    _remove(fresh)
    try:
        with closing(_open_fresh(fresh)) as target:
            copied = _copy_lines(store, target)
            with store.held() as source:
                _copy_rest(store, source, target, copied)
                target.execute("CHECKPOINT").fetchall()
                target.close()
                store.replace()
    except duckdb.Error as error:
        raise TelemetryError(f"the log and metric database could not be made smaller: {error}") from error
    finally:
        _remove(fresh)
    return before - store.file.stat().st_size


def _copy_lines(store: Store, target: duckdb.DuckDBPyConnection) -> int:
    """Up to the line's number that is answered. Slice by slice: a reader that stays would keep deleted rows alive."""
    copied = -1
    while True:
        with store.reading() as connection:
            [[end, count]] = connection.execute(
                f"SELECT max(seq), count(*) FROM (SELECT seq FROM {LINES} WHERE seq > ? ORDER BY seq LIMIT {SLICE})",
                [copied],
            ).fetchall()
            if store.stopping:
                raise TelemetryError("the daemon stops")
            if count < SLICE:
                return copied
            _copy(connection, target, LINES, f"seq > {copied} AND seq <= {end}", "seq")
            copied = end


def _copy_rest(store: Store, source: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection, copied: int) -> None:
    tables = source.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'store' AND NOT temporary"
    ).fetchall()
    for name in sorted(f"store.{row[0]}" for row in tables if row[0] != _BARE):
        if store.stopping:
            raise TelemetryError("the daemon stops")
        _copy(source, target, name, f"seq > {copied}" if name == LINES else "true", "seq" if name == LINES else "")
        there = [one.execute(f"SELECT count(*) FROM {name}").fetchall() for one in (source, target)]
        if there[0] != there[1]:
            raise TelemetryError(f"{name}: {there[1][0][0]} of {there[0][0][0]} rows were copied")


def _copy(
    source: duckdb.DuckDBPyConnection, target: duckdb.DuckDBPyConnection, table: str, where: str, order: str
) -> None:
    ordered = f" ORDER BY {order}" if order else ""
    with _registered(target, _Rows(source, f"SELECT * FROM {table} WHERE {where}{ordered}")):
        target.begin()
        target.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {_OUTER}").fetchall()
        target.commit()


@contextmanager
def _registered(target: duckdb.DuckDBPyConnection, rows: _Rows) -> Iterator[None]:
    target.register(_OUTER, rows)
    try:
        yield
    finally:
        with suppress(duckdb.Error):
            target.unregister(_OUTER)
        rows.close()


def _open_fresh(fresh: Path) -> duckdb.DuckDBPyConnection:
    return open_database(fresh, memory_mb=MEMORY_MB)[0]


def _blocks(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    """Used, all and free, in bytes."""
    [row] = connection.execute(
        "SELECT block_size, total_blocks, used_blocks, free_blocks FROM pragma_database_size()"
    ).fetchall()
    size, total, used, free = map(int, row)
    return size * used, size * total, size * free


def _remove(fresh: Path) -> None:
    for path in (fresh, wal_of(fresh)):
        path.unlink(missing_ok=True)
    shutil.rmtree(fresh.with_name(f"{fresh.name}.tmp"), ignore_errors=True)
