"""Workflow runs and their jobs. A job's phase moves under a guard, so no job is started twice."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
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
    cause: str = "manual"
    """What started it: manual, resume, replay, schedule, dataset, folder, spec, git or webhook."""
    parent: str = ""
    """Id of the run that it resumes or replays."""
    mode: str = ""
    """`resume`, `replay` or empty."""
    source: str = ""
    """What its trigger saw, in words: a commit, a dataset version, a tick."""
    cache: bool = True
    """False: all of its jobs run; what they make is given to later runs as ever."""
    kept: bool = False
    """It is over, and its volumes stay for a while so that it can be resumed."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A run that is not over, as little of it as a newer one of its workflow has to know."""

    id: str
    workflow_uid: str
    workflow: str
    number: int
    cancel: bool
    finished: float | None = None


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
    attempt: int = 1
    """Counts from 1; a retry is the next."""
    not_before: float | None = None
    """Unix time before which the next attempt does not start."""
    image: str = ""
    """Digest of the image that it ran, as the engine identifies it; empty before that is known."""
    cache_key: str = ""
    reused: str = ""
    """`WORKFLOW.NUMBER/JOB` whose outputs it was given in place of running; empty: it ran itself."""
    begun: str = ""
    """What an action of the daemon's own has set going and waits for, in its own words; empty: nothing yet."""
    pins: dict[str, Any] = field(default_factory=dict)
    """Input -> document that it is given whatever its spec says: of a run that resumes or replays another."""
    commit_id: str = ""
    """Of a checkout that is over: the commit that it took. Before its end: the one that it has to take, whatever its
    ref means, in a run that resumes or replays another. Empty: not known, and up to its ref."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a job stands, without what it was given and what it made."""

    name: str
    phase: str
    message: str = ""
    attempt: int = 1
    not_before: float | None = None


