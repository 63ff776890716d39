"""Workflow runs and their jobs. A job's phase moves under a guard, so no job is started twice."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.errors import NotFound
from appliance.state.db import Connection, Row

FINAL_PHASES = frozenset({"Succeeded", "Failed", "Error", "Skipped", "Omitted", "Canceled"})


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a workflow. `number` counts within the workflow, from 1; times are unix seconds."""

    id: str
    number: int
    workflow_uid: str
    workflow: str
    spec: dict[str, Any]
    inputs: dict[str, Any]
    phase: str
    message: str
    cancel: bool
    created: float
    started: float | None
    finished: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """One node of a run. `container` is the engine's name for its container, set before that is created."""

    run: str
    name: str
    position: int
    phase: str
    message: str
    container: str
    exit_code: int | None
    started: float | None
    finished: float | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def create(
    db: Connection,
    *,
    workflow_uid: str,
    workflow: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Any],
    jobs: Sequence[str],
    now: float,
) -> Run:
    """A new run with all its jobs Pending, numbered after the newest run of that workflow name.

    By name and not by uid: logs are kept under `WORKFLOW.NUMBER`, also of a workflow that was deleted meanwhile.
    """
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM runs WHERE workflow = ?", (workflow,)).fetchone()
    run_id = secrets.token_hex(16)
    db.execute(
        "INSERT INTO runs (id, number, workflow_uid, workflow, spec, inputs, phase, created)"
        " VALUES (?, ?, ?, ?, ?, ?, 'Pending', ?)",
        (run_id, last + 1, workflow_uid, workflow, json.dumps(spec), json.dumps(inputs), now),
    )
    db.executemany(
        "INSERT INTO jobs (run, name, position, phase) VALUES (?, ?, ?, 'Pending')",
        [(run_id, name, position) for position, name in enumerate(jobs)],
    )
    return get(db, run_id)


def get(db: Connection, run_id: str) -> Run:
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"no run {run_id!r}", hint="`appliance get runs` lists the runs")
    return _run(row)


def by_number(db: Connection, workflow: str, number: int) -> Run:
    row = db.execute(
        "SELECT * FROM runs WHERE workflow = ? AND number = ? ORDER BY created DESC", (workflow, number)
    ).fetchone()
    if row is None:
        raise NotFound(
            f"workflow {workflow!r} has no run {number}", hint=f"`appliance workflow runs {workflow}` lists them"
        )
    return _run(row)


def newest(db: Connection, *, workflow: str = "", limit: int = 100) -> list[Run]:
    """Newest first."""
    where, values = ("WHERE workflow = ?", [workflow]) if workflow else ("", list[str]())
    rows = db.execute(f"SELECT * FROM runs {where} ORDER BY created DESC, number DESC LIMIT ?", [*values, limit])
    return [_run(row) for row in rows]


def unfinished(db: Connection) -> list[Run]:
    """Oldest first."""
    return [_run(row) for row in db.execute("SELECT * FROM runs WHERE finished IS NULL ORDER BY created, number")]


def unfinished_ids(db: Connection) -> list[str]:
    """Oldest first; without the specs, for those who only want to know who is there."""
    return [row["id"] for row in db.execute("SELECT id FROM runs WHERE finished IS NULL ORDER BY created, number")]


def active_jobs(db: Connection) -> int:
    """How many jobs of all runs are starting or running at this moment."""
    (count,) = db.execute(
        "SELECT count(*) FROM runs JOIN jobs ON jobs.run = runs.id"
        " WHERE runs.finished IS NULL AND jobs.phase IN ('Starting', 'Running')"
    ).fetchone()
    return int(count)


def count_by_phase(db: Connection) -> dict[str, int]:
    return {row["phase"]: row["n"] for row in db.execute("SELECT phase, count(*) AS n FROM runs GROUP BY phase")}


def failed_since(db: Connection, since: float, *, limit: int) -> list[Run]:
    """Newest first."""
    rows = db.execute(
        "SELECT * FROM runs WHERE phase IN ('Failed', 'Error') AND created >= ? ORDER BY created DESC LIMIT ?",
        (since, limit),
    )
    return [_run(row) for row in rows]


def jobs(db: Connection, run_id: str) -> list[Job]:
    """In the order of the spec."""
    return [_job(row) for row in db.execute("SELECT * FROM jobs WHERE run = ? ORDER BY position", (run_id,))]


def readers(db: Connection, ref: str) -> list[tuple[Run, Job]]:
    """Jobs, of any age, that were given the dataset version `NAME:VERSION` as an input; oldest first."""
    rows = db.execute(
        "SELECT jobs.* FROM jobs JOIN runs ON runs.id = jobs.run WHERE instr(jobs.inputs, ?)"
        " ORDER BY runs.created, runs.number, jobs.position",
        (json.dumps({"id": ref})[1:-1],),
    )
    found = [job for job in map(_job, rows) if any(given.get("id") == ref for given in job.inputs.values())]
    return [(get(db, job.run), job) for job in found]


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


def move_job(
    db: Connection,
    run_id: str,
    name: str,
    before: str,
    after: str,
    *,
    message: str = "",
    container: str | None = None,
    exit_code: int | None = None,
    started: float | None = None,
    finished: float | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
) -> bool:
    """Move a job from one phase to another. False: it was not in `before`, and nothing was written."""
    done = db.execute(
        "UPDATE jobs SET phase = ?, message = ?, container = coalesce(?, container),"
        " exit_code = coalesce(?, exit_code), started = coalesce(started, ?), finished = coalesce(finished, ?),"
        " inputs = coalesce(?, inputs), outputs = coalesce(?, outputs)"
        " WHERE run = ? AND name = ? AND phase = ?",
        (
            after,
            message,
            container,
            exit_code,
            started,
            finished,
            None if inputs is None else json.dumps(inputs),
            None if outputs is None else json.dumps(outputs),
            run_id,
            name,
            before,
        ),
    )
    return done.rowcount == 1


def _run(row: Row) -> Run:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    return Run(
        **{
            **values,
            "spec": json.loads(row["spec"]),
            "inputs": json.loads(row["inputs"]),
            "cancel": bool(row["cancel"]),
        }
    )


def _job(row: Row) -> Job:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    return Job(**{**values, "inputs": json.loads(row["inputs"]), "outputs": json.loads(row["outputs"])})
