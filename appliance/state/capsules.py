"""What is kept of jobs that failed, and why they did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Capsule:
    run: str
    """Id."""
    job: str
    created: float
    """Unix seconds."""
    reason: str
    """Why the job ended, and what could not be kept, in words."""
    log: list[str]
    """Its last lines, secrets blanked."""
    inputs: dict[str, Any]
    """Documents, as in a job's row."""
    outputs: dict[str, Any]
    """Output -> document of the volume with what the job had written."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a capsule keeps from being destroyed: all but its texts, which are long and which few want."""

    run: str
    job: str
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def put(db: Connection, capsule: Capsule) -> None:
    """One that exists is replaced."""
    db.execute(
        "INSERT OR REPLACE INTO capsules (run, job, created, reason, log, inputs, outputs)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            capsule.run,
            capsule.job,
            capsule.created,
            capsule.reason,
            *(json.dumps(value) for value in (capsule.log, capsule.inputs, capsule.outputs)),
        ),
    )


def find(db: Connection, run: str, job: str) -> Capsule | None:
    row = db.execute("SELECT * FROM capsules WHERE run = ? AND job = ?", (run, job)).fetchone()
    return _capsule(row) if row else None


def has(db: Connection, run: str, job: str) -> bool:
    return db.execute("SELECT 1 FROM capsules WHERE run = ? AND job = ?", (run, job)).fetchone() is not None


def every(db: Connection, *, run: str = "", or_naming: bool = False) -> list[Held]:
    """Newest first; those of one run, or also those with an input of that run."""
    rows = db.execute(
        "SELECT run, job, inputs, outputs FROM capsules WHERE ? = '' OR run = ? OR (? AND instr(inputs, ?))"
        " ORDER BY created DESC, rowid DESC",
        (run, run, or_naming, run),
    )
    return [Held(row["run"], row["job"], json.loads(row["inputs"]), json.loads(row["outputs"])) for row in rows]


def touch(db: Connection, run: str, job: str, now: float) -> None:
    """It is looked into: its time begins again."""
    db.execute("UPDATE capsules SET created = ? WHERE run = ? AND job = ?", (now, run, job))


def remove(db: Connection, run: str, job: str) -> bool:
    """False: there is none."""
    return db.execute("DELETE FROM capsules WHERE run = ? AND job = ?", (run, job)).rowcount == 1


def expire(db: Connection, before: float) -> int:
    """Remove those made before that time. How many those were."""
    return db.execute("DELETE FROM capsules WHERE created < ?", (before,)).rowcount


def by_workflow(db: Connection) -> dict[str, list[tuple[str, int]]]:
    """Uid of each workflow -> its runs that have any, by id, and how many: the run that was added to last first."""
    rows = db.execute(
        "SELECT runs.workflow_uid, capsules.run, count(*) AS n FROM capsules JOIN runs ON runs.id = capsules.run"
        " GROUP BY capsules.run ORDER BY max(capsules.created) DESC, max(capsules.rowid) DESC"
    )
    found: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        found.setdefault(row["workflow_uid"], []).append((row["run"], row["n"]))
    return found


def remove_of(db: Connection, run: str) -> int:
    """All of one run. How many those were."""
    return db.execute("DELETE FROM capsules WHERE run = ?", (run,)).rowcount


def _capsule(row: Row) -> Capsule:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    documents = {key: json.loads(row[key]) for key in ("log", "inputs", "outputs")}
    return Capsule(**{**values, **documents})
