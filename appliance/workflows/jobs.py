"""One job from its committed start to its end: look, decide by `plan.step`, act, look again.

Each act is safe to repeat and leaves a state in which the next look finds what to do, so the daemon may be killed
between any two. A container is started at most once: that it is about to be is written first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import (
    ApplianceError,
    Conflict,
    EngineError,
    NotFound,
    StorageError,
    UsageError,
)
from appliance.spec.models import CreateModelAction, Workflow
from appliance.state import events, runs
from appliance.state.events import Level
from appliance.state.runs import Job, Run
from appliance.telemetry.draining import Draining
from appliance.workflows import actions, collecting, plan, preparing
from appliance.workflows.outcome import UNSTARTED_CODES, Outcome, outcome_of
from appliance.workflows.plan import Step, Stop
from appliance.workflows.rooms import Rooms

log = logging.getLogger(__name__)

MOST_STEPS = 12
"""Acts in one go; a job that needs more is not getting on."""
REFUSALS = (NotFound, UsageError, Conflict, EngineError, StorageError)
"""Errors that end a job when they come while it is prepared: waiting would not make them go away."""
DRAIN_S = 60.0


class JobWorker:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._attached: set[str] = set()
        self._draining = Draining(rooms.telemetry)

    def follows(self, container: Container) -> bool:
        """Its log lines are being read."""
        return container.id in self._attached

    async def work(self, run_id: str, name: str, workflow: Workflow) -> bool:
        """Do what the job needs until it runs, or is over and only its outputs are left. False: it needed nothing."""
        for acts in range(MOST_STEPS):
            run, job = self._read(run_id, name)
            # the row first: a container made after it was read must not look lost
            container = await self.container(run, job)
            match plan.step(run, workflow, job, container, now=self._rooms.clock()):
                case Step.WATCH:
                    self._follow(run, job, container)
                    return acts > 0
                case Step.PREPARE:
                    await self._prepare(run, workflow, job)
                case Step.LOST:
                    await self._lost(run, workflow, job)
                case Step.DROP:
                    await self._end(run, workflow, job, container, self._stopped(run, workflow, job))
                case _ if container is None:
                    return acts > 0
                case Step.START:
                    await self._start(run, workflow, job, container)
                case Step.ADOPT:
                    self._running(run, job, container)
                case Step.STOP:
                    await self._stop(run, workflow, job, container)
                case Step.COLLECT:
                    await self._collect(run, workflow, job, container)
                case Step.CLEAN:
                    await self._clean(run, job.name, container)
        raise EngineError(f"job {name} makes no progress", hint="the daemon's log says what it tried")

    async def _prepare(self, run: Run, workflow: Workflow, job: Job) -> None:
        try:
            given = await preparing.resolve_inputs(self._rooms, run, workflow, job)
            action = workflow.jobs[job.name].action
            if isinstance(action, CreateModelAction):
                return self._register_model(run, job, action, given)
            await preparing.make_container(self._rooms, run, workflow, job, given, self._wanted(run, workflow, job))
        except REFUSALS as error:
            await self._end(run, workflow, job, None, Outcome("Error", _words(error)))

    async def _start(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            if not runs.move_job(db, run.id, job.name, "Starting", "Starting", message="starting", started=now):
                return
        try:
            await self._rooms.engine.start(container.id)
        except EngineError as error:
            await self._end(run, workflow, job, container, Outcome("Error", _words(error)))

    def _running(self, run: Run, job: Job, container: Container) -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            if runs.move_job(db, run.id, job.name, "Starting", "Running", started=now):
                self._record(run, "JobStarted", f"{job.name} runs")
        self._follow(run, job, container)

    def _follow(self, run: Run, job: Job, container: Container | None) -> None:
        if container is None or container.state != "running" or container.id in self._attached:
            return
        self._attached.add(container.id)
        if container.log_path:
            self._rooms.telemetry.attach(collecting.log_source(run, job.name, container), container.log_path)

    async def _stop(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock())
        with self._rooms.db.write() as db:
            runs.move_job(
                db, run.id, job.name, job.phase, job.phase, message=f"stopping ({stop.reason if stop else ''})"
            )
        await self._rooms.engine.stop(container.id, grace_s=self._rooms.settings.stop_grace_s)

    async def _collect(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        await self._drain(run, job, container)
        outputs: dict[str, Any] = {}
        outcome = await self._outcome(run, workflow, job, container)
        if outcome.succeeded:
            declared = workflow.jobs[job.name]
            try:
                strings = await collecting.read_strings(self._rooms, run, job.name, declared)
                # from here on a cancel comes too late: a version must not be committed for a job that is then Canceled
                self._accept(run, job, container)
                outputs = await collecting.commit(self._rooms, run, job.name, declared, strings)
            except (UsageError, NotFound, Conflict) as error:
                outcome = Outcome("Failed", _words(error))
        await self._end(run, workflow, job, container, outcome, outputs)

    def _accept(self, run: Run, job: Job, container: Container) -> None:
        with self._rooms.db.write() as db:
            message = "its outputs are stored"
            runs.move_job(db, run.id, job.name, job.phase, job.phase, message=message, exit_code=container.exit_code)

    async def _outcome(self, run: Run, workflow: Workflow, job: Job, container: Container) -> Outcome:
        ended = container.finished if container.finished is not None else self._rooms.clock()
        stop = plan.stop_of(run, workflow, job, at=ended)
        if stop and job.exit_code is None:
            return Outcome(stop.phase, stop.reason)
        if container.exit_code not in UNSTARTED_CODES:
            return outcome_of(container)
        return outcome_of(container, await self._rooms.engine.logs_tail(container.id, 1))

    async def _lost(self, run: Run, workflow: Workflow, job: Job) -> None:
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock())
        message = "its container disappeared while it ran; it is not run a second time by itself"
        outcome = Outcome(stop.phase, stop.reason) if stop else Outcome("Error", message)
        await self._end(run, workflow, job, None, outcome)

    async def _end(
        self,
        run: Run,
        workflow: Workflow,
        job: Job,
        container: Container | None,
        outcome: Outcome,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Write the outcome, its outputs and its event together; what the job leaves behind goes afterwards."""
        if not outcome.succeeded:
            await collecting.abandon(self._rooms, run, job.name, workflow.jobs[job.name])
        with self._rooms.db.write() as db:
            moved = runs.move_job(
                db,
                run.id,
                job.name,
                job.phase,
                outcome.phase,
                message=outcome.message,
                exit_code=container.exit_code if container else None,
                finished=self._rooms.clock(),
                outputs=outputs or {},
            )
            if moved:
                self._record_end(run, job.name, outcome)
        await self._clean(run, job.name, container)

    async def _clean(self, run: Run, name: str, container: Container | None) -> None:
        if container:
            await self._rooms.engine.remove(container.id)
            self._attached.discard(container.id)
        await collecting.discard(self._rooms, run, name)

    def _register_model(self, run: Run, job: Job, action: CreateModelAction, given: dict[str, Any]) -> None:
        document = given.get("model")
        if document is None or document["type"] != "dataset":
            raise UsageError("the input `model` must be a dataset", hint="alias a dataset output, or use an inline ref")
        now = self._rooms.clock()
        version = self._rooms.datasets.resolve(document["id"])
        with self._rooms.db.write() as db:
            model = self._rooms.models.register(action.name, action.type, version, run.id, job.name)
            outputs = {"model-id": {"type": "string", "value": model.id}}
            runs.move_job(db, run.id, job.name, "Starting", "Succeeded", started=now, finished=now, outputs=outputs)
            self._record_end(run, job.name, Outcome("Succeeded"))

    async def _drain(self, run: Run, job: Job, container: Container) -> None:
        if container.log_path is None or container.started is None:
            return
        source = collecting.log_source(run, job.name, container)
        if missing := await self._draining.drain(source, container.log_path, timeout_s=DRAIN_S):
            self._record(run, "LogsIncomplete", f"{job.name}: {missing}", level="warning")

    def _read(self, run_id: str, name: str) -> tuple[Run, Job]:
        db = self._rooms.db.read
        return runs.get(db, run_id), next(job for job in runs.jobs(db, run_id) if job.name == name)

    async def container(self, run: Run, job: Job) -> Container | None:
        """The job's container. One of the same name that is somebody else's is not looked at, nor touched."""
        container = await self._rooms.engine.inspect(job.container) if job.container else None
        owner = owner_of(container.labels) if container else None
        mine = owner and (owner.instance, owner.uid, owner.part) == (self._rooms.instance, run.id, job.name)
        return container if mine else None

    def _wanted(self, run: Run, workflow: Workflow, job: Job) -> Callable[[], bool]:
        def wanted() -> bool:
            now = runs.get(self._rooms.db.read, run.id)
            return plan.stop_of(now, workflow, job, at=self._rooms.clock()) is None

        return wanted

    def _stopped(self, run: Run, workflow: Workflow, job: Job) -> Outcome:
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock()) or Stop("Canceled", "canceled")
        return Outcome(stop.phase, stop.reason)

    def _record_end(self, run: Run, name: str, outcome: Outcome) -> None:
        level: Level = "info" if outcome.phase in ("Succeeded", "Canceled") else "error"
        words = f"{name}: {outcome.message}" if outcome.message else name
        self._record(run, f"Job{outcome.phase}", words, level=level)

    def _record(self, run: Run, reason: str, message: str, *, level: Level = "info") -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            events.record(db, "run", actions.subject(run), reason, message, now=now, level=level)


def _words(error: ApplianceError) -> str:
    where = f"{error.where}: " if error.where else ""
    return f"{where}{error.message}" + (f" (next: {error.hint})" if error.hint else "")
