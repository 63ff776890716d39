"""Workspaces: which volume is the head, and every snapshot of them in the order they were taken.

The head is one row; moving it, together with the snapshot that remembers where it was, is one transaction.
Order is by `rowid`: a clock that is set back must not change what `undo` means.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frozen moment of workspace `uid`: snapshot `id` of `volume` in the store. `created` in unix seconds."""

    id: str
    uid: str
    volume: str
    cause: str
    """One word: `manual`, `start`, `stop`, `rollback`, `undo`, ...; the last two stand for the moment before."""
    message: str
    created: float


def head(db: Connection, uid: str) -> str | None:
    """The volume that is the workspace now."""
    row = db.execute("SELECT volume FROM workspaces WHERE uid = ?", (uid,)).fetchone()
    return str(row["volume"]) if row else None


def set_head(db: Connection, uid: str, volume: str) -> None:
    db.execute(
        "INSERT INTO workspaces (uid, volume) VALUES (?, ?) ON CONFLICT (uid) DO UPDATE SET volume = excluded.volume",
        (uid, volume),
    )


def add(db: Connection, snapshot: Snapshot) -> None:
    db.execute(
        "INSERT INTO snapshots (id, uid, volume, cause, message, created) VALUES (?, ?, ?, ?, ?, ?)",
        (snapshot.id, snapshot.uid, snapshot.volume, snapshot.cause, snapshot.message, snapshot.created),
    )


def find(db: Connection, uid: str, snapshot_id: str) -> Snapshot | None:
    row = db.execute("SELECT * FROM snapshots WHERE uid = ? AND id = ?", (uid, snapshot_id)).fetchone()
    return _snapshot(row) if row else None


def of_workspace(db: Connection, uid: str) -> list[Snapshot]:
    """Oldest first."""
    rows = db.execute("SELECT * FROM snapshots WHERE uid = ? ORDER BY rowid", (uid,))
    return [_snapshot(row) for row in rows]


def uids(db: Connection) -> set[str]:
    """Of all workspaces that have a head."""
    return {row["uid"] for row in db.execute("SELECT uid FROM workspaces")}


def forget(db: Connection, uid: str) -> None:
    """Drop the head and all snapshots of a workspace."""
    db.execute("DELETE FROM snapshots WHERE uid = ?", (uid,))
    db.execute("DELETE FROM workspaces WHERE uid = ?", (uid,))


def _snapshot(row: Row) -> Snapshot:
    return Snapshot(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
