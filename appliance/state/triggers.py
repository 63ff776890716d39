"""How far each trigger has seen. A mark is moved in the transaction that makes the run, so no start is lost or doubled.

`subject` is the uid of a workflow or of a repository, `trigger` names one of its triggers, such as
`schedule:0 3 * * *@Europe/Berlin`; what `mark` says is the trigger's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.state.db import Connection


@dataclass(frozen=True, slots=True)
class Head:
    """A workflow or repository, without its spec: for those who look every second."""

    uid: str
    kind: str
    generation: int


def heads(db: Connection) -> list[Head]:
    """Of what may start something: declared, not withdrawn and not being deleted; by kind and name."""
    rows = db.execute(
        "SELECT uid, kind, generation FROM resources WHERE kind IN ('workflow', 'repository')"
        " AND desired = 'running' AND deleting = 0 ORDER BY kind, name"
    )
    return [Head(row["uid"], row["kind"], row["generation"]) for row in rows]


def head(db: Connection, kind: str, name: str) -> Head | None:
    """Of the one of this name, where it may start something."""
    row = db.execute(
        "SELECT uid, generation FROM resources WHERE kind = ? AND name = ? AND desired = 'running' AND deleting = 0",
        (kind, name),
    ).fetchone()
    return Head(row["uid"], kind, row["generation"]) if row else None


def find(db: Connection, subject: str, trigger: str) -> str | None:
    """None: it is looked at for the first time."""
    row = db.execute("SELECT mark FROM trigger_marks WHERE subject = ? AND trigger = ?", (subject, trigger)).fetchone()
    return None if row is None else str(row["mark"])


def of(db: Connection, subject: str, prefix: str = "") -> dict[str, str]:
    """Trigger -> mark, of those whose name begins with `prefix`."""
    rows = db.execute(
        "SELECT trigger, mark FROM trigger_marks WHERE subject = ? AND substr(trigger, 1, ?) = ? ORDER BY trigger",
        (subject, len(prefix), prefix),
    )
    return {row["trigger"]: row["mark"] for row in rows}


def names(db: Connection, subject: str, *, but: Iterable[str] = ()) -> list[str]:
    """What is marked, less what begins with one of `but`: those may be many."""
    prefixes = list(but)
    unwanted = "".join(" AND substr(trigger, 1, ?) <> ?" for _ in prefixes)
    values = [value for prefix in prefixes for value in (len(prefix), prefix)]
    rows = db.execute(f"SELECT trigger FROM trigger_marks WHERE subject = ?{unwanted}", (subject, *values))
    return [row["trigger"] for row in rows]


def put(db: Connection, subject: str, trigger: str, mark: str, *, now: float) -> None:
    put_all(db, subject, {trigger: mark}, now=now)


def put_all(db: Connection, subject: str, marks: Mapping[str, str], *, now: float) -> None:
    db.executemany(
        "INSERT INTO trigger_marks (subject, trigger, mark, updated) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (subject, trigger) DO UPDATE SET mark = excluded.mark, updated = excluded.updated",
        [(subject, trigger, mark, now) for trigger, mark in marks.items()],
    )


def remove(db: Connection, subject: str, triggers: Iterable[str]) -> None:
    db.executemany(
        "DELETE FROM trigger_marks WHERE subject = ? AND trigger = ?", [(subject, trigger) for trigger in triggers]
    )


def keep_newest(db: Connection, subject: str, prefix: str, most: int) -> None:
    """Drop the oldest marks of a kind that grows with each message; oldest by their order, whatever the clock did."""
    db.execute(
        "DELETE FROM trigger_marks WHERE rowid IN (SELECT rowid FROM trigger_marks"
        " WHERE subject = ? AND substr(trigger, 1, ?) = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
        (subject, len(prefix), prefix, most),
    )


def subjects(db: Connection) -> set[str]:
    return {row["subject"] for row in db.execute("SELECT DISTINCT subject FROM trigger_marks")}


def forget(db: Connection, subject: str) -> None:
    """Everything is seen for the first time again."""
    db.execute("DELETE FROM trigger_marks WHERE subject = ?", (subject,))


def committed(db: Connection, dataset: str) -> list[str]:
    """Versions of a dataset (its uid) that can be read, the one that was committed first at the front."""
    rows = db.execute(
        "SELECT version FROM versions WHERE dataset = ? AND committed IS NOT NULL ORDER BY committed, rowid", (dataset,)
    )
    return [row["version"] for row in rows]
