"""The end of a run: its last containers go, then its volumes but those that somebody needs, and then it is over."""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import Conflict, StorageError
from appliance.reconcile import Again
from appliance.state import runs
from appliance.state.events import Level
from appliance.state.runs import FINAL_PHASES, Run
from appliance.workflows import concurrency, plan
from appliance.workflows.board import FAILED_PHASES
from appliance.workflows.ending import Ending
from appliance.workflows.kept import keeping
from appliance.workflows.plan import Finish
from appliance.workflows.rooms import Rooms
from appliance.workflows.telling import tell

CLEANUP_TRIES = 3


class Closing:
    """`closed` is told each run that is over now."""

    def __init__(self, rooms: Rooms, ending: Ending, closed: Callable[[Run], None]) -> None:
        self._rooms = rooms
        self._ending = ending
        self._closed = closed
        self._leaving: set[str] = set()
        """Runs with all jobs over whose last containers were told to go."""
        self._tries: dict[str, int] = {}
        """How often the store did not let go of what a run has left."""

    async def finish(self, run: Run, finish: Finish) -> Again | None:
        """All jobs are over: whatever is left of their containers goes, at last the run is over too."""
        if runs.had_containers(self._rooms.db.read, run.id):
            left = await self._rooms.engine.list(kind="run", uid=run.id)
            for container in left:
                if container.state != "removing":
                    await self._ending.dispose(run, container)
            if left:  # one that is still there after it was removed takes its time
                soon = run.id not in self._leaving and all(container.state != "removing" for container in left)
                self._leaving.add(run.id)
                return Again(0.0 if soon else plan.REMOVAL_S)
        await self._close(run, finish)
        return None

    async def give_up(self, run: Run, message: str) -> None:
        """End it as it stands, with all of its jobs."""
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            for job in runs.jobs(db, run.id):
                if job.phase not in FINAL_PHASES:
                    runs.move_job(db, run.id, job.name, job.phase, "Error", message=message, finished=now)
                    self._ending.leases.release(run, job.name)
        for container in await self._rooms.engine.list(kind="run", uid=run.id):
            await self._rooms.engine.remove(container.id)
        await self._close(run, Finish("Error", message))

    def forget(self, run_id: str) -> None:
        self._leaving.discard(run_id)
        self._tries.pop(run_id, None)

    async def _close(self, run: Run, finish: Finish) -> None:
        try:
            await keeping.settle(self._rooms, run)
        except (StorageError, Conflict) as error:
            tries = self._tries[run.id] = self._tries.get(run.id, 0) + 1
            if tries < CLEANUP_TRIES:
                raise
            message = f"some of its volumes stay for now, and go later: {error.message}"
            tell(self._rooms, run, "CleanupFailed", message, level="warning")
        level: Level = "error" if finish.phase in FAILED_PHASES else "info"
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            message = finish.message
            if finish.phase == "Canceled":
                message = concurrency.why_canceled(db, run) or message
            runs.set_phase(db, run.id, finish.phase, message=message, finished=now)
            said = message or f"{runs.count_jobs(db, run.id)} jobs"
            tell(self._rooms, run, finish.phase, said, level=level)
        self._closed(run)
