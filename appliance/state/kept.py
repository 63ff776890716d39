"""Runs that are over and kept for a while, and what a run that goes on from another one is given of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from appliance.state.db import Connection
from appliance.state.runs import Job


def keep(db: Connection, run_id: str, kept: bool) -> None:
    """Its volumes stay so that it can be resumed, or no longer do."""
    db.execute("UPDATE runs SET kept = ? WHERE id = ?", (kept, run_id))


def let_go(db: Connection, before: float) -> int:
    """Runs that ended before that time are kept no longer. How many those were."""
    return db.execute("UPDATE runs SET kept = 0 WHERE kept AND finished < ?", (before,)).rowcount


def take_over(db: Connection, run_id: str, job: Job) -> None:
    """Make the Pending job of the same name what `job` is: it has ended, in another run, and is not run again."""
    db.execute(
        "UPDATE jobs SET phase = ?, message = ?, finished = ?, inputs = ?, outputs = ?, image = ?, cache_key = ?,"
        " reused = ?, commit_id = ? WHERE run = ? AND name = ? AND phase = 'Pending'",
        (
            job.phase,
            job.message,
            job.finished,
            json.dumps(job.inputs),
            json.dumps(job.outputs),
            job.image,
            job.cache_key,
            job.reused,
            job.commit_id,
            run_id,
            job.name,
        ),
    )


def pin(
    db: Connection, run_id: str, name: str, *, pins: Mapping[str, Any], image: str = "", commit_id: str = ""
) -> None:
    """What a job that has not begun is given, whatever its spec says; its image's digest, its checkout's commit.

    Empty: what its spec says.
    """
    db.execute(
        "UPDATE jobs SET pins = ?, image = ?, commit_id = ? WHERE run = ? AND name = ?",
        (json.dumps(pins), image, commit_id, run_id, name),
    )


def by_run(db: Connection) -> dict[str, list[dict[str, Any]]]:
    """Inputs, outputs and pins, with a volume in them, of the jobs of each run that is over and kept; oldest first."""
    rows = db.execute(
        "SELECT jobs.run, jobs.inputs, jobs.outputs, jobs.pins FROM runs JOIN jobs ON jobs.run = runs.id"
        " WHERE kept AND runs.finished IS NOT NULL"
        " AND instr(jobs.inputs || jobs.outputs || jobs.pins, '\"volume\"') ORDER BY runs.finished, runs.rowid"
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["run"], []).extend(json.loads(row[key]) for key in ("inputs", "outputs", "pins"))
    return found


def of_open(db: Connection) -> list[dict[str, Any]]:
    """The same of the runs that are not over."""
    rows = db.execute(
        "SELECT inputs, outputs, pins FROM jobs WHERE run IN (SELECT id FROM runs WHERE finished IS NULL)"
        " AND instr(inputs || outputs || pins, '\"volume\"')"
    )
    return [json.loads(row[key]) for row in rows for key in ("inputs", "outputs", "pins")]


def documents(db: Connection, text: str = "", *, but: str = "") -> list[dict[str, Any]]:
    """Inputs, outputs and pins of the jobs of all runs that are kept, or not over; of these the run `but` left out.

    Only those with `text` in them; empty: with a volume.
    """
    rows = db.execute(
        "SELECT inputs, outputs, pins FROM jobs WHERE run IN"
        " (SELECT id FROM runs WHERE finished IS NULL AND id != ? UNION SELECT id FROM runs WHERE kept)"
        " AND instr(inputs || outputs || pins, ?)",
        (but, text or '"volume"'),
    )
    return [json.loads(row[key]) for row in rows for key in ("inputs", "outputs", "pins")]


def given(db: Connection, text: str) -> list[tuple[str, dict[str, Any]]]:
    """Run, by id, and the inputs, outputs and pins with `text` in them of its jobs: of runs that are open or kept."""
    rows = db.execute(
        "SELECT run, inputs, outputs, pins FROM jobs WHERE run IN"
        " (SELECT id FROM runs WHERE finished IS NULL UNION SELECT id FROM runs WHERE kept)"
        " AND instr(inputs || outputs || pins, ?) ORDER BY rowid",
        (text,),
    )
    return [(row["run"], json.loads(row[key])) for row in rows for key in ("inputs", "outputs", "pins")]


def ids(db: Connection) -> list[str]:
    """Of the runs that are over and kept to be resumed."""
    return [row["id"] for row in db.execute("SELECT id FROM runs WHERE kept")]
