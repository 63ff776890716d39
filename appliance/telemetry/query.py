"""What is asked of the database, as SQL with parameters, and the rows that come back as our own values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from appliance.telemetry.database import CURSORS, LINES, SOURCES
from appliance.telemetry.tail import Position
from appliance.telemetry.types import LogLine, LogQuery, LogSource

MOST_LINES = 100_000
"""Lines of one answer."""
MOST_CHARACTERS = 32 * 1024 * 1024
"""Of one answer: it may hold fewer lines than its limit allows."""
COLOURS = "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)"
"""Control sequences of a terminal (ECMA-48 CSI, and OSC as links have it). They stay in a line; a search looks at the
line as it is, and as it reads without them."""
_FETCH = 500


def source_key(source: LogSource) -> tuple[str, str, str]:
    return source.kind, source.name, source.part


def matches(query: LogQuery, key: tuple[str, str, str]) -> bool:
    wanted = (query.kind, query.name, query.part)
    return all(not want or want == have for want, have in zip(wanted, key, strict=True))


def read_lines(connection: duckdb.DuckDBPyConnection, query: LogQuery) -> tuple[list[LogLine], bool]:
    """Matching lines, oldest first, and whether there may be more beyond them."""
    limit = min(query.limit, MOST_LINES)
    if limit <= 0:
        return [], False
    connection.execute("BEGIN TRANSACTION READ ONLY")  # both reads see the same state
    sources = _sources(connection, query)
    if not sources:
        return [], False
    connection.execute(*_lines_sql(query, sources, limit))
    lines: list[LogLine] = []
    size = 0
    while size < MOST_CHARACTERS:
        rows = connection.fetchmany(_FETCH)
        for seq, at, source, is_error, text in rows:
            kind, name, part, container = sources[source]
            stream = "stderr" if is_error else "stdout"
            lines.append(LogLine(seq, at / 1e6, kind, name, part, container, stream, text))
            size += len(text)
        if len(rows) < _FETCH:
            break
    more = len(lines) >= limit or size >= MOST_CHARACTERS
    if not query.after:
        lines.reverse()
    return lines, more


def _sources(connection: duckdb.DuckDBPyConnection, query: LogQuery) -> dict[int, tuple[str, str, str, str]]:
    wanted = {"kind": query.kind, "name": query.name, "part": query.part}
    given = {column: value for column, value in wanted.items() if value}
    where = " AND ".join(f"{column} = ?" for column in given) or "true"
    connection.execute(f"SELECT id, kind, name, part, container FROM {SOURCES} WHERE {where}", [*given.values()])
    return {row[0]: row[1:] for row in connection.fetchall()}


def _lines_sql(query: LogQuery, sources: Iterable[int], limit: int) -> tuple[str, list[Any]]:
    """Source numbers are written out: with a join instead, DuckDB reads the texts of all lines (120 ms for 6 ms)."""
    conditions: list[str] = []
    values: list[Any] = []
    if query.kind or query.name or query.part:
        conditions.append(f"source IN ({', '.join(str(int(source)) for source in sources)})")
    if query.after:
        conditions.append("seq > ?")
        values.append(query.after)
    if query.since:
        conditions.append("ts >= make_timestamp(?)")
        values.append(round(query.since * 1e6))
    if query.contains:
        conditions.append(
            "(contains(lower(line), lower(?)) OR contains(line, chr(27))"
            " AND contains(lower(regexp_replace(line, ?, '', 'g')), lower(?)))"
        )
        values += [query.contains, COLOURS, query.contains]
    where = " AND ".join(conditions) or "true"
    order = "ASC" if query.after else "DESC"
    return (
        f"SELECT seq, epoch_us(ts), source, is_error, line FROM {LINES} WHERE {where}"
        f" ORDER BY seq {order} LIMIT {int(limit)}",
        values,
    )


def read_cursor(connection: duckdb.DuckDBPyConnection, container: str) -> tuple[int | None, Position | None, str]:
    """Of a container: its source number, up to where its log is stored, and its unfinished lines."""
    connection.execute("BEGIN TRANSACTION READ ONLY")
    connection.execute(f"SELECT id FROM {SOURCES} WHERE container = ?", [container])
    source = connection.fetchone()
    connection.execute(
        f"SELECT inode, position, mark, pending FROM {CURSORS} WHERE container = ? ORDER BY seq DESC LIMIT 1",
        [container],
    )
    cursor = connection.fetchone()
    number = source[0] if source else None
    if cursor is None:
        return number, None, ""
    inode, offset, mark, pending = cursor
    return number, Position(inode, offset, bytes(mark)), pending
