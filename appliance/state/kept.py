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
        " reused = ? WHERE run = ? AND name = ? AND phase = 'Pending'",
        (
            job.phase,
            job.message,
            job.finished,
            json.dumps(job.inputs),
            json.dumps(job.outputs),
            job.image,
            job.cache_key,
            job.reused,
            run_id,
            job.name,
        ),
    )


def pin(db: Connection, run_id: str, name: str, *, pins: Mapping[str, Any], image: str = "") -> None:
    """What a job that has not begun is given, whatever its spec says; and its image's digest, where a replay asks."""
    db.execute(
        "UPDATE jobs SET pins = ?, image = ? WHERE run = ? AND name = ?", (json.dumps(pins), image, run_id, name)
    )


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


def ids(db: Connection) -> list[str]:
    """Of the runs that are over and kept to be resumed."""
    return [row["id"] for row in db.execute("SELECT id FROM runs WHERE kept")]
