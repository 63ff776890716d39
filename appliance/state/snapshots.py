"""Workspaces: which volume is the head, and every snapshot of them in the order they were taken.

The head is one row; moving it, together with the snapshot that remembers where it was, is one transaction.
Order is by `rowid`: a clock that is set back must not change what `undo` means.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    author: str = ""
    """Who asked for it: a user's name where it is known, else the door (`cli`, `api`, `tui`), `appliance` by itself."""
    subject: str = ""
    """What it belongs to: `session 3` of the notebook, or a run's name; empty where it stands for itself."""
    bytes: int | None = None
    """Bytes written since the moment before; None where the store cannot tell."""
    undone: bool = False
    """Of a `rollback`: an undo has gone back to it, so the next undo goes further back."""


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
        "INSERT INTO snapshots (id, uid, volume, cause, message, created, author, subject, bytes, undone)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            snapshot.id,
            snapshot.uid,
            snapshot.volume,
            snapshot.cause,
            snapshot.message,
            snapshot.created,
            snapshot.author,
            snapshot.subject,
            snapshot.bytes,
            snapshot.undone,
        ),
    )


def set_undone(db: Connection, snapshot_id: str) -> None:
    """An undo goes back to this moment."""
    db.execute("UPDATE snapshots SET undone = 1 WHERE id = ?", (snapshot_id,))


def remove(db: Connection, uid: str, snapshot_ids: Iterable[str]) -> None:
    """Drop moments from the timeline. Their bytes in the store are the caller's to free afterwards."""
    db.executemany("DELETE FROM snapshots WHERE uid = ? AND id = ?", [(uid, item) for item in snapshot_ids])


def find(db: Connection, uid: str, snapshot_id: str) -> Snapshot | None:
    row = db.execute("SELECT * FROM snapshots WHERE uid = ? AND id = ?", (uid, snapshot_id)).fetchone()
    return _snapshot(row) if row else None


def of_workspace(db: Connection, uid: str) -> list[Snapshot]:
    """Oldest first."""
    rows = db.execute("SELECT * FROM snapshots WHERE uid = ? ORDER BY rowid", (uid,))
    return [_snapshot(row) for row in rows]


def newest(db: Connection, uid: str) -> Snapshot | None:
    row = db.execute("SELECT * FROM snapshots WHERE uid = ? ORDER BY rowid DESC LIMIT 1", (uid,)).fetchone()
    return _snapshot(row) if row else None


def count(db: Connection, uid: str) -> int:
    """How many moments a workspace has."""
    (found,) = db.execute("SELECT count(*) FROM snapshots WHERE uid = ?", (uid,)).fetchone()
    return int(found)


def every(db: Connection) -> list[Snapshot]:
    """Of all workspaces, oldest first."""
    return [_snapshot(row) for row in db.execute("SELECT * FROM snapshots ORDER BY rowid")]


def written_since(db: Connection, at: float) -> list[tuple[float, int | None]]:
    """When, and bytes written, of all moments from `at` on."""
    rows = db.execute("SELECT created, bytes FROM snapshots WHERE created >= ? ORDER BY rowid", (at,))
    return [(row["created"], row["bytes"]) for row in rows]


def oldest(db: Connection) -> float | None:
    """When the oldest moment of all workspaces was taken."""
    (found,) = db.execute("SELECT min(created) FROM snapshots").fetchone()
    return None if found is None else float(found)


def set_origin(db: Connection, uid: str, origin: str) -> None:
    """A fork remembers where it is from: `UID@SNAPSHOT`."""
    db.execute("UPDATE workspaces SET origin = ? WHERE uid = ?", (origin, uid))


def origin(db: Connection, uid: str) -> str:
    """`UID@SNAPSHOT` of a fork, else empty."""
    row = db.execute("SELECT origin FROM workspaces WHERE uid = ?", (uid,)).fetchone()
    return str(row["origin"]) if row else ""


def heads(db: Connection) -> dict[str, str]:
    """Workspace -> the volume that it is now."""
    return {row["uid"]: row["volume"] for row in db.execute("SELECT uid, volume FROM workspaces")}


def uids(db: Connection) -> set[str]:
    """Of all workspaces that have a head."""
    return {row["uid"] for row in db.execute("SELECT uid FROM workspaces")}


def forget(db: Connection, uid: str) -> None:
    """Drop the head and all snapshots of a workspace."""
    db.execute("DELETE FROM snapshots WHERE uid = ?", (uid,))
    db.execute("DELETE FROM workspaces WHERE uid = ?", (uid,))


def _snapshot(row: Row) -> Snapshot:
    found = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    return Snapshot(**{**found, "undone": bool(found["undone"])})
