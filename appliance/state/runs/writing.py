"""Runs are made and moved."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from appliance.state.db import Connection
from appliance.state.runs.reading import get
from appliance.state.runs.records import Run


def create(
    db: Connection,
    *,
    workflow_uid: str,
    workflow: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Any],
    jobs: Sequence[str],
    now: float,
    cause: str = "manual",
    parent: str = "",
    mode: str = "",
    source: str = "",
    cache: bool = True,
) -> Run:
    """A new run with all its jobs Pending, numbered after every run that this workflow name has ever had.

    By name and not by uid: logs are kept under `WORKFLOW.NUMBER`, also of a workflow or a run that was deleted since.
    """
    (number,) = db.execute(
        "INSERT INTO run_numbers (workflow, last) VALUES (?, 1)"
        " ON CONFLICT (workflow) DO UPDATE SET last = last + 1 RETURNING last",
        (workflow,),
    ).fetchone()
    run_id = secrets.token_hex(16)
    db.execute(
        "INSERT INTO runs"
        " (id, number, workflow_uid, workflow, spec, inputs, phase, created, cause, parent, mode, source, cache)"
        " VALUES (?, ?, ?, ?, ?, ?, 'Pending', ?, ?, ?, ?, ?, ?)",
        (
            run_id,
            number,
            workflow_uid,
            workflow,
            json.dumps(spec),
            json.dumps(inputs),
            now,
            cause,
            parent,
            mode,
            source,
            cache,
        ),
    )
    db.executemany(
        "INSERT INTO jobs (run, name, position, phase) VALUES (?, ?, ?, 'Pending')",
        [(run_id, name, position) for position, name in enumerate(jobs)],
    )
    return get(db, run_id)


def set_phase(
    db: Connection,
    run_id: str,
    phase: str,
    *,
    message: str = "",
    started: float | None = None,
    finished: float | None = None,
) -> None:
    """Times given as None keep what is stored."""
    db.execute(
        "UPDATE runs SET phase = ?, message = ?, started = coalesce(started, ?), finished = coalesce(finished, ?)"
        " WHERE id = ?",
        (phase, message, started, finished, run_id),
    )


def set_inputs(db: Connection, run_id: str, inputs: Mapping[str, Any]) -> None:
    db.execute("UPDATE runs SET inputs = ? WHERE id = ?", (json.dumps(inputs), run_id))


def request_cancel(db: Connection, run_id: str) -> None:
    db.execute("UPDATE runs SET cancel = 1 WHERE id = ? AND finished IS NULL", (run_id,))
