"""The jobs of runs. A job's phase moves under a guard, so no job is started twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from appliance.errors import NotFound
from appliance.state.db import Connection
from appliance.state.runs.reading import get
from appliance.state.runs.records import Job, Mark, Run, job_of

_MARK = ", ".join(each.name for each in fields(Mark))


def jobs(db: Connection, run_id: str) -> list[Job]:
    """In the order of the spec."""
    return [job_of(row) for row in db.execute("SELECT * FROM jobs WHERE run = ? ORDER BY position", (run_id,))]


def job(db: Connection, run_id: str, name: str) -> Job:
    """Raises NotFound."""
    row = db.execute("SELECT * FROM jobs WHERE run = ? AND name = ?", (run_id, name)).fetchone()
    if row is None:
        raise NotFound(f"the run has no job {name!r}", hint="`appliance workflow show` lists its jobs")
    return job_of(row)


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
    return [(get(db, job.run), job) for job in map(job_of, rows) if _names(job.inputs, ref)]


def _names(documents: Mapping[str, Any], ref: str) -> bool:
    return any(given.get("id") == ref or _names(given.get("of", {}), ref) for given in documents.values())


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


def mark_stopped(db: Connection, container: str, at: float | None) -> bool:
    """The container of this name is about to be stopped from outside; None takes that back. True: it is a job's."""
    done = db.execute(
        "UPDATE jobs SET stopped = ? WHERE container = ? AND phase IN ('Starting', 'Running')", (at, container)
    )
    return done.rowcount > 0


def preempt(db: Connection, run_id: str, name: str, words: str, *, at: float) -> bool:
    """Its attempt ends soon, to make way for another. False: it is not under way, or is to end so already."""
    done = db.execute(
        "UPDATE jobs SET preempted = ?, stopped = ?"
        " WHERE run = ? AND name = ? AND preempted = '' AND phase IN ('Starting', 'Running')",
        (words, at, run_id, name),
    )
    return done.rowcount == 1


def mark_gpu(db: Connection, run_id: str, name: str, *, fault: str = "", lost: str = "") -> bool:
    """What befell the GPU of the attempt that is under way. False: none is."""
    done = db.execute(
        "UPDATE jobs SET fault = CASE ? WHEN '' THEN fault ELSE ? END, lost = CASE ? WHEN '' THEN lost ELSE ? END"
        " WHERE run = ? AND name = ? AND phase IN ('Starting', 'Running')",
        (fault, fault, lost, lost, run_id, name),
    )
    return done.rowcount == 1


def try_again(
    db: Connection, run_id: str, name: str, before: str, *, at: float, message: str, counts: bool = True
) -> bool:
    """Back to Pending for the next attempt, not before the time `at`. False: it was not in `before`.

    `counts`: the attempt that has ended is one of those that its `retry` allows. `begun` stays: what an attempt has set
    going outlives it.
    """
    done = db.execute(
        "UPDATE jobs SET phase = 'Pending', message = ?, attempt = attempt + 1, not_before = ?, container = '',"
        " exit_code = NULL, started = NULL, finished = NULL, inputs = '{}', outputs = '{}',"
        " stopped = NULL, preempted = '', fault = '', lost = '', interrupted = interrupted + ?"
        " WHERE run = ? AND name = ? AND phase = ?",
        (message, at, int(not counts), run_id, name, before),
    )
    return done.rowcount == 1
