"""Runs that are over are let go, with their jobs and whatever else their rows hold. Numbers are never given twice."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection
from appliance.state.runs.reading import head
from appliance.state.runs.records import Run

_ALONE = (
    "finished IS NOT NULL AND NOT kept"
    " AND NOT EXISTS (SELECT 1 FROM step_cache WHERE step_cache.run = runs.id)"
    " AND NOT EXISTS (SELECT 1 FROM capsules WHERE capsules.run = runs.id)"
    " AND NOT EXISTS (SELECT 1 FROM versions WHERE versions.run = runs.id AND versions.run != '')"
    " AND NOT EXISTS (SELECT 1 FROM models WHERE models.run = runs.id AND models.run != '')"
)
_LAST = "NOT EXISTS (SELECT 1 FROM runs AS later WHERE later.parent = runs.id AND later.parent != '')"


@dataclass(frozen=True, slots=True)
class Candidate:
    id: str
    number: int
    alone: bool
    """It is over, and no other row is about it; whether a run goes on from it is not looked at."""


def beyond(db: Connection, most: int) -> dict[str, int]:
    """Uid of each workflow with more than `most` runs -> number of the newest one that is too many."""
    found = {}
    for row in db.execute(
        "SELECT workflow_uid FROM runs GROUP BY workflow_uid HAVING count(*) > ?", (most,)
    ).fetchall():
        (number,) = db.execute(
            "SELECT number FROM runs WHERE workflow_uid = ? ORDER BY number DESC LIMIT 1 OFFSET ?",
            (row["workflow_uid"], most),
        ).fetchone()
        found[row["workflow_uid"]] = int(number)
    return found


def page(db: Connection, workflow_uid: str, newest: int, limit: int) -> list[Candidate]:
    """The runs of a workflow from number `newest` down, newest first."""
    rows = db.execute(
        f"SELECT id, number, {_ALONE} AS alone FROM runs WHERE workflow_uid = ? AND number <= ?"
        " ORDER BY number DESC LIMIT ?",
        (workflow_uid, newest, limit),
    )
    return [Candidate(row["id"], row["number"], bool(row["alone"])) for row in rows]


def remove(db: Connection, run_id: str) -> bool:
    """With its jobs. False, and nothing is done: it is not over, or another row is about it.

    Those are a run that goes on from it, what the step cache or a capsule holds, and the origin of a version or model.
    What is in the documents of other runs is not looked at.
    """
    return db.execute(f"DELETE FROM runs WHERE id = ? AND {_ALONE} AND {_LAST}", (run_id,)).rowcount == 1


def going_on_from(db: Connection, run_id: str) -> list[Run]:
    """The runs that resume this one or repeat it, oldest first."""
    rows = db.execute("SELECT id FROM runs WHERE parent = ? AND parent != '' ORDER BY number", (run_id,))
    return [head(db, row["id"]) for row in rows.fetchall()]
