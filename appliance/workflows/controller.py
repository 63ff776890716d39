"""Brings workflow runs to their end. Two kinds of keys, so that a slow job never holds up its run:

`RUN` looks at the run's board (`deciding`), commits which jobs start, are omitted or canceled, and closes the run
(`closing`); it asks the engine nothing before the end. `RUN/JOB` works on one job that has started (`jobs`); the
engine's events hint it, and it hints the run. A run that is over has no container left, however it ended, and no volume
but those that `keeping` names; what it committed to datasets stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import Owner, owner_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError, NotFound, UsageError
from appliance.reconcile import Again
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.scheduler.types import Who
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.storage.base import Store
from appliance.storage.room import plenty
from appliance.storage.scratch import Scratch
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets
from appliance.workflows import plan
from appliance.workflows.board import ACTIVE_PHASES
from appliance.workflows.closing import Closing
from appliance.workflows.deciding import Decisions
from appliance.workflows.gpu_news import GpuNews
from appliance.workflows.interrupted import Interruptions
from appliance.workflows.jobs import JobWorker, Worked
from appliance.workflows.kept import forgetting, keeping
from appliance.workflows.plan import Cancel, Fail, Finish, Omit, Start, Work
from appliance.workflows.rooms import Rooms
from appliance.workflows.slots import Slots
from appliance.workflows.troubles import Troubles

log = logging.getLogger(__name__)

RECHECK_S = 15.0
"""Seconds between two looks at a job that runs, should an event of the engine be missed."""
QUEUES_S = 60.0
"""Seconds between two looks at a job that waits for a GPU, should a word of the scheduler be missed."""
HOSTED_S = 1.0
"""Seconds between two looks at what the daemon does itself for a job, such as a deployment that becomes ready."""

_LOOKS: Mapping[Worked | None, float] = {"waits": HOSTED_S, "queues": QUEUES_S}


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
        booted: float = 0.0,
        leases: Leases | None = None,
    ) -> None:
        """`booted`: when the machine began to run, unix time; 0: not known. `leases`: who gives jobs their GPUs."""
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
            hint=hint,
            leases=leases or NoGpus(),
        )
        self._hint = hint
        self._interruptions = Interruptions(booted, settings.stop_grace_s)
        self._worker = JobWorker(self._rooms, self._changed, self._interruptions)
        self._leases = self._worker.leases
        self._slots = Slots(self._rooms, self._look_at, self._leases.count_waiting)
        self.gpu_news = GpuNews(self._rooms, self._workflow, self._look_at)
        self._decisions = Decisions(self._rooms)
        self._closing = Closing(self._rooms, self._worker.ending, self._ended)
        self._troubles = Troubles(self._rooms)
        self._workflows: dict[str, Workflow] = {}
        self._busy: set[tuple[str, str]] = set()
        """Jobs, by run, that are being worked on at this moment."""

    def keys(self) -> Iterable[str]:
        for run_id in runs.unfinished_ids(self._rooms.db.read):
            yield run_id
            for name in sorted(runs.active_names(self._rooms.db.read, run_id)):
                yield f"{run_id}/{name}"

    def noticed(self, owner: Owner, action: str) -> None:
        """An event of the engine about a job's container: `action` is its word for what happened."""
        name = f"{owner.uid}/{owner.part}"
        if action == "die" or (action == "destroy" and owner.part in runs.active_names(self._rooms.db.read, owner.uid)):
            self._hint(self.kind, name)

    def lease_changed(self, who: Who) -> None:
        """The answer to its request is another than before."""
        self._hint(self.kind, f"{who.uid}/{who.part}")

    def engine_lost(self, at: float) -> None:
        """The engine does not answer: what ends until it does may have ended with it."""
        self._interruptions.lost(at)

    def engine_back(self, at: float) -> None:
        self._interruptions.back(at)

    async def reconcile(self, key: str) -> Again | None:
        run_id, _, job = key.partition("/")
        try:
            again = await (self._work(run_id, job) if job else self._advance(run_id))
        except Exception as error:
            self._troubles.show(run_id, job, error)
            raise
        if self._troubles.passed(key):
            self._look_at(run_id)
        return again

    async def sweep(self) -> None:
        """Remove what no run knows any more: after a restored backup, a kill or a cleanup that failed."""
        for container in await self._rooms.engine.list(kind=self.kind):
            owner = owner_of(container.labels)
            if owner and not self._knows(owner, container.name):  # asked now: it may have begun since the listing
                log.info("container %s belongs to no job that is under way; it is removed", container.name)
                await self._remove(owner, container)
        await self._rooms.scratch.sweep(self._kept_runs())

    def _kept_runs(self) -> Callable[[], list[str]]:
        """Asked for each volume's run: the rows are read again only where anything was written since."""
        db, asked, found = self._rooms.db.read, -1, list[str]()

        def kept_runs() -> list[str]:
            nonlocal asked, found
            if asked != db.total_changes:
                asked, found = db.total_changes, keeping.kept_runs(db)
            return found

        return kept_runs

    def _knows(self, owner: Owner, container: str) -> bool:
        if self._unfinished(owner.uid) is None:
            return False
        try:
            job = runs.job(self._rooms.db.read, owner.uid, owner.part)
        except NotFound:
            return False
        return job.phase in ACTIVE_PHASES and job.container == container

    async def _remove(self, owner: Owner, container: Container) -> None:
        run = self._unfinished(owner.uid)
        if run is not None:
            await self._worker.ending.dispose(run, container)
        else:
            await self._rooms.engine.remove(container.id)

    @property
    def rooms(self) -> Rooms:
        """What the runs are made with, for those who look into one."""
        return self._rooms

    async def tend(self, now: float, *, by_age: bool = True) -> None:
        """Let go of what runs that are over have left and nobody needs any more. To be called now and then.

        Without `by_age` the clock is not trusted, and nothing counts as old.
        """
        await keeping.tend(self._rooms, now, by_age=by_age)
        await forgetting.forget(self._rooms, now, by_age=by_age)

    # one job

    async def _work(self, run_id: str, name: str) -> Again | None:
        run = self._unfinished(run_id)
        if run is None:
            return None
        acted: Worked | None = None
        self._busy.add((run_id, name))
        try:
            workflow = self._workflow(run)
            acted = await self._worker.work(run_id, name, workflow)
        except ApplianceError as error:
            self._troubles.say(run_id, name, f"{error.message}; trying again")
            raise
        finally:
            self._busy.discard((run_id, name))
            if acted in ("acted", None):
                self._changed(run_id)
        return self._next_look(run_id, name, workflow, _LOOKS.get(acted, RECHECK_S))

    def _next_look(self, run_id: str, name: str, workflow: Workflow, within_s: float) -> Again | None:
        job = runs.job(self._rooms.db.read, run_id, name)
        if job.phase not in ACTIVE_PHASES:
            return None
        return Again(plan.next_look(workflow, job, now=self._rooms.clock(), within_s=within_s))

    def _changed(self, run_id: str) -> None:
        """A job of this run stands elsewhere than before, and may have left a slot."""
        self._look_at(run_id)
        self._slots.wake_waiting()

    # the whole run

    async def _advance(self, run_id: str) -> Again | None:
        run = self._unfinished(run_id)
        if run is None:
            self._forget(run_id)
            return None
        try:
            workflow = self._workflow(run)
        except UsageError as error:
            await self._closing.give_up(run, f"its spec cannot be read any more: {error.message}")
            return None
        board = self._decisions.board(run, workflow)
        hold = self._slots.hold(run, workflow)
        busy = any(busy_run == run_id for busy_run, _ in self._busy)
        now = self._rooms.clock()
        slots = 0 if hold else self._slots.free_for(run)
        decided = plan.plan(run, workflow, board, now=now, slots=slots, busy=busy)
        waits = decided.waiting > 0 and not hold
        if waits:
            self._slots.queue(run)
        trouble = self._troubles.of(run_id) or self._leases.words_of(run_id, board.active)
        self._decisions.write(run, board, decided, hold=hold, trouble=trouble, now=now)
        if not waits:
            self._slots.leave_queue(run_id)
        for action in decided.actions:
            if isinstance(action, Start):
                self._worker.begun(run_id, action.job)
            if isinstance(action, Start | Work):
                self._look_at(f"{run_id}/{action.job}")
            elif isinstance(action, Finish):
                return await self._closing.finish(run, action)
        if any(isinstance(action, Omit | Fail | Cancel) for action in decided.actions):
            self._look_at(run_id)
        return None if decided.deadline is None else Again(max(0.0, decided.deadline - now))

    def _ended(self, run: Run) -> None:
        self._forget(run.id)
        self._slots.ended(run)

    def _forget(self, run_id: str) -> None:
        self._workflows.pop(run_id, None)
        for part in (self._slots, self._decisions, self._closing, self._troubles, self._leases):
            part.forget(run_id)

    def _look_at(self, key: str) -> None:
        self._hint(self.kind, key)

    def _unfinished(self, run_id: str) -> Run | None:
        """Without its spec."""
        try:
            run = runs.head(self._rooms.db.read, run_id)
        except NotFound:
            return None
        return run if run.finished is None else None

    def _workflow(self, run: Run) -> Workflow:
        """Raises UsageError where the document, valid when it was submitted, is not so any more."""
        if run.id not in self._workflows:
            spec = parse("workflow", run.workflow, runs.get(self._rooms.db.read, run.id).spec)
            if not isinstance(spec, Workflow):
                raise UsageError("not a workflow")
            self._workflows[run.id] = spec
        return self._workflows[run.id]
