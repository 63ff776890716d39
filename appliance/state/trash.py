"""What was deleted and can still be brought back: its row as it was, apart from the rows that are in force.

Its name is free again; what is kept under its uid, such as a workspace with its history, stays where it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from appliance.state import resources
from appliance.state.db import Connection, Row
from appliance.state.resources import Resource, Revision


@dataclass(frozen=True, slots=True)
class Deleted:
    """Times in unix seconds."""

    resource: Resource
    """As it is brought back: it does not run."""
    revisions: tuple[Revision, ...]
    """Newest first."""
    deleted: float
    until: float
    """From then on it may be destroyed."""
    bytes: int | None
    """What its volumes take; None: not counted yet."""
    going: bool
    """It is being destroyed, and cannot be brought back."""

    @property
    def uid(self) -> str:
        return self.resource.uid

    @property
    def name(self) -> str:
        return self.resource.name


def put(db: Connection, resource: Resource, *, now: float, until: float) -> None:
    """The resource's row goes and its name is free."""
    kept = replace(resource, desired="stopped", deleting=False, purging=False)
    past = [asdict(revision) for revision in resources.revisions(db, resource.uid)]
    resources.remove(db, resource.uid)
    db.execute(
        "INSERT INTO trash (uid, kind, name, resource, revisions, deleted, until) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (kept.uid, kept.kind, kept.name, json.dumps(asdict(kept)), json.dumps(past), now, until),
    )


def every(db: Connection) -> list[Deleted]:
    """Newest first."""
    return [_deleted(row) for row in db.execute("SELECT * FROM trash ORDER BY deleted DESC, rowid DESC")]


def find(db: Connection, kind: str, name: str) -> list[Deleted]:
    """By uid or name; of one name the newest first."""
    rows = db.execute(
        "SELECT * FROM trash WHERE kind = ? AND (uid = ? OR name = ?) ORDER BY deleted DESC, rowid DESC",
        (kind, name, name),
    )
    return [_deleted(row) for row in rows]


def of(db: Connection, uid: str) -> Deleted | None:
    row = db.execute("SELECT * FROM trash WHERE uid = ?", (uid,)).fetchone()
    return _deleted(row) if row else None


def move(db: Connection, uid: str, by: float) -> None:
    """Its times, by so many seconds: somebody has set the clock."""
    db.execute("UPDATE trash SET deleted = deleted + ?, until = until + ? WHERE uid = ?", (by, by, uid))


def set_going(db: Connection, uid: str) -> None:
    db.execute("UPDATE trash SET going = 1 WHERE uid = ?", (uid,))


def set_bytes(db: Connection, uid: str, count: int) -> None:
    db.execute("UPDATE trash SET bytes = ? WHERE uid = ?", (count, uid))


def remove(db: Connection, uid: str) -> None:
    db.execute("DELETE FROM trash WHERE uid = ?", (uid,))


def _deleted(row: Row) -> Deleted:
    return Deleted(
        resource=Resource(**json.loads(row["resource"])),
        revisions=_revisions(json.loads(row["revisions"])),
        deleted=row["deleted"],
        until=row["until"],
        bytes=row["bytes"],
        going=bool(row["going"]),
    )


def _revisions(rows: Iterable[dict[str, object]]) -> tuple[Revision, ...]:
    return tuple(Revision(**row) for row in rows)  # type: ignore[arg-type]
