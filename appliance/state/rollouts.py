"""What became of each revision of a deployment: what its replicas are made of, how far it came, and why it ended.

A row belongs to a generation of `revisions`. Its digest is stored, never computed again: a newer version of the
appliance, which may know more fields, must not take what runs for something else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from appliance.state.db import Connection, Row

Phase = Literal["Waiting", "Preparing", "Rolling", "Swapping", "Serving", "Superseded", "Undone", "Failed"]
OPEN: frozenset[str] = frozenset({"Waiting", "Preparing", "Rolling", "Swapping", "Failed"})
"""Under way: it may still come to serve. A `Failed` one has no earlier one to go back to and is tried again."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One row; times in unix seconds."""

    uid: str
    generation: int
    digest: str
    """What the containers of its replicas carry: equal where they are made of the very same."""
    cause: str
    """`applied`, `restarted`, `scaled` or `rolled back`."""
    copies: int | None
    """The generation that a rollback brought back."""
    pin: Mapping[str, Any] | None
    """What its replicas are made from, looked up once; None: not looked up yet."""
    phase: Phase
    message: str
    words: str
    """The last lines of what failed; may be empty."""
    created: float
    began: float | None
    """When it could first start replicas."""
    ready: float | None
    """When it was first ready as a whole."""
    ended: float | None
    """When it was superseded or undone."""


def add(
    db: Connection,
    uid: str,
    generation: int,
    *,
    digest: str,
    cause: str,
    now: float,
    copies: int | None = None,
    pin: Mapping[str, Any] | None = None,
) -> None:
    """A revision that was declared. Done again, it changes nothing."""
    db.execute(
        "INSERT OR IGNORE INTO rollouts (uid, generation, digest, cause, copies, pin, phase, created)"
        " VALUES (?, ?, ?, ?, ?, ?, 'Waiting', ?)",
        (uid, generation, digest, cause, copies, None if pin is None else json.dumps(pin), now),
    )


def find(db: Connection, uid: str, generation: int) -> Rollout | None:
    row = db.execute("SELECT * FROM rollouts WHERE uid = ? AND generation = ?", (uid, generation)).fetchone()
    return _rollout(row) if row else None


def every(db: Connection, uid: str) -> Iterator[Rollout]:
    """Newest first."""
    for row in db.execute("SELECT * FROM rollouts WHERE uid = ? ORDER BY generation DESC", (uid,)):
        yield _rollout(row)


def set_pin(db: Connection, uid: str, generation: int, pin: Mapping[str, Any] | None, *, began: float | None) -> None:
    """What its replicas are made from, and since when it may start any; no pin: it has to be looked up again."""
    db.execute(
        "UPDATE rollouts SET pin = ?, began = ? WHERE uid = ? AND generation = ?",
        (None if pin is None else json.dumps(pin), began, uid, generation),
    )


def set_phase(
    db: Connection, uid: str, generation: int, phase: Phase, *, now: float, message: str = "", words: str = ""
) -> None:
    """The first `Serving` sets `ready`; `Superseded` and `Undone` set `ended`, any other phase takes it back."""
    db.execute(
        "UPDATE rollouts SET phase = ?, message = ?, words = ?,"
        " ready = CASE WHEN ? THEN coalesce(ready, ?) ELSE ready END, ended = CASE WHEN ? THEN ? ELSE NULL END"
        " WHERE uid = ? AND generation = ?",
        (
            *(phase, message, words),
            *(phase == "Serving", now, phase in ("Superseded", "Undone"), now),
            *(uid, generation),
        ),
    )


def held(rows: Sequence[Rollout]) -> list[Rollout]:
    """Of all rows, newest first: what serves or may come to serve, and what served before, where a rollback goes."""
    found = [row for row in rows if row.phase in OPEN or row.phase == "Serving"]
    earlier = before(rows)
    return found if earlier is None or earlier in found else [*found, earlier]


def before(rows: Sequence[Rollout]) -> Rollout | None:
    """Of all rows, newest first: the last that was ready and was made of something else than what serves now.

    Where nothing serves, than what was declared last. One that never had replicas has no pin, and is no way back.
    """
    now = next((row for row in rows if row.phase == "Serving"), next(iter(rows), None))
    served = (row for row in rows if row.ready is not None and row.pin is not None)
    return next((row for row in served if now and row.digest != now.digest), None)


def remove(db: Connection, uid: str, generation: int) -> None:
    db.execute("DELETE FROM rollouts WHERE uid = ? AND generation = ?", (uid, generation))


def mark_stopped(db: Connection, uid: str, container: str, at: float | None) -> bool:
    """The replica in this container, an id, is about to be stopped from outside; None takes that back. True: it is one.

    It stands in the deployment's status, beside what is shown of the replica.
    """
    row = db.execute("SELECT status FROM resources WHERE uid = ?", (uid,)).fetchone()
    document = json.loads(row["status"]) if row else {}
    found = [one for one in document.get("replicas", ()) if one.get("container") == container]
    for one in found:
        one["stopped"] = at
    if found:
        db.execute("UPDATE resources SET status = ? WHERE uid = ?", (json.dumps(document), uid))
    return bool(found)


def rest(db: Connection, uid: str, generation: int) -> None:
    """Nothing of it has to run: its time begins anew when it has to again."""
    db.execute("UPDATE rollouts SET began = NULL WHERE uid = ? AND generation = ?", (uid, generation))


def _rollout(row: Row) -> Rollout:
    return Rollout(
        uid=row["uid"],
        generation=row["generation"],
        digest=row["digest"],
        cause=row["cause"],
        copies=row["copies"],
        pin=None if row["pin"] is None else json.loads(row["pin"]),
        phase=row["phase"],
        message=row["message"],
        words=row["words"],
        created=row["created"],
        began=row["began"],
        ready=row["ready"],
        ended=row["ended"],
    )
