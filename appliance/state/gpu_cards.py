"""Cards that nothing new is put on, what went wrong on cards, and how long work of one name took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.state.db import Connection

KEPT_FAULTS = 1000
KEPT_DURATIONS = 10
"""Of one name."""
KEPT_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Drained:
    uuid: str
    """Of a GPU, or of an instance of one."""
    why: str
    since: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class FaultRow:
    at: float
    uuid: str
    kind: str
    words: str
    xid: int | None
    gi: int | None


def drain(db: Connection, one: Drained) -> bool:
    """False: it was drained before; the first reason stays."""
    done = db.execute("INSERT OR IGNORE INTO gpu_cards VALUES (?, ?, ?)", (one.uuid, one.why, one.since))
    return done.rowcount == 1


def resume(db: Connection, uuid: str) -> bool:
    """False: it was not drained."""
    return db.execute("DELETE FROM gpu_cards WHERE uuid = ?", (uuid,)).rowcount == 1


def drained(db: Connection) -> dict[str, Drained]:
    """By UUID."""
    return {row["uuid"]: Drained(**row) for row in db.execute("SELECT * FROM gpu_cards ORDER BY since")}


def add_fault(db: Connection, one: FaultRow) -> None:
    """The newest KEPT_FAULTS stay."""
    db.execute(
        "INSERT INTO gpu_faults (at, uuid, kind, xid, gi, words) VALUES (?, ?, ?, ?, ?, ?)",
        (one.at, one.uuid, one.kind, one.xid, one.gi, one.words),
    )
    db.execute("DELETE FROM gpu_faults WHERE id <= (SELECT max(id) FROM gpu_faults) - ?", (KEPT_FAULTS,))


def newest_faults(db: Connection) -> list[FaultRow]:
    """The newest of each card, oldest first."""
    found = db.execute(
        "SELECT at, uuid, kind, words, xid, gi FROM gpu_faults WHERE id IN (SELECT max(id) FROM gpu_faults"
        " GROUP BY uuid) ORDER BY id"
    )
    return [FaultRow(*row) for row in found]


def add_duration(db: Connection, key: str, seconds: float) -> None:
    """`key` names what is done again and again, such as a job of a workflow."""
    db.execute("INSERT INTO gpu_durations (key, seconds) VALUES (?, ?)", (key, seconds))
    db.execute(
        "DELETE FROM gpu_durations WHERE key = ? AND id NOT IN"
        " (SELECT id FROM gpu_durations WHERE key = ? ORDER BY id DESC LIMIT ?)",
        (key, key, KEPT_DURATIONS),
    )
    db.execute(
        "DELETE FROM gpu_durations WHERE id <= (SELECT max(id) FROM gpu_durations) - ?",
        (KEPT_DURATIONS * KEPT_NAMES,),
    )


def durations(db: Connection, key: str) -> Sequence[float]:
    """Seconds that it took lately."""
    return [row["seconds"] for row in db.execute("SELECT seconds FROM gpu_durations WHERE key = ?", (key,))]
