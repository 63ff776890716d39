"""Which job has made what a key stands for. The outputs themselves are in that job's row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Entry:
    """Times are unix seconds."""

    key: str
    run: str
    """Id."""
    job: str
    created: float
    used: float
    """The last time; it only says what goes first when it is too much."""
    bytes: int | None
    """That its volumes hold; None: not measured yet."""


def put(db: Connection, key: str, run: str, job: str, *, now: float) -> None:
    """The newest one that made it counts: an older entry of this key is replaced."""
    db.execute(
        "INSERT OR REPLACE INTO step_cache (key, run, job, created, used) VALUES (?, ?, ?, ?, ?)",
        (key, run, job, now, now),
    )


def find(db: Connection, key: str) -> Entry | None:
    row = db.execute("SELECT * FROM step_cache WHERE key = ?", (key,)).fetchone()
    return _entry(row) if row else None


def touch(db: Connection, entry: Entry, *, now: float) -> bool:
    """It is used once more. False: it is not there any more, or stands for another job's outputs."""
    done = db.execute(
        "UPDATE step_cache SET used = ? WHERE key = ? AND run = ? AND job = ?", (now, entry.key, entry.run, entry.job)
    )
    return done.rowcount == 1


def forget(db: Connection, entry: Entry) -> bool:
    """False: it is gone already, or stands for another job's outputs."""
    done = db.execute("DELETE FROM step_cache WHERE key = ? AND run = ? AND job = ?", (entry.key, entry.run, entry.job))
    return done.rowcount == 1


def forget_run(db: Connection, run: str) -> int:
    """All that jobs of this run have made. How many those were."""
    return db.execute("DELETE FROM step_cache WHERE run = ?", (run,)).rowcount


def forget_volumes(db: Connection) -> int:
    """All whose outputs have a volume among them. How many those were."""
    return db.execute(
        "DELETE FROM step_cache WHERE rowid IN (SELECT step_cache.rowid FROM step_cache JOIN jobs"
        " ON jobs.run = step_cache.run AND jobs.name = step_cache.job WHERE instr(jobs.outputs, '\"volume\"'))"
    ).rowcount


def expire(db: Connection, before: float) -> int:
    """Forget what was made before that time, however often it was used. How many those were."""
    return db.execute("DELETE FROM step_cache WHERE created < ?", (before,)).rowcount


def every(db: Connection) -> list[Entry]:
    """Least recently used first."""
    return [_entry(row) for row in db.execute("SELECT * FROM step_cache ORDER BY used, created, rowid")]


def unmeasured(db: Connection) -> list[Entry]:
    return [_entry(row) for row in db.execute("SELECT * FROM step_cache WHERE bytes IS NULL")]


def holding(db: Connection) -> list[Entry]:
    """Those whose volumes are known to hold something, least recently used first."""
    return [_entry(row) for row in db.execute("SELECT * FROM step_cache WHERE bytes > 0 ORDER BY used, created, rowid")]


def volumes(db: Connection, run: str = "") -> list[dict[str, Any]]:
    """Outputs, with a volume among them, that are remembered; of one run, or of all."""
    rows = db.execute(
        "SELECT jobs.outputs FROM step_cache JOIN jobs ON jobs.run = step_cache.run AND jobs.name = step_cache.job"
        " WHERE (? = '' OR step_cache.run = ?) AND instr(jobs.outputs, '\"volume\"')",
        (run, run),
    )
    return [json.loads(row["outputs"]) for row in rows]


def run_ids(db: Connection) -> list[str]:
    """Of the runs whose jobs' outputs are remembered."""
    return [row["run"] for row in db.execute("SELECT DISTINCT run FROM step_cache")]


def measured(db: Connection, entry: Entry, size: int) -> None:
    db.execute("UPDATE step_cache SET bytes = ? WHERE key = ? AND run = ?", (size, entry.key, entry.run))


def _entry(row: Row) -> Entry:
    return Entry(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
