"""Make the run that a trigger asks for, or say in an event why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.errors import Conflict, NotFound, UsageError
from appliance.state import events
from appliance.state.db import Connection, Database
from appliance.state.events import Level
from appliance.state.resources import Resource
from appliance.state.runs import Run
from appliance.workflows import submit


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
) -> Run | None:
    """In the open `transaction`, which also moves the trigger's mark. None: it cannot be made, which is told.

    What may pass by itself, a full disk for one, is raised: then the mark stays too, and the next look tries again.
    """
    try:
        return submit.start_run(db, workflow, name, document, inputs, now=now, cause=cause, source=source)
    except (UsageError, Conflict, NotFound) as error:
        level: Level = "info" if isinstance(error, Conflict) else "warning"
        told = f"{source}: {error.message}" + (f"; {error.hint}" if error.hint else "")
        events.record(transaction, "workflow", name, "NotStarted", told, now=now, level=level)
        return None