_HEAD = ", ".join("'{}' AS spec" if each.name == "spec" else each.name for each in fields(Run))
_MARK = ", ".join(each.name for each in fields(Mark))


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
    """A new run with all its jobs Pending, numbered after the newest run of that workflow name.

    By name and not by uid: logs are kept under `WORKFLOW.NUMBER`, also of a workflow that was deleted meanwhile.
    """
    (last,) = db.execute("SELECT coalesce(max(number), 0) FROM runs WHERE workflow = ?", (workflow,)).fetchone()
    run_id = secrets.token_hex(16)
    db.execute(
        "INSERT INTO runs"
        " (id, number, workflow_uid, workflow, spec, inputs, phase, created, cause, parent, mode, source, cache)"
        " VALUES (?, ?, ?, ?, ?, ?, 'Pending', ?, ?, ?, ?, ?, ?)",
        (
            run_id,
            last + 1,
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


def get(db: Connection, run_id: str) -> Run:
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"no run {run_id!r}", hint="`appliance get runs` lists the runs")
    return _run(row)


def head(db: Connection, run_id: str) -> Run:
    """Without its spec, which may be large, for those who ask often. Raises NotFound."""
    row = db.execute(f"SELECT {_HEAD} FROM runs WHERE id = ?", (run_id,)).fetchone()
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


def names(db: Connection) -> dict[str, str]:
    """Id -> `WORKFLOW.NUMBER` of every run."""
    rows = db.execute("SELECT id, workflow, number FROM runs")
    return {row["id"]: f"{row['workflow']}.{row['number']}" for row in rows}


def unfinished(db: Connection) -> list[Run]:
    """Oldest first."""
    return [_run(row) for row in db.execute("SELECT * FROM runs WHERE finished IS NULL ORDER BY created, number")]


def ahead(db: Connection, workflow_uid: str, before: int | None = None) -> list[Ahead]:
    """The runs of one workflow that are not over, oldest first; those numbered below `before` where given."""
    rows = db.execute(
        "SELECT id, workflow_uid, workflow, number, cancel FROM runs INDEXED BY runs_open"
        " WHERE finished IS NULL AND workflow_uid = ? AND (? IS NULL OR number < ?) ORDER BY number",
        (workflow_uid, before, before),
    )
    return [Ahead(row["id"], row["workflow_uid"], row["workflow"], row["number"], bool(row["cancel"])) for row in rows]


def count_waiting(db: Connection, workflow_uid: str) -> int:
    """How many runs of one workflow have not begun, but those that are asked to end."""
    (count,) = db.execute(
        "SELECT count(*) FROM runs INDEXED BY runs_open"
        " WHERE finished IS NULL AND workflow_uid = ? AND phase = 'Pending' AND NOT cancel",
        (workflow_uid,),
    ).fetchone()
    return int(count)


def last_made(db: Connection, workflow: str) -> float:
    """Unix time at which the newest run of one workflow's name was made; 0: it has none."""
    row = db.execute("SELECT created FROM runs WHERE workflow = ? ORDER BY number DESC LIMIT 1", (workflow,)).fetchone()
    return float(row["created"]) if row else 0.0


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


def active_names(db: Connection, run_id: str) -> set[str]:
    """The jobs of one run that are starting or running at this moment."""
    rows = db.execute(
        "SELECT name FROM jobs INDEXED BY jobs_active WHERE run = ? AND phase IN ('Starting', 'Running')", (run_id,)
    )
    return {row["name"] for row in rows}


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


def job(db: Connection, run_id: str, name: str) -> Job:
    """Raises NotFound."""
    row = db.execute("SELECT * FROM jobs WHERE run = ? AND name = ?", (run_id, name)).fetchone()
    if row is None:
        raise NotFound(f"the run has no job {name!r}", hint="`appliance workflow show` lists its jobs")
    return _job(row)


def outputs(db: Connection, run_id: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What these jobs have made so far, by job."""
    wanted = list(names)
    rows = db.execute(
        f"SELECT name, outputs FROM jobs WHERE run = ? AND name IN ({', '.join('?' * len(wanted))})", [run_id, *wanted]
    )
    return {row["name"]: json.loads(row["outputs"]) for row in rows}


def marks(db: Connection, run_id: str, name: str = "") -> list[Mark]:
    """Where its jobs stand, or the one called `name`, in the order of the spec."""
    one, values = (" AND name = ?", [run_id, name]) if name else ("", [run_id])
    rows = db.execute(f"SELECT {_MARK} FROM jobs WHERE run = ?{one} ORDER BY position", values)
    return [Mark(*row) for row in rows]


def count_jobs(db: Connection, run_id: str) -> int:
    (count,) = db.execute("SELECT count(*) FROM jobs WHERE run = ?", (run_id,)).fetchone()
    return int(count)


def had_containers(db: Connection, run_id: str) -> bool:
    """Any of its jobs may have had one."""
    asked = "SELECT 1 FROM jobs WHERE run = ? AND (container != '' OR attempt > 1) LIMIT 1"
    return db.execute(asked, (run_id,)).fetchone() is not None


def readers(db: Connection, ref: str) -> list[tuple[Run, Job]]:
    """Jobs, of any age, that were given the dataset version `NAME:VERSION` as an input; oldest first."""
    rows = db.execute(
        "SELECT jobs.* FROM jobs JOIN runs ON runs.id = jobs.run WHERE instr(jobs.inputs, ?)"
        " ORDER BY runs.created, runs.number, jobs.position",
        (json.dumps({"id": ref})[1:-1],),
    )
    return [(get(db, job.run), job) for job in map(_job, rows) if _names(job.inputs, ref)]


def _names(documents: Mapping[str, Any], ref: str) -> bool:
    return any(given.get("id") == ref or _names(given.get("of", {}), ref) for given in documents.values())


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
    image: str | None = None,
    cache_key: str | None = None,
    reused: str | None = None,
    begun: str | None = None,
    commit_id: str | None = None,
) -> bool:
    """Move a job from one phase to another. False: it was not in `before`, and nothing was written."""
    done = db.execute(
        "UPDATE jobs SET phase = ?, message = ?, container = coalesce(?, container),"
        " exit_code = coalesce(?, exit_code), started = coalesce(started, ?), finished = coalesce(finished, ?),"
        " inputs = coalesce(?, inputs), outputs = coalesce(?, outputs), image = coalesce(?, image),"
        " cache_key = coalesce(?, cache_key), reused = coalesce(?, reused), begun = coalesce(?, begun),"
        " commit_id = coalesce(?, commit_id)"
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
            image,
            cache_key,
            reused,
            begun,
            commit_id,
            run_id,
            name,
            before,
        ),
    )
    return done.rowcount == 1


def try_again(db: Connection, run_id: str, name: str, before: str, *, at: float, message: str) -> bool:
    """Back to Pending for the next attempt, not before the time `at`. False: it was not in `before`."""
    done = db.execute(
        "UPDATE jobs SET phase = 'Pending', message = ?, attempt = attempt + 1, not_before = ?, container = '',"
        " exit_code = NULL, started = NULL, finished = NULL, inputs = '{}', outputs = '{}', begun = ''"
        " WHERE run = ? AND name = ? AND phase = ?",
        (message, at, run_id, name, before),
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
            "cache": bool(row["cache"]),
            "kept": bool(row["kept"]),
        }
    )


def _job(row: Row) -> Job:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    documents = {key: json.loads(row[key]) for key in ("inputs", "outputs", "pins")}
    return Job(**{**values, **documents})
