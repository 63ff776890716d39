"""Events of a run, and an error in one line."""

from __future__ import annotations

from appliance.errors import ApplianceError
from appliance.state import events
from appliance.state.events import Level
from appliance.state.runs import Run
from appliance.workflows.rooms import Rooms


def tell(rooms: Rooms, run: Run, reason: str, message: str, *, level: Level = "info") -> None:
    """Record an event of the run; within a transaction it is a part of that."""
    with rooms.db.write() as db:
        events.record(db, "run", f"{run.workflow}.{run.number}", reason, message, now=rooms.clock(), level=level)


def words(error: ApplianceError) -> str:
    """With its next step, as it stands at a job."""
    where = f"{error.where}: " if error.where else ""
    return f"{where}{error.message}" + (f" (next: {error.hint})" if error.hint else "")
