"""The end of a job's attempt: its outcome is written first, with its event, and what it leaves behind goes afterwards.

Every part of it may be repeated, so the daemon may be killed between any two: a job that is over and still has a
container is cleaned up by whoever sees that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import Conflict, GpuRefused, StorageError
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.events import Level
from appliance.state.runs import Job, Run
from appliance.telemetry.draining import Draining
from appliance.workflows import collecting, plan
from appliance.workflows.board import FAILED_PHASES
from appliance.workflows.interrupted import MOST_UNCOUNTED
from appliance.workflows.kept import capsule, reuse
from appliance.workflows.leasing import JobLeases
from appliance.workflows.outcome import Outcome, with_gpu
from appliance.workflows.rooms import Rooms
from appliance.workflows.telling import tell, words

DRAIN_S = 60.0
PUT_OFF_S = 30.0
"""Until a machine that could not give a GPU is asked again; doubled each time, up to MOST_PUT_OFF_S."""
MOST_PUT_OFF_S = 600.0


class Ending:
    """`changed` is told the id of a run as soon as one of its jobs has ended, before that job is cleaned up."""

    def __init__(self, rooms: Rooms, changed: Callable[[str], None], leases: JobLeases) -> None:
        self._rooms = rooms
        self._changed = changed
        self.leases = leases
        self._unclean: set[tuple[str, str]] = set()
        """Jobs that are over and that this process has not cleaned up yet."""
        self._draining = Draining(rooms.telemetry)

    def is_unclean(self, run_id: str, name: str) -> bool:
        """It is over, and to clean up after it was tried here and did not succeed."""
        return (run_id, name) in self._unclean

    async def end(
        self,
        run: Run,
        workflow: Workflow,
        job: Job,
        container: Container | None,
        outcome: Outcome,
        outputs: Mapping[str, Any] | None = None,
        commit_id: str = "",
    ) -> None:
        """Write the outcome, or that there will be another attempt, and clean up."""
        now = self._rooms.clock()
        again = None
        declared = workflow.jobs[job.name]
        outcome = with_gpu(outcome, job.fault, job.lost)
        if outcome.phase in FAILED_PHASES:
            if job.lost and declared.retry.limit and job.interrupted < MOST_UNCOUNTED:
                outcome = replace(outcome, counts=False)
            if outcome.counts and self._rooms.no_room():
                outcome = replace(outcome, message=_with_low_space(outcome.message))
            again = plan.retry_at(run, workflow, job, now=now, counts=outcome.counts)
            if again is not None and outcome.hopeless:
                again, outcome = None, outcome.not_tried_again()
            if again is None:
                await capsule.take(self._rooms, run, declared, job.name, container, outcome)
        if not outcome.succeeded:
            await collecting.abandon(self._rooms, run, job.name, declared)
        if again is not None:
            self._try_again(run, workflow, job, container, outcome, at=again, now=now)
        else:
            self._write(run, job, container, outcome, outputs or {}, commit_id, now=now)
        self._changed(run.id)
        await self.clean(run, job.name, container)

    async def put_off(
        self, run: Run, workflow: Workflow, job: Job, container: Container | None, error: GpuRefused
    ) -> None:
        """It has not run, and this machine cannot give it its GPUs now: others have them, and it asks again later."""
        await collecting.abandon(self._rooms, run, job.name, workflow.jobs[job.name])
        pause = min(MOST_PUT_OFF_S, PUT_OFF_S * 2.0 ** min(job.interrupted, 8))
        message = f"waits: it cannot be given its GPU: {words(error)}"
        with self._rooms.db.write() as db:
            at = self._rooms.clock() + pause
            if runs.try_again(db, run.id, job.name, job.phase, at=at, message=message, counts=False):
                self.leases.release(run, job.name)
                said = f"{job.name}: {words(error)}; asked again in {pause:g} s"
                tell(self._rooms, run, "GpuRefused", said, level="warning")
        self._changed(run.id)
        await self.clean(run, job.name, container)

    async def clean(self, run: Run, name: str, container: Container | None) -> None:
        self._unclean.add((run.id, name))
        if container:
            await self._rooms.engine.remove(container.id)
        kept = capsule.holds(self._rooms.db.read, run.id, name)
        await collecting.discard(self._rooms, run, name, folders=not kept)
        self._unclean.discard((run.id, name))

    async def drain(self, run: Run, name: str, container: Container) -> None:
        """Have all that it has said stored. Raises TelemetryError the first times that this cannot be done."""
        if container.log_path is None or container.started is None:
            return
        source = collecting.log_source(run, name, container)
        if missing := await self._draining.drain(source, container.log_path, timeout_s=DRAIN_S):
            tell(self._rooms, run, "LogsIncomplete", f"{name}: {missing}", level="warning")

    async def dispose(self, run: Run, container: Container) -> None:
        """Remove a container that no attempt under way knows, once its log is stored."""
        owner = owner_of(container.labels)
        seen = await self._rooms.engine.inspect(container.id)
        if owner and seen and seen.started is not None:
            await self.drain(run, owner.part, seen)
        await self._rooms.engine.remove(container.id)

    async def forget_earlier(self, run: Run, job: Job) -> None:
        """What earlier attempts have left must not be found by this one.

        What refuses to go ends no attempt: a backup that reads it ends, a store or an engine is busy for a while. So
        this one waits, and its message says for what.
        """
        for container in await self._rooms.engine.list(kind="run", uid=run.id):
            owner = owner_of(container.labels)
            if owner and owner.part == job.name and container.name != job.container:
                await self.dispose(run, container)
        try:
            await self._rooms.scratch.destroy_job(run.id, job.name)
        except (Conflict, StorageError) as error:
            message = f"what attempt {job.attempt - 1} has left cannot be removed yet: {error.message}"
            raise type(error)(message, hint=error.hint, where=error.where) from error

    def _try_again(
        self,
        run: Run,
        workflow: Workflow,
        job: Job,
        container: Container | None,
        outcome: Outcome,
        *,
        at: float,
        now: float,
    ) -> None:
        most = workflow.jobs[job.name].retry.limit + 1
        if outcome.counts:
            message = f"attempt {job.tries} of {most}: {outcome.message}; the next begins {at - now:g} s later"
        else:
            message = f"{outcome.message}; attempt {job.tries} of {most} begins again"
        with self._rooms.db.write() as db:
            if runs.try_again(db, run.id, job.name, job.phase, at=at, message=message, counts=outcome.counts):
                self.leases.release(run, job.name)
                self._tell_start(run, job, container)
                tell(self._rooms, run, "JobRetried", f"{job.name}: {message}", level="warning")

    def _write(
        self,
        run: Run,
        job: Job,
        container: Container | None,
        outcome: Outcome,
        outputs: Mapping[str, Any],
        commit_id: str,
        *,
        now: float,
    ) -> None:
        with self._rooms.db.write() as db:
            moved = runs.move_job(
                db,
                run.id,
                job.name,
                job.phase,
                outcome.phase,
                message=outcome.message,
                exit_code=container.exit_code if container else None,
                finished=now,
                outputs=outputs,
                commit_id=commit_id or None,
            )
            if not moved:
                return
            self.leases.release(run, job.name)
            self._tell_start(run, job, container)
            if outcome.succeeded:
                reuse.remember(db, run, job, now=now)
            level: Level = "info" if outcome.phase in ("Succeeded", "Canceled") else "error"
            said = f"{job.name}: {outcome.message}" if outcome.message else job.name
            tell(self._rooms, run, f"Job{outcome.phase}", said, level=level)

    def _tell_start(self, run: Run, job: Job, container: Container | None) -> None:
        """For one that has ended before anybody saw it run."""
        if job.phase == "Starting" and container and container.started is not None:
            tell(self._rooms, run, "JobStarted", f"{job.name} runs")


def _with_low_space(message: str) -> str:
    """Most programs do not say that a disk was full. Their own next step, if any, stays the last word."""
    said, mark, hint = message.partition(" (next: ")
    return f"{said}; disk space was low when it ended" + (
        mark + hint or " (next: `appliance space` names what holds the space)"
    )
