"""What happened, in order, in the words a user reads. Written in the transaction of the change it tells of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.state.db import Connection, Row

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: float
    """Unix seconds."""
    kind: str
    name: str
    level: Level
    reason: str
    """One CamelCase word, such as `Started`; programs match on it."""
    message: str


def record(
    db: Connection, kind: str, name: str, reason: str, message: str, *, now: float, level: Level = "info"
) -> None:
    db.execute(
        "INSERT INTO events (at, kind, name, level, reason, message) VALUES (?, ?, ?, ?, ?, ?)",
        (now, kind, name, level, reason, message),
    )


def after(db: Connection, last: int, *, limit: int = 500) -> list[Event]:
    """Events with an id above `last`, oldest first."""
    rows = db.execute("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", (last, limit))
    return [_event(row) for row in rows]


def newest(db: Connection, *, kind: str = "", name: str = "", limit: int = 100) -> list[Event]:
    """The newest events of a kind or of one resource, oldest first."""
    where, values = "", list[object]()
    if kind:
        where, values = "WHERE kind = ?", [kind]
        if name:
            where, values = "WHERE kind = ? AND name = ?", [kind, name]
    rows = db.execute(f"SELECT * FROM events {where} ORDER BY id DESC LIMIT ?", [*values, limit])
    return [_event(row) for row in reversed(rows.fetchall())]


def last(db: Connection, kind: str, name: str, reason: str) -> Event | None:
    """The newest one of this reason."""
    row = db.execute(
        "SELECT * FROM events WHERE kind = ? AND name = ? AND reason = ? ORDER BY id DESC LIMIT 1", (kind, name, reason)
    ).fetchone()
    return _event(row) if row else None


def expire(db: Connection, before: float, limit: int) -> int:
    """Remove what happened before that time, the oldest first, at most `limit` of them. How many those were."""
    return db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ? ORDER BY at LIMIT ?)", (before, limit)
    ).rowcount


def _event(row: Row) -> Event:
    return Event(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
