"""Brings workflow runs to their end. Two kinds of keys, so that a slow job never holds up its run:

`RUN` looks at the whole run, commits which jobs start, are omitted or canceled, and closes the run;
`RUN/JOB` works on one job that has started. The engine's events hint the run, which hints the jobs.
A run that is over has no container and no volume left, however it ended; what it committed to datasets stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError, Conflict, NotFound, StorageError, UsageError
from appliance.reconcile import Again
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.state import events, runs
from appliance.state.db import Connection, Database
from appliance.state.events import Level
from appliance.state.runs import FINAL_PHASES, Run
from appliance.storage.base import Store
from appliance.storage.room import plenty
from appliance.storage.scratch import Scratch
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets
from appliance.workflows import actions, inputs, plan
from appliance.workflows.jobs import JobWorker
from appliance.workflows.plan import Cancel, Finish, Omit, Plan, Start, Work
from appliance.workflows.rooms import Rooms

log = logging.getLogger(__name__)

RECHECK_S = 15.0
"""Seconds between two looks at a run whose jobs run, should an event of the engine be missed."""
CLEANUP_TRIES = 3


class RunController:
    kind = "run"

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        store: Store,
        scratch: Scratch,
        datasets: Datasets,
        models: Models,
        telemetry: Telemetry,
        vault: Secrets,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        no_room: Callable[[], str] = plenty,
    ) -> None:
        self._rooms = Rooms(
            db=db,
            engine=engine,
            images=images,
            store=store,
            scratch=scratch,
            datasets=datasets,
            models=models,
            telemetry=telemetry,
            vault=vault,
            settings=settings,
            instance=instance,
            clock=clock,
            no_room=no_room,
        )
        self._hint = hint
        self._worker = JobWorker(self._rooms)
        self._workflows: dict[str, Workflow] = {}
        self._busy: set[tuple[str, str]] = set()
        self._waiting: dict[str, tuple[float, int]] = {}
        """Runs with a job that waits for a free slot, and their place in the queue."""
        self._cleanup_tries: dict[str, int] = {}

    def keys(self) -> Iterable[str]:
        return runs.unfinished_ids(self._rooms.db.read)

    async def reconcile(self, key: str) -> Again | None:
        run_id, _, job = key.partition("/")
        if not job:
            return await self._advance(run_id)
        await self._work(run_id, job)
        return None

    async def sweep(self) -> None:
        """Remove what belongs to no unfinished run: for a start after a restored backup or a cleanup that failed."""
        for container in await self._rooms.engine.list(kind=self.kind):
            owner = owner_of(container.labels)
            if owner and owner.uid not in set(self.keys()):  # asked now: a run may have begun since the listing
                log.info("container %s belongs to no unfinished run; it is removed", container.name)
                await self._rooms.engine.remove(container.id)
        await self._rooms.scratch.sweep(self.keys)

    # one job

    async def _work(self, run_id: str, name: str) -> None:
        run = self._unfinished(run_id)
        if run is None:
            return
        self._busy.add((run_id, name))
        try:
            acted = await self._worker.work(run_id, name, self._workflow(run))
        except ApplianceError as error:
            self._say(run_id, name, f"{error.message}; trying again")
            raise
        finally:
            self._busy.discard((run_id, name))
        if acted:
            self._hint(self.kind, run_id)
            self._wake_waiting()

    def _say(self, run_id: str, name: str, message: str) -> None:
        with self._rooms.db.write() as db:
            for job in runs.jobs(db, run_id):
                if job.name == name and job.phase not in FINAL_PHASES and job.message != message:
                    runs.move_job(db, run_id, name, job.phase, job.phase, message=message)

    # the whole run

    async def _advance(self, run_id: str) -> Again | None:
        run = self._unfinished(run_id)
        if run is None:
            return None
        try:
            workflow = self._workflow(run)
        except UsageError as error:
            await self._give_up(run, f"its spec cannot be read any more: {error.message}")
            return None
        containers = await self._containers(run)
        run, jobs = runs.get(self._rooms.db.read, run_id), runs.jobs(self._rooms.db.read, run_id)
        busy = {name for busy_run, name in self._busy if busy_run == run_id}
        now = self._rooms.clock()
        decided = plan.plan(run, workflow, jobs, containers, now=now, slots=self._slots(run), busy=busy)
        self._write(run, decided, now)
        for action in decided.actions:
            if isinstance(action, Start | Work):
                self._hint(self.kind, f"{run_id}/{action.job}")
            elif isinstance(action, Finish):
                await self._finish(run, action)
                return None
        for name, container in containers.items():
            if container.state == "running" and not self._worker.follows(container):
                self._hint(self.kind, f"{run_id}/{name}")
        if any(isinstance(action, Omit | Cancel) for action in decided.actions):
            self._hint(self.kind, run_id)
        wait = RECHECK_S if decided.deadline is None else decided.deadline - now
        idle = decided.deadline is None and not any(job.phase in plan.ACTIVE_PHASES for job in jobs)
        return None if idle else Again(min(RECHECK_S, wait))

    def _write(self, run: Run, decided: Plan, now: float) -> None:
        """Everything decided, in one transaction. From here on the started jobs are found again after a kill."""
        if decided.waiting:
            self._waiting[run.id] = (run.created, run.number)
        started = [action.job for action in decided.actions if isinstance(action, Start)]
        with self._rooms.db.write() as db:
            if started and run.phase == "Pending":
                runs.set_inputs(db, run.id, inputs.pinned(run.inputs, self._rooms.resolve))
                runs.set_phase(db, run.id, "Running", started=now)
                self._record(db, run, "Started", "the first job starts")
            else:
                self._explain_wait(db, run, waiting=bool(decided.waiting))
            self._explain_jobs(db, run, decided.waiting)
            for action in decided.actions:
                match action:
                    case Start(name):
                        container = actions.container_name(self._rooms.instance, run, name)
                        runs.move_job(db, run.id, name, "Pending", "Starting", container=container)
                    case Omit(name, reason):
                        runs.move_job(db, run.id, name, "Pending", "Omitted", message=reason, finished=now)
                        self._record(db, run, "JobOmitted", f"{name}: {reason}", level="warning")
                    case Cancel(name):
                        runs.move_job(db, run.id, name, "Pending", "Canceled", message="canceled", finished=now)
        if not decided.waiting and self._waiting.pop(run.id, None) is not None:
            self._wake_waiting()  # the slot it did not take is for the next in the queue

    def _explain_wait(self, db: Connection, run: Run, *, waiting: bool) -> None:
        """What a run waits for that has nothing else to do, or whose next job waits for disk space."""
        message = self._rooms.no_room() if waiting else ""
        if waiting and not message and run.phase == "Pending":
            most = self._rooms.settings.max_parallel_jobs
            message = f"waits for a free slot: {most} jobs at a time (setting max_parallel_jobs)"
        if run.message != message:
            runs.set_phase(db, run.id, run.phase, message=message)

    def _explain_jobs(self, db: Connection, run: Run, waiting: Sequence[str]) -> None:
        message = self._rooms.no_room() or "waits for a free slot"
        for job in runs.jobs(db, run.id) if waiting else ():
            if job.name in waiting and job.message != message:
                runs.move_job(db, run.id, job.name, "Pending", "Pending", message=message)

    async def _finish(self, run: Run, finish: Finish) -> None:
        """The last step: whatever is left of the run goes, then it is over."""
        for container in (await self._left_containers(run)).values():
            await self._rooms.engine.remove(container.id)
        try:
            await self._rooms.scratch.destroy_run(run.id)
        except (StorageError, Conflict) as error:
            tries = self._cleanup_tries[run.id] = self._cleanup_tries.get(run.id, 0) + 1
            if tries < CLEANUP_TRIES:
                raise
            message = f"its volumes stay until the daemon starts again: {error.message}"
            self._record(self._rooms.db.read, run, "CleanupFailed", message, level="warning")
        level: Level = "error" if finish.phase in plan.FAILED_PHASES else "info"
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            runs.set_phase(db, run.id, finish.phase, message=finish.message, finished=now)
            self._record(db, run, finish.phase, finish.message or f"{len(runs.jobs(db, run.id))} jobs", level=level)
        self._workflows.pop(run.id, None)
        self._waiting.pop(run.id, None)
        self._cleanup_tries.pop(run.id, None)
        self._wake_waiting()

    async def _give_up(self, run: Run, message: str) -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            for job in runs.jobs(db, run.id):
                if job.phase not in FINAL_PHASES:
                    runs.move_job(db, run.id, job.name, job.phase, "Error", message=message, finished=now)
        await self._finish(run, Finish("Error", message))

    async def _containers(self, run: Run) -> dict[str, Container]:
        """By job: those of the jobs that are under way, or of a run whose jobs are all over, whatever is left."""
        jobs = runs.jobs(self._rooms.db.read, run.id)
        if all(job.phase in FINAL_PHASES for job in jobs):
            return await self._left_containers(run)
        # inspected one by one: right after a container has ended, the engine's list still says that it runs
        active = [job for job in jobs if job.phase in plan.ACTIVE_PHASES and (run.id, job.name) not in self._busy]
        found = await asyncio.gather(*(self._worker.container(run, job) for job in active))
        return {job.name: container for job, container in zip(active, found, strict=True) if container}

    async def _left_containers(self, run: Run) -> dict[str, Container]:
        """Of a run whose jobs have never started there are none, and the engine is not asked."""
        if not any(job.container for job in runs.jobs(self._rooms.db.read, run.id)):
            return {}
        found = await self._rooms.engine.list(kind=self.kind, uid=run.id)
        owners = ((owner_of(container.labels), container) for container in found)
        return {owner.part: container for owner, container in owners if owner}

    # slots

    def _free_slots(self) -> int:
        return self._rooms.settings.max_parallel_jobs - runs.active_jobs(self._rooms.db.read)

    def _slots(self, run: Run) -> int:
        """What is free for this run: one slot stays for each older run that waits, and none where disk space is low."""
        if self._rooms.no_room():
            return 0
        place = (run.created, run.number)
        older = sum(1 for id_, other in self._waiting.items() if id_ != run.id and other < place)
        return max(0, self._free_slots() - older)

    def _wake_waiting(self) -> None:
        for waiting in sorted(self._waiting, key=self._waiting.__getitem__)[: max(0, self._free_slots())]:
            self._hint(self.kind, waiting)

    # rows

    def _unfinished(self, run_id: str) -> Run | None:
        try:
            run = runs.get(self._rooms.db.read, run_id)
        except NotFound:
            return None
        return run if run.finished is None else None

    def _workflow(self, run: Run) -> Workflow:
        """Raises UsageError where the document, valid when it was submitted, is not so any more."""
        if run.id not in self._workflows:
            spec = parse("workflow", run.workflow, run.spec)
            if not isinstance(spec, Workflow):
                raise UsageError("not a workflow")
            self._workflows[run.id] = spec
        return self._workflows[run.id]

    def _record(self, db: Connection, run: Run, reason: str, message: str, *, level: Level = "info") -> None:
        events.record(db, "run", actions.subject(run), reason, message, now=self._rooms.clock(), level=level)
