"""Runs: one, some or all of them."""

from __future__ import annotations

from dataclasses import fields

from appliance.errors import NotFound
from appliance.state.db import Connection
from appliance.state.runs.records import Ahead, Run, run_of

_HEAD = ", ".join("'{}' AS spec" if each.name == "spec" else each.name for each in fields(Run))


def get(db: Connection, run_id: str) -> Run:
    row = db.execute("SELECT * FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"no run {run_id!r}", hint="`appliance get runs` lists the runs")
    return run_of(row)


def head(db: Connection, run_id: str) -> Run:
    """Without its spec, which may be large, for those who ask often. Raises NotFound."""
    row = db.execute(f"SELECT {_HEAD} FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise NotFound(f"no run {run_id!r}", hint="`appliance get runs` lists the runs")
    return run_of(row)


def by_number(db: Connection, workflow: str, number: int) -> Run:
    row = db.execute(
        "SELECT * FROM runs WHERE workflow = ? AND number = ? ORDER BY created DESC", (workflow, number)
    ).fetchone()
    if row is None:
        raise NotFound(
            f"workflow {workflow!r} has no run {number}", hint=f"`appliance workflow runs {workflow}` lists them"
        )
    return run_of(row)


def newest(db: Connection, *, workflow: str = "", limit: int = 100) -> list[Run]:
    """Newest first."""
    where, values = ("WHERE workflow = ?", [workflow]) if workflow else ("", list[str]())
    rows = db.execute(f"SELECT * FROM runs {where} ORDER BY created DESC, number DESC LIMIT ?", [*values, limit])
    return [run_of(row) for row in rows]


def names(db: Connection) -> dict[str, str]:
    """Id -> `WORKFLOW.NUMBER` of every run."""
    rows = db.execute("SELECT id, workflow, number FROM runs")
    return {row["id"]: f"{row['workflow']}.{row['number']}" for row in rows}


def failed_names(db: Connection) -> list[str]:
    """`WORKFLOW.NUMBER` of every run that failed."""
    rows = db.execute("SELECT workflow, number FROM runs WHERE phase IN ('Failed', 'Error')")
    return [f"{row['workflow']}.{row['number']}" for row in rows]


def ends(db: Connection) -> dict[str, float]:
    """Id -> when it ended, or was made where it goes on, unix seconds, of every run."""
    return {row["id"]: row["at"] for row in db.execute("SELECT id, coalesce(finished, created) AS at FROM runs")}


def unfinished(db: Connection) -> list[Run]:
    """Oldest first."""
    return [run_of(row) for row in db.execute("SELECT * FROM runs WHERE finished IS NULL ORDER BY created, number")]


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


def count_by_phase(db: Connection) -> dict[str, int]:
    return {row["phase"]: row["n"] for row in db.execute("SELECT phase, count(*) AS n FROM runs GROUP BY phase")}


def failed_since(db: Connection, since: float, *, limit: int) -> list[Run]:
    """Newest first."""
    rows = db.execute(
        "SELECT * FROM runs WHERE phase IN ('Failed', 'Error') AND created >= ? ORDER BY created DESC LIMIT ?",
        (since, limit),
    )
    return [run_of(row) for row in rows]
