"""Make the run that a trigger asks for, or say in an event why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.errors import ApplianceError, Conflict, NotFound, UsageError
from appliance.state import events, runs
from appliance.state.db import Connection, Database
from appliance.state.events import Level
from appliance.state.resources import Resource
from appliance.state.runs import Run
from appliance.workflows import submit
from appliance.workflows.concurrency import QueueFull


def start(
    db: Database,
    transaction: Connection,
    workflow: Resource | None,
    name: str,
    document: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    cause: str,
    source: str,
    now: float,
    uid: str = "",
    refused: list[ApplianceError] | None = None,
) -> Run | None:
    """In the open `transaction`, which also moves the trigger's mark. None: it cannot be made, which is told.

    `uid`: what the run counts for where nothing is declared, such as a file of a repository.
    `refused` gets why: a Conflict is nothing that somebody has to correct.
    What may pass by itself, a full disk for one, is raised: then the mark stays too, and the next look tries again.
    """
    try:
        return submit.start_run(db, workflow, name, document, inputs, now=now, cause=cause, source=source, uid=uid)
    except (UsageError, Conflict, NotFound) as error:
        if refused is not None:
            refused.append(error)
        if isinstance(error, QueueFull) and _told(transaction, name, error.message):
            return None
        level: Level = "info" if isinstance(error, Conflict) else "warning"
        told = f"{source}: {error.message}" + (f"; {error.hint}" if error.hint else "")
        events.record(transaction, "workflow", name, "NotStarted", told, now=now, level=level)
        return None


def _told(db: Connection, name: str, message: str) -> bool:
    """Since the workflow's newest run was made: a queue that stays full is told once, not at each tick."""
    last = events.last(db, "workflow", name, "NotStarted")
    return last is not None and message in last.message and last.at >= runs.last_made(db, name)
