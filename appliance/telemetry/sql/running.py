"""One question on a connection of its own, from its text to the last row. Blocks; a worker thread's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import duckdb

from appliance.errors import UsageError
from appliance.state.sql_tables import STATE_TABLES, Copied
from appliance.telemetry.sql.catalog import STORED, TABLES
from appliance.telemetry.sql.policy import HINT, LONGEST_TEXT, Checked, check
from appliance.telemetry.sql.sinks import Ending, Heading, Sink

StateReader = Callable[[Collection[str]], Sequence[Copied]]
"""Gives these tables of the state as of now."""
MOST_BYTES = 256 << 20
"""Of one answer."""
_FETCH_FIRST, _FETCH_MOST = 16, 2048
"""Rows of one fetch, fewer where they are long: they are Python objects at once."""
_FETCH_BYTES = 1 << 20
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?(?=\S)", re.IGNORECASE)
_SHOW = re.compile(r"\s*SHOW\s+(ALL\s+)?TABLES\s*;?\s*", re.IGNORECASE)
_ZONES = re.compile(r"\b(TIME(?:STAMP)?(?:_NS)?) WITH TIME ZONE")


class Stopped(Exception):
    """Nobody waits for the answer any more."""


def run(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    sink: Sink,
    *,
    limit: int,
    state: StateReader | None,
    stopped: Callable[[], bool],
) -> Ending:
    """Ask, and give at most `limit` rows to `sink`. Raises UsageError for what is wrong or not allowed, and Stopped.

    The transaction is read-only and the database has no access to files, so that even a statement that slipped
    through the check would change nothing.
    """
    if "\0" in text or len(text) > LONGEST_TEXT:
        raise UsageError(f"a query is text of at most {LONGEST_TEXT:,} characters", where="sql", hint=HINT)
    ending = Ending()
    if _SHOW.fullmatch(text):
        return _show(sink, state is not None, ending)
    explains = _EXPLAIN.match(text)
    checked = _checked(connection, text[explains.end() :] if explains else text, state is not None)
    for copied in state(checked.tables - STORED) if state and checked.tables - STORED else ():
        _lend(connection, copied)
        if copied.cut:
            ending.notes.append(f"of {copied.table.name} only the newest {len(copied.rows):,} rows were looked at")
    connection.execute("BEGIN TRANSACTION READ ONLY")
    headings = [] if explains or not checked.plain else _described(connection, text)
    question = _without_zones(text, headings)
    if stopped():
        raise Stopped
    connection.execute(question)
    described = connection.description or ()
    names = [heading.name for heading in headings] or [str(column[0]) for column in described]
    sink.begin([Heading(name, str(column[1])) for name, column in zip(names, described, strict=True)])
    _fetch(connection, sink, limit, stopped, ending)
    if stopped():
        raise Stopped
    sink.end(ending)
    return ending


def _show(sink: Sink, with_state: bool, ending: Ending) -> Ending:
    sink.begin([Heading("name", "VARCHAR"), Heading("about", "VARCHAR")])
    rows = [(name, about) for name, (about, _) in sorted(TABLES.items()) if with_state or name in STORED]
    sink.add(rows)
    ending.rows = len(rows)
    sink.end(ending)
    return ending


def _checked(connection: duckdb.DuckDBPyConnection, text: str, with_state: bool) -> Checked:
    connection.execute(
        "SELECT json_serialize_sql(?, skip_default := true, skip_null := true, skip_empty := true)", [text]
    )
    [(parsed,)] = connection.fetchall()
    try:
        document: dict[str, Any] = json.loads(parsed)
    except RecursionError:
        raise UsageError("it is nested too deeply", where="sql", hint=HINT) from None
    if document.get("error_type") == "not implemented":
        raise UsageError("one SELECT is expected", where="sql", hint=HINT)
    return check(document, TABLES if with_state else STORED)


def _lend(connection: duckdb.DuckDBPyConnection, copied: Copied) -> None:
    """As a temporary table of this connection, which nobody else sees and which goes with it."""
    table = STATE_TABLES[copied.table.name]
    times = [column.name for column in table.columns if column.type == "TIMESTAMP"]
    kinds = {column.name: "BIGINT" if column.name in times else column.type for column in table.columns}
    raw = f"raw_{table.name}"
    columns = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
    connection.execute(f"CREATE TEMP TABLE {raw} ({columns})")
    appender = connection.appender(raw)
    for start in range(0, len(copied.rows), 1000):
        appender.append_rows(copied.rows[start : start + 1000])
    appender.flush()
    chosen = ", ".join(f'make_timestamp("{name}") AS "{name}"' if name in times else f'"{name}"' for name in kinds)
    connection.execute(f"CREATE TEMP VIEW {table.name} AS SELECT {chosen} FROM {raw}")


def _described(connection: duckdb.DuckDBPyConnection, text: str) -> list[Heading]:
    """Nothing where that fails: the question itself then says why, in its own words and places."""
    try:
        connection.execute(f"DESCRIBE {text}")
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException):
        connection.execute("ROLLBACK")
        connection.execute("BEGIN TRANSACTION READ ONLY")
        return []
    return [Heading(str(row[0]), str(row[1])) for row in connection.fetchall()]


def _without_zones(text: str, headings: Sequence[Heading]) -> str:
    """Python reads a time with a zone only with a further package; the session is in UTC, so nothing is lost."""
    types = [_ZONES.sub(lambda found: found[1], heading.type) for heading in headings]
    if all(kind == heading.type for kind, heading in zip(types, headings, strict=True)):
        return text
    columns = [
        f"#{number}" if kind == heading.type else f"CAST(#{number} AS {kind})"
        for number, (kind, heading) in enumerate(zip(types, headings, strict=True), start=1)
    ]
    return f"SELECT {', '.join(columns)} FROM ({text.strip().rstrip(';')}\n)"


def _fetch(
    connection: duckdb.DuckDBPyConnection, sink: Sink, limit: int, stopped: Callable[[], bool], ending: Ending
) -> None:
    count, size = _FETCH_FIRST, 0
    while not stopped():
        left = limit - ending.rows
        rows = connection.fetchmany(min(count, left + 1))
        ending.truncated = len(rows) > left
        taken = rows[:left]
        before, size = size, sink.add(taken)
        ending.rows += len(taken)
        if ending.truncated or len(rows) < count:
            return
        if size > MOST_BYTES:
            ending.truncated = True
            ending.notes.append(f"the answer ends at {MOST_BYTES >> 20} MiB")
            return
        small = size - before < _FETCH_BYTES
        count = min(_FETCH_MOST, count * 2) if small else max(1, count // 2)
