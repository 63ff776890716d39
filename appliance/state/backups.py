"""Backups that were begun: when, where to, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection, Row

RUNNING, SUCCEEDED, FAILED, CANCELED = "Running", "Succeeded", "Failed", "Canceled"


@dataclass(frozen=True, slots=True)
class Backup:
    """`bytes` were written to the target; `finished` is None while it runs, and for one that a kill has ended."""

    id: str
    target: str
    phase: str
    """`Running`, `Succeeded`, `Failed` or `Canceled`."""
    message: str
    bytes: int
    created: float
    finished: float | None


def add(db: Connection, backup: Backup) -> None:
    db.execute(
        "INSERT INTO backups (id, target, phase, message, bytes, created, finished) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (backup.id, backup.target, backup.phase, backup.message, backup.bytes, backup.created, backup.finished),
    )


def finish(db: Connection, backup_id: str, *, phase: str, message: str, size: int, now: float) -> None:
    db.execute(
        "UPDATE backups SET phase = ?, message = ?, bytes = ?, finished = ? WHERE id = ?",
        (phase, message, size, now, backup_id),
    )


def forget(db: Connection, target: str) -> None:
    """As if nothing had ever been backed up there."""
    db.execute("DELETE FROM backups WHERE target = ?", (target,))


def every(db: Connection) -> list[Backup]:
    """Newest first."""
    return [_backup(row) for row in db.execute("SELECT * FROM backups ORDER BY created DESC, rowid DESC")]


def find(db: Connection, backup_id: str) -> Backup | None:
    row = db.execute("SELECT * FROM backups WHERE id = ?", (backup_id,)).fetchone()
    return _backup(row) if row else None


def _backup(row: Row) -> Backup:
    return Backup(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
