"""The state as tables for SQL: documented columns, without specs, inputs, secrets or anything that may hold one.

Read through a connection of its own, so any thread may ask while the daemon writes; all tables of one question are
of one moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from appliance.state.db import StateError

Type = Literal["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "VARCHAR[]"]

MOST_ROWS = 100_000
"""Of one table in one question, the newest; some 0.3 s and 20 MB."""
_WAIT_S = 5.0
_LISTS = "\n"
"""Between the items of a list as the statements below give it."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: Type
    about: str = ""


@dataclass(frozen=True, slots=True)
class StateTable:
    """`source` selects the columns in their order, newest rows first. Times come as microseconds."""

    name: str
    about: str
    columns: tuple[Column, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows of a table as of one moment; times are whole microseconds since 1970."""

    table: StateTable
    rows: Sequence[Sequence[Any]]
    cut: bool
    """There were older ones beyond `MOST_ROWS`."""


def _time(column: str) -> str:
    return f"CAST(round({column} * 1e6) AS INTEGER)"


_TABLES = (
    StateTable(
        "events",
        "what happened to whom, in the words of `appliance events`",
        (
            Column("id", "BIGINT"),
            Column("ts", "TIMESTAMP"),
            Column("kind", "VARCHAR", "notebook, run, deployment, ..."),
            Column("name", "VARCHAR"),
            Column("level", "VARCHAR", "info, warning or error"),
            Column("reason", "VARCHAR", "one CamelCase word, such as Started"),
            Column("message", "VARCHAR"),
        ),
        f"SELECT id, {_time('at')}, kind, name, level, reason, message FROM events ORDER BY id DESC",
    ),
    StateTable(
        "runs",
        "runs of workflows",
        (
            Column("name", "VARCHAR", "WORKFLOW.NUMBER, as logs and metrics name it"),
            Column("workflow", "VARCHAR"),
            Column("number", "BIGINT"),
            Column("phase", "VARCHAR"),
            Column("message", "VARCHAR"),
            Column("cause", "VARCHAR", "manual, resume, replay, schedule, dataset, folder, spec, git or webhook"),
            Column("parent", "VARCHAR", "the run that it resumes or replays; empty: none"),
            Column("created", "TIMESTAMP"),
            Column("started", "TIMESTAMP", "NULL: not yet"),
            Column("finished", "TIMESTAMP", "NULL: not yet"),
        ),
        "SELECT r.workflow || '.' || r.number, r.workflow, r.number, r.phase, r.message, r.cause,"
        " coalesce((SELECT p.workflow || '.' || p.number FROM runs p WHERE p.id = r.parent), r.parent),"
        f" {_time('r.created')}, {_time('r.started')}, {_time('r.finished')} FROM runs r ORDER BY r.created DESC",
    ),
    StateTable(
        "jobs",
        "jobs of those runs",
        (
            Column("run", "VARCHAR", "runs.name"),
            Column("workflow", "VARCHAR"),
            Column("job", "VARCHAR", "logs and metrics call it `part`"),
            Column("phase", "VARCHAR"),
            Column("message", "VARCHAR"),
            Column("container", "VARCHAR"),
            Column("exit_code", "BIGINT"),
            Column("attempt", "BIGINT", "from 1 on"),
            Column("image", "VARCHAR", "digest"),
            Column("reused", "VARCHAR", "WORKFLOW.NUMBER/JOB whose outputs it was given; empty: it ran"),
            Column("gpu_fault", "VARCHAR", "what its GPU has told of the program; empty: nothing"),
            Column("started", "TIMESTAMP"),
            Column("finished", "TIMESTAMP"),
        ),
        "SELECT r.workflow || '.' || r.number, r.workflow, j.name, j.phase, j.message, j.container, j.exit_code,"
        f" j.attempt, j.image, j.reused, j.fault, {_time('j.started')}, {_time('j.finished')}"
        " FROM jobs j JOIN runs r ON r.id = j.run ORDER BY r.created DESC, j.position DESC",
    ),
    StateTable(
        "leases",
        "who has GPUs, and who waits for some",
        (
            Column("kind", "VARCHAR"),
            Column("name", "VARCHAR"),
            Column("part", "VARCHAR", "a job, a replica; empty: the whole"),
            Column("owner", "VARCHAR"),
            Column("machine", "VARCHAR", "as the spec asked"),
            Column("gpus", "BIGINT"),
            Column("cards", "VARCHAR[]", "UUIDs; gpu_samples call them `device`"),
            Column("state", "VARCHAR", "Waiting, Promised, Granted, Held or Freeing"),
            Column("priority", "BIGINT"),
            Column("preemptible", "BOOLEAN"),
            Column("asked", "TIMESTAMP"),
            Column("granted", "TIMESTAMP"),
            Column("released", "TIMESTAMP"),
            Column("message", "VARCHAR"),
        ),
        "SELECT l.kind, l.name, l.part, l.owner, l.machine, l.gpus,"
        " coalesce((SELECT group_concat(card, char(10)) FROM (SELECT card FROM lease_cards c WHERE c.lease = l.id"
        " ORDER BY c.number)), ''), l.state, l.priority, l.preemptible,"
        f" {_time('l.asked')}, {_time('l.granted')}, {_time('l.released')}, l.message FROM leases l"
        " ORDER BY l.asked DESC",
    ),
    StateTable(
        "snapshots",
        "moments of workspaces, as `appliance notebook history` lists them",
        (
            Column("id", "VARCHAR"),
            Column("kind", "VARCHAR", "of whose workspace it is; empty: that is gone"),
            Column("name", "VARCHAR"),
            Column("ts", "TIMESTAMP"),
            Column("cause", "VARCHAR", "manual, start, stop, save, rollback, undo, ..."),
            Column("message", "VARCHAR"),
            Column("author", "VARCHAR"),
            Column("subject", "VARCHAR", "a session or a run that it belongs to"),
            Column("bytes", "BIGINT", "written since the moment before; NULL: not known"),
        ),
        f"SELECT s.id, coalesce(r.kind, ''), coalesce(r.name, ''), {_time('s.created')}, s.cause, s.message, s.author,"
        " s.subject, s.bytes FROM snapshots s LEFT JOIN resources r ON r.uid = s.uid ORDER BY s.rowid DESC",
    ),
    *(
        StateTable(
            f"{kind}s",
            f"{kind}s as they are declared now",
            (
                Column("name", "VARCHAR"),
                Column("generation", "BIGINT"),
                Column("phase", "VARCHAR"),
                Column("message", "VARCHAR"),
                Column("created", "TIMESTAMP"),
                Column("updated", "TIMESTAMP", "when its spec last changed"),
            ),
            f"SELECT name, generation, phase, message, {_time('created')}, {_time('updated')} FROM resources"
            f" WHERE kind = '{kind}' ORDER BY created DESC",
        )
        for kind in ("notebook", "workflow", "deployment")
    ),
    StateTable(
        "rollouts",
        "generations of deployments, and what became of each",
        (
            Column("deployment", "VARCHAR"),
            Column("generation", "BIGINT"),
            Column("digest", "VARCHAR", "of the image"),
            Column("cause", "VARCHAR"),
            Column("phase", "VARCHAR"),
            Column("message", "VARCHAR"),
            Column("created", "TIMESTAMP"),
            Column("began", "TIMESTAMP"),
            Column("ready", "TIMESTAMP"),
            Column("ended", "TIMESTAMP"),
        ),
        "SELECT r.name, o.generation, o.digest, o.cause, o.phase, o.message,"
        f" {_time('o.created')}, {_time('o.began')}, {_time('o.ready')}, {_time('o.ended')}"
        " FROM rollouts o JOIN resources r ON r.uid = o.uid ORDER BY o.created DESC",
    ),
    StateTable(
        "executions",
        "files of notebooks that were executed with nobody watching",
        (
            Column("notebook", "VARCHAR"),
            Column("number", "BIGINT", "logs and metrics call it part `run-NUMBER`"),
            Column("file", "VARCHAR"),
            Column("author", "VARCHAR"),
            Column("phase", "VARCHAR"),
            Column("message", "VARCHAR"),
            Column("exit_code", "BIGINT"),
            Column("created", "TIMESTAMP"),
            Column("started", "TIMESTAMP"),
            Column("finished", "TIMESTAMP"),
        ),
        "SELECT name, number, file, author, phase, message, exit_code,"
        f" {_time('created')}, {_time('started')}, {_time('finished')} FROM executions ORDER BY created DESC",
    ),
    StateTable(
        "dataset_versions",
        "versions of datasets that are committed",
        (
            Column("dataset", "VARCHAR"),
            Column("version", "VARCHAR"),
            Column("message", "VARCHAR"),
            Column("bytes", "BIGINT"),
            Column("run", "VARCHAR", "runs.name of what made it; empty: no run"),
            Column("job", "VARCHAR"),
            Column("created", "TIMESTAMP"),
            Column("committed", "TIMESTAMP"),
        ),
        "SELECT d.name, v.version, v.message, v.bytes,"
        " coalesce((SELECT r.workflow || '.' || r.number FROM runs r WHERE r.id = v.run), v.run), v.job,"
        f" {_time('v.created')}, {_time('v.committed')} FROM versions v JOIN resources d ON d.uid = v.dataset"
        " WHERE v.committed IS NOT NULL ORDER BY v.created DESC",
    ),
    StateTable(
        "models",
        "registered models",
        (
            Column("id", "VARCHAR"),
            Column("name", "VARCHAR"),
            Column("type", "VARCHAR"),
            Column("run", "VARCHAR", "runs.name of what made it; empty: no run"),
            Column("job", "VARCHAR"),
            Column("created", "TIMESTAMP"),
        ),
        "SELECT m.id, m.name, m.type,"
        " coalesce((SELECT r.workflow || '.' || r.number FROM runs r WHERE r.id = m.run), m.run), m.job,"
        f" {_time('m.created')} FROM models m ORDER BY m.created DESC",
    ),
    StateTable(
        "gpu_ledger",
        "what GPUs came to, by the hour",
        (
            Column("hour", "TIMESTAMP", "the hour from it on"),
            Column("device", "VARCHAR", "UUID"),
            Column("kind", "VARCHAR"),
            Column("name", "VARCHAR"),
            Column("part", "VARCHAR"),
            Column("owner", "VARCHAR"),
            Column("held_s", "DOUBLE"),
            Column("used_s", "DOUBLE", "NULL: the driver does not tell, as below"),
            Column("memory_gb_s", "DOUBLE"),
            Column("energy_j", "DOUBLE"),
        ),
        "SELECT hour * 1000000, device, kind, name, part, owner, held_s, used_s, memory_gb_s, energy_j FROM gpu_ledger"
        " ORDER BY hour DESC",
    ),
    StateTable(
        "gpu_faults",
        "what GPUs have told of themselves",
        (
            Column("ts", "TIMESTAMP"),
            Column("device", "VARCHAR", "UUID"),
            Column("kind", "VARCHAR"),
            Column("xid", "BIGINT"),
            Column("words", "VARCHAR"),
        ),
        f"SELECT {_time('at')}, uuid, kind, xid, words FROM gpu_faults ORDER BY id DESC",
    ),
)
STATE_TABLES = {table.name: table for table in _TABLES}


def read(file: Path, names: Collection[str], most: int = MOST_ROWS) -> list[Copied]:
    """These tables of the state file as of now, newest rows first. Blocks. Raises StateError."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_S)) as db:
            db.execute("BEGIN")  # one moment for all of them
            return [_copy(db, STATE_TABLES[name], most) for name in sorted(names)]
    except sqlite3.Error as error:
        raise StateError(f"the state cannot be read: {error}", where=str(file), hint="`appliance doctor`") from error


def _copy(db: sqlite3.Connection, table: StateTable, most: int) -> Copied:
    rows = db.execute(f"{table.source} LIMIT ?", (most + 1,)).fetchall()
    lists = [number for number, column in enumerate(table.columns) if column.type.endswith("[]")]
    if lists:
        rows = [tuple(_items(cell) if number in lists else cell for number, cell in enumerate(row)) for row in rows]
    return Copied(table, rows[:most], len(rows) > most)


def _items(joined: str) -> list[str]:
    return joined.split(_LISTS) if joined else []
