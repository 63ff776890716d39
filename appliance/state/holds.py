"""Holds: what must not vanish, on whose word. Many owners may hold one thing; it is free when the last one lets go.

A target is `snapshot/ID` or `version/DATASETUID/VERSION`; an owner is `user`, `run/ID`, or what else has a life of
its own and releases its holds when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Hold:
    target: str
    owner: str
    reason: str
    """In words for a person."""
    created: float


def put(db: Connection, hold: Hold) -> None:
    """One that exists takes over the reason."""
    db.execute(
        "INSERT INTO holds (target, owner, reason, created) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (target, owner) DO UPDATE SET reason = excluded.reason",
        (hold.target, hold.owner, hold.reason, hold.created),
    )


def release(db: Connection, target: str, owner: str) -> bool:
    """False: there is no such hold."""
    return db.execute("DELETE FROM holds WHERE target = ? AND owner = ?", (target, owner)).rowcount == 1


def release_all(db: Connection, owner: str) -> None:
    """Everything this owner holds: it has ended."""
    db.execute("DELETE FROM holds WHERE owner = ?", (owner,))


def forget(db: Connection, target: str) -> None:
    """The target is gone, and with it whatever held it."""
    db.execute("DELETE FROM holds WHERE target = ?", (target,))


def of(db: Connection, target: str) -> list[Hold]:
    """Oldest first."""
    rows = db.execute("SELECT * FROM holds WHERE target = ? ORDER BY created, rowid", (target,))
    return [_hold(row) for row in rows]


def every(db: Connection, prefix: str = "") -> dict[str, list[Hold]]:
    """Target -> its holds, of all targets that begin with `prefix`, such as `snapshot/`."""
    rows = db.execute(
        "SELECT * FROM holds WHERE substr(target, 1, ?) = ? ORDER BY created, rowid", (len(prefix), prefix)
    )
    found: dict[str, list[Hold]] = {}
    for row in rows:
        found.setdefault(row["target"], []).append(_hold(row))
    return found


def _hold(row: Row) -> Hold:
    return Hold(row["target"], row["owner"], row["reason"], row["created"])
