"""Brings workflow runs to their end. Two kinds of keys, so that a slow job never holds up its run:

`RUN` looks at the run's board, commits which jobs start, are omitted or canceled, and closes the run; it asks the
engine nothing before the end. `RUN/JOB` works on one job that has started; the engine's events hint it, and it hints
the run. A run that is over has no container and no volume left, however it ended; what it committed to datasets stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import Owner, owner_of
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
from appliance.telemetry.redact import Redactor
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets
from appliance.workflows import actions, concurrency, inputs, keeping, plan
from appliance.workflows.board import ACTIVE_PHASES, FAILED_PHASES, Board
from appliance.workflows.jobs import JobWorker, Worked
from appliance.workflows.plan import Cancel, Fail, Finish, Omit, Plan, Start, Work
from appliance.workflows.rooms import Rooms

log = logging.getLogger(__name__)

RECHECK_S = 15.0
"""Seconds between two looks at a job that runs, should an event of the engine be missed."""
HOSTED_S = 1.0
"""Seconds between two looks at what the daemon does itself for a job, such as a deployment that becomes ready."""
CLEANUP_TRIES = 3
ENDING = "all jobs are over; ending it fails: "
MOST_WORDS = 400
"""Characters of an unexpected error that are shown."""


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
            hint=hint,
        )
        self._hint = hint
        self._worker = JobWorker(self._rooms, self._changed)
        self._workflows: dict[str, Workflow] = {}
        self._boards: dict[str, Board] = {}
        self._busy: set[tuple[str, str]] = set()
        self._waiting: dict[str, tuple[float, int]] = {}
        """Runs with a job that waits for a free slot, and their place in the queue."""
        self._held: dict[str, tuple[str, int]] = {}
        """Runs that may not begin before an older one of their workflow is over: its uid, and their number."""
        self._leaving: set[str] = set()
        """Runs with all jobs over whose last containers were told to go."""
        self._cleanup_tries: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        """`RUN/JOB` -> what nobody expected at the last look at it, in words; until a look succeeds."""

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

    async def reconcile(self, key: str) -> Again | None:
        run_id, _, job = key.partition("/")
        try:
            again = await (self._work(run_id, job) if job else self._advance(run_id))
        except Exception as error:
            self._show(run_id, job, error)
            raise
        if self._troubles.pop(key, ""):
            self._hint(self.kind, run_id)  # it shows the trouble
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
            await self._worker.dispose(run, container)
        else:
            await self._rooms.engine.remove(container.id)

    @property
    def rooms(self) -> Rooms:
        """What the runs are made with, for those who look into one."""
        return self._rooms

    async def tend(self, now: float) -> None:
        """Let go of what runs that are over have left and nobody needs any more. To be called now and then."""
        await keeping.tend(self._rooms, now)

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
            self._say(run_id, name, f"{error.message}; trying again")
            raise
        finally:
            self._busy.discard((run_id, name))
            if acted in ("acted", None):
                self._changed(run_id)
        return self._next_look(run_id, name, workflow, HOSTED_S if acted == "waits" else RECHECK_S)

    def _next_look(self, run_id: str, name: str, workflow: Workflow, within_s: float) -> Again | None:
        job = runs.job(self._rooms.db.read, run_id, name)
        if job.phase not in ACTIVE_PHASES:
            return None
        return Again(plan.next_look(workflow, job, now=self._rooms.clock(), within_s=within_s))

    def _changed(self, run_id: str) -> None:
        """A job of this run stands elsewhere than before, and may have left a slot."""
        self._hint(self.kind, run_id)
        self._wake_waiting()

    def _say(self, run_id: str, name: str, message: str) -> None:
        with self._rooms.db.write() as db:
            job = runs.job(db, run_id, name)
            if job.phase not in FINAL_PHASES and job.message != message:
                runs.move_job(db, run_id, name, job.phase, job.phase, message=message)

    def _show(self, run_id: str, name: str, error: Exception) -> None:
        """Whoever looks at the run sees why it does not get on. What a job is refused, that job says itself."""
        if name and isinstance(error, ApplianceError):
            return
        try:
            run = self._unfinished(run_id)
            if run is None:
                return
            words = self._words(error)
            message, over = f"{words}; tried again", False
            if name:
                self._say(run_id, name, f"{words}; trying again")
                message = self._troubles[f"{run_id}/{name}"] = f"job {name}: {message}"
            elif over := all(mark.phase in FINAL_PHASES for mark in runs.marks(self._rooms.db.read, run_id)):
                message = ENDING + message
            with self._rooms.db.write() as db:
                if run.message != message:
                    runs.set_phase(db, run_id, run.phase, message=message)
                if over and not run.message.startswith(ENDING):
                    self._record(db, run, "EndingFailed", message, level="error")
        except Exception:
            log.exception("run %s: why it does not get on cannot be written down", run_id)

    def _words(self, error: Exception) -> str:
        if isinstance(error, ApplianceError):
            return error.message + (f" (next: {error.hint})" if error.hint else "")
        said = Redactor(self._rooms.vault.values()).scrub(" ".join(str(error).split()))[:MOST_WORDS]
        return f"unexpected {type(error).__name__}" + (f": {said}" if said else "")

    # the whole run

    async def _advance(self, run_id: str) -> Again | None:
        run = self._unfinished(run_id)
        if run is None:
            self._forget(run_id)
            return None
        try:
            workflow = self._workflow(run)
        except UsageError as error:
            await self._give_up(run, f"its spec cannot be read any more: {error.message}")
            return None
        board = self._board(run, workflow)
        hold = self._hold(run, workflow)
        busy = any(busy_run == run_id for busy_run, _ in self._busy)
        now = self._rooms.clock()
        decided = plan.plan(run, workflow, board, now=now, slots=0 if hold else self._slots(run), busy=busy)
        self._write(run, board, decided, hold, now)
        for action in decided.actions:
            if isinstance(action, Start):
                self._worker.begun(run_id, action.job)
            if isinstance(action, Start | Work):
                self._hint(self.kind, f"{run_id}/{action.job}")
            elif isinstance(action, Finish):
                return await self._finish(run, action)
        if any(isinstance(action, Omit | Fail | Cancel) for action in decided.actions):
            self._hint(self.kind, run_id)
        return None if decided.deadline is None else Again(max(0.0, decided.deadline - now))

    def _board(self, run: Run, workflow: Workflow) -> Board:
        """Made once, then told what its jobs under way have come to."""
        db = self._rooms.db.read
        board = self._boards.get(run.id)
        if board is None:
            board = self._boards[run.id] = Board(workflow, runs.marks(db, run.id))
        for name in runs.active_names(db, run.id) ^ board.active:
            self._read(run, board, name)
        return board

    def _read(self, run: Run, board: Board, name: str) -> None:
        for mark in runs.marks(self._rooms.db.read, run.id, name):
            board.moved(mark)

    def _hold(self, run: Run, workflow: Workflow) -> str:
        """Why an older run of its workflow keeps it from beginning, in words; empty: none does."""
        if not workflow.concurrency or run.phase != "Pending":
            self._held.pop(run.id, None)
            return ""
        older = runs.ahead(self._rooms.db.read, run.workflow_uid, run.number)
        reason = concurrency.held_by(run, workflow, older)
        if not reason:
            self._held.pop(run.id, None)
        elif run.id not in self._held:
            self._held[run.id] = (run.workflow_uid, run.number)
            for other in older:
                if other.cancel:
                    self._hint(self.kind, other.id)
        return reason

    def _write(self, run: Run, board: Board, decided: Plan, hold: str, now: float) -> None:
        """Everything decided, in one transaction. From here on the started jobs are found again after a kill."""
        waits = decided.waiting > 0 and not hold
        if waits:
            self._waiting[run.id] = (run.created, run.number)
        why = self._rooms.no_room() or "waits for a free slot"
        starts = [action.job for action in decided.actions if isinstance(action, Start)]
        told = [name for name in board.untold(why, now) if name not in starts] if waits else []
        moved: list[str] = []
        with self._rooms.db.write() as db:
            if starts and run.phase == "Pending":
                runs.set_inputs(db, run.id, inputs.pinned(run.inputs, self._rooms.resolve))
                runs.set_phase(db, run.id, "Running", started=now)
                self._record(db, run, "Started", "the first job starts")
            elif not any(isinstance(action, Finish) for action in decided.actions):  # what it says then is its end
                self._explain_wait(db, run, hold, waits=waits)
            for name in told:
                if board[name].message != why:
                    runs.move_job(db, run.id, name, "Pending", "Pending", message=why)
            for action in decided.actions:
                match action:
                    case Start(name):
                        container = actions.container_name(self._rooms.instance, run, name, board[name].attempt)
                        runs.move_job(db, run.id, name, "Pending", "Starting", container=container)
                        moved.append(name)
                    case Omit(name, reason):
                        if runs.move_job(db, run.id, name, "Pending", "Omitted", message=reason, finished=now):
                            self._record(db, run, "JobOmitted", f"{name}: {reason}", level="warning")
                        moved.append(name)
                    case Fail(name, reason):
                        if runs.move_job(db, run.id, name, "Pending", "Failed", message=reason, finished=now):
                            self._record(db, run, "JobFailed", f"{name}: {reason}", level="error")
                        moved.append(name)
                    case Cancel(name):
                        runs.move_job(db, run.id, name, "Pending", "Canceled", message="canceled", finished=now)
                        moved.append(name)
        board.tell(why, told)
        for name in moved:
            self._read(run, board, name)
        if not waits and self._waiting.pop(run.id, None) is not None:
            self._wake_waiting()  # the slot it did not take is for the next in the queue

    def _explain_wait(self, db: Connection, run: Run, hold: str, *, waits: bool) -> None:
        """What a run waits for that has nothing else to do, or whose next job waits for disk space, or its trouble."""
        message = hold or self._trouble(run.id) or (self._rooms.no_room() if waits else "")
        if waits and not message and run.phase == "Pending":
            most = self._rooms.settings.max_parallel_jobs
            message = f"waits for a free slot: {most} jobs at a time (setting max_parallel_jobs)"
        if run.message != message:
            runs.set_phase(db, run.id, run.phase, message=message)

    def _trouble(self, run_id: str) -> str:
        return next((said for key, said in self._troubles.items() if key.startswith(f"{run_id}/")), "")

    async def _finish(self, run: Run, finish: Finish) -> Again | None:
        """All jobs are over: whatever is left of their containers goes, at last the run is over too."""
        if runs.had_containers(self._rooms.db.read, run.id):
            left = await self._rooms.engine.list(kind=self.kind, uid=run.id)
            for container in left:
                if container.state != "removing":
                    await self._worker.dispose(run, container)
            if left:  # one that is still there after it was removed takes its time
                soon = run.id not in self._leaving and all(container.state != "removing" for container in left)
                self._leaving.add(run.id)
                return Again(0.0 if soon else plan.REMOVAL_S)
        await self._close(run, finish)
        return None

    async def _close(self, run: Run, finish: Finish) -> None:
        try:
            await keeping.settle(self._rooms, run)
        except (StorageError, Conflict) as error:
            tries = self._cleanup_tries[run.id] = self._cleanup_tries.get(run.id, 0) + 1
            if tries < CLEANUP_TRIES:
                raise
            message = f"some of its volumes stay for now, and go later: {error.message}"
            self._record(self._rooms.db.read, run, "CleanupFailed", message, level="warning")
        level: Level = "error" if finish.phase in FAILED_PHASES else "info"
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            runs.set_phase(db, run.id, finish.phase, message=finish.message, finished=now)
            self._record(db, run, finish.phase, finish.message or f"{runs.count_jobs(db, run.id)} jobs", level=level)
        self._forget(run.id)
        self._wake_waiting()
        self._wake_held(run.workflow_uid)

    def _wake_held(self, workflow_uid: str) -> None:
        """The oldest one: what holds that holds the others too."""
        held = [(number, run_id) for run_id, (uid, number) in self._held.items() if uid == workflow_uid]
        if held:
            self._hint(self.kind, min(held)[1])

    async def _give_up(self, run: Run, message: str) -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            for job in runs.jobs(db, run.id):
                if job.phase not in FINAL_PHASES:
                    runs.move_job(db, run.id, job.name, job.phase, "Error", message=message, finished=now)
        for container in await self._rooms.engine.list(kind=self.kind, uid=run.id):
            await self._rooms.engine.remove(container.id)
        await self._close(run, Finish("Error", message))

    def _forget(self, run_id: str) -> None:
        for remembered in (self._workflows, self._boards, self._waiting, self._cleanup_tries):
            remembered.pop(run_id, None)
        self._held.pop(run_id, None)
        self._leaving.discard(run_id)
        for key in [key for key in self._troubles if key.startswith(f"{run_id}/")]:
            del self._troubles[key]

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

    def _record(self, db: Connection, run: Run, reason: str, message: str, *, level: Level = "info") -> None:
        events.record(db, "run", actions.subject(run), reason, message, now=self._rooms.clock(), level=level)
