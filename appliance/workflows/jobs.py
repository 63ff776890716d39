"""One job from its committed start to its end: look, decide by `plan.step`, act, look again.

Each act is safe to repeat and leaves a state in which the next look finds what to do, so the daemon may be killed
between any two. A container is started at most once: that it is about to be is written first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import Conflict, EngineError, GpuRefused, NotFound, StorageError, UsageError
from appliance.scheduler.leasing import LEASE
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.runs import FINAL_PHASES, Job, Run
from appliance.telemetry.redact import Redactor
from appliance.workflows import collecting, plan, preparing
from appliance.workflows.ending import Ending
from appliance.workflows.interrupted import Interruptions
from appliance.workflows.kept import reuse
from appliance.workflows.leasing import JobLeases
from appliance.workflows.outcome import UNSTARTED_CODES, Outcome, outcome_of, unstartable
from appliance.workflows.plan import Step, Stop
from appliance.workflows.refusals import REFUSALS, refused
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions, hosted
from appliance.workflows.telling import tell, words

MOST_STEPS = 12
"""Acts in one go; a job that needs more is not getting on."""
STORE_TRIES = 10

Worked = Literal["idle", "acted", "waits", "queues"]
"""What came of a look at a job: it needed nothing, something was done, the daemon's own work on it goes on, or it waits
for a GPU as before."""


class JobWorker:
    """`changed`: see Ending."""

    def __init__(self, rooms: Rooms, changed: Callable[[str], None], interruptions: Interruptions) -> None:
        self._rooms = rooms
        self.leases = JobLeases(rooms)
        self._interruptions = interruptions
        self._attached: dict[tuple[str, str], str] = {}
        """The containers whose log lines are being read, by run and job."""
        self._fresh: set[tuple[str, str]] = set()
        self._refused: dict[tuple[str, str], int] = {}
        """How often the store did not take what a job has made."""
        self.ending = Ending(rooms, changed, self.leases)

    def begun(self, run_id: str, name: str) -> None:
        """This process has just committed the start of this attempt, so it cannot have a container yet."""
        self._fresh.add((run_id, name))

    async def work(self, run_id: str, name: str, workflow: Workflow) -> Worked:
        """Do what the job needs until it runs, or is over and only its outputs are left."""
        made: Container | None = None
        for acts in range(MOST_STEPS):
            run, job = self._read(run_id, name)
            if job.phase in FINAL_PHASES and not self.ending.is_unclean(run_id, name):
                return "acted" if acts else "idle"
            if self._queues(run, workflow, job):
                moved = acts or runs.job(self._rooms.db.read, run_id, name).message != job.message
                return "acted" if moved else "queues"
            # the row first: a container made after it was read must not look lost
            container = made or await self._seen(run, job)
            made = None
            match plan.step(run, workflow, job, container, now=self._rooms.clock()):
                case Step.WATCH:
                    self._follow(run, job, container)
                    return "acted" if acts else "idle"
                case Step.PREPARE:
                    async with self.leases.kept(run, job.name):
                        made = await self._prepare(run, workflow, job)
                case Step.HOSTED:
                    return "acted" if await self._hosted(run, workflow, job) else "waits"
                case Step.LOST:
                    await self._lost(run, workflow, job)
                    return "acted"
                case Step.DROP:
                    await self._drop(run, workflow, job, container)
                    return "acted"
                case _ if container is None:
                    return "acted" if acts else "idle"
                case Step.START:
                    await self._start(run, workflow, job, container)
                case Step.ADOPT:
                    self._running(run, job, container)
                    return "acted"
                case Step.STOP:
                    await self._stop(run, workflow, job, container)
                case Step.COLLECT:
                    await self._collect(run, workflow, job, container)
                    return "acted"
                case Step.CLEAN:
                    await self.ending.clean(run, job.name, container)
                    return "acted"
        raise EngineError(f"job {name} makes no progress", hint="the daemon's log says what it tried")

    def _queues(self, run: Run, workflow: Workflow, job: Job) -> bool:
        """It waits for a GPU, and nothing ends that: it has no container yet."""
        if not self.leases.waits(run.id, job.name) or job.preempted:
            return False
        if plan.stop_of(run, workflow, job, at=self._rooms.clock()) is not None:
            return False
        return self.leases.ask(run, workflow, job).state not in ("unneeded", "granted")

    async def _prepare(self, run: Run, workflow: Workflow, job: Job) -> Container | None:
        """The container, where it came to one."""
        if job.attempt > 1:
            await self.ending.forget_earlier(run, job)
        try:
            given = await preparing.resolve_inputs(self._rooms, run, workflow, job)
            wanted = self._wanted(run, workflow, job)
            at_once = self.leases.stand(run, workflow, job).state in ("unneeded", "granted")
            prepared = await preparing.prepare(self._rooms, run, workflow, job, given, wanted, at_once=at_once)
            if prepared is None:
                return None
            key = reuse.key_of(self._rooms, run, workflow, job, given, prepared)
            with self._rooms.db.write() as db:
                runs.move_job(db, run.id, job.name, job.phase, job.phase, image=prepared.digest, cache_key=key)
            if key and (hit := await reuse.look(self._rooms, run, workflow, job, key)):
                # what a preparation that was killed has begun
                await collecting.abandon(self._rooms, run, job.name, workflow.jobs[job.name])
                if self._reuse(run, job, hit):
                    return None
            _, told = self._read(run.id, job.name)  # its message has told of the image meanwhile
            lease = self.leases.ask(run, workflow, told)
            if lease.state not in ("unneeded", "granted"):
                return None
            container = await preparing.make_container(self._rooms, run, workflow, job, given, prepared, lease)
            if lease.state == "granted":
                self.leases.held(run, job.name, container.id)
            return container
        except GpuRefused as error:
            await self.ending.put_off(run, workflow, job, None, error)
            return None
        except REFUSALS as error:
            await self._end(run, workflow, job, None, refused(error))
            return None

    def _reuse(self, run: Run, job: Job, hit: reuse.Hit) -> bool:
        """False: what it would be given went meanwhile."""
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            if not reuse.claim(db, hit, now=now):
                return False
            moved = runs.move_job(
                db,
                run.id,
                job.name,
                job.phase,
                "Succeeded",
                message=hit.reason,
                started=now,
                finished=now,
                outputs=hit.outputs,
                reused=hit.source,
                commit_id=hit.commit_id,
            )
            if moved:
                self.leases.release(run, job.name)
                tell(self._rooms, run, "JobReused", f"{job.name}: {hit.reason}")
        return True

    async def _hosted(self, run: Run, workflow: Workflow, job: Job) -> bool:
        """False: it is not done yet."""
        now = self._rooms.clock()
        try:
            given: Mapping[str, Any] = job.inputs
            if job.phase == "Starting":
                given = await preparing.resolve_inputs(self._rooms, run, workflow, job)
                with self._rooms.db.write() as db:
                    runs.move_job(db, run.id, job.name, "Starting", "Running", started=now)
                _, job = self._read(run.id, job.name)
            said = await hosted.act(self._rooms, run, workflow, job, given)
        except REFUSALS as error:
            await self._end(run, workflow, job, None, refused(error))
            return True
        if isinstance(said, hosted.Done):
            await self._end(run, workflow, job, None, Outcome("Succeeded"), said.outputs)
            return True
        if said != job.message:
            with self._rooms.db.write() as db:
                runs.move_job(db, run.id, job.name, job.phase, job.phase, message=said)
        return False

    async def _drop(self, run: Run, workflow: Workflow, job: Job, container: Container | None) -> None:
        """It must end and has no container that ran. What the daemon has set going for it may have become whole."""
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock())
        if stop is None and job.preempted:
            await self._end(run, workflow, job, container, Outcome("Error", job.preempted, counts=False))
            return
        stop = stop or Stop("Canceled", "canceled")
        said = hosted.stop(self._rooms, run, workflow, job)
        if isinstance(said, hosted.Done):
            await self._end(run, workflow, job, container, Outcome("Succeeded"), said.outputs)
            return
        message = f"{stop.reason}; {said}" if said else stop.reason
        await self._end(run, workflow, job, container, Outcome(stop.phase, message))

    async def _start(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        if not await self._has_its_gpus(run, workflow, job, container):
            return
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            if not runs.move_job(db, run.id, job.name, "Starting", "Starting", message="starting", started=now):
                return
        try:
            await self._rooms.engine.start(container.id)
        except GpuRefused as error:
            await self.ending.put_off(run, workflow, job, container, error)
        except EngineError as error:
            await self._end(run, workflow, job, container, unstartable(words(error)))

    async def _has_its_gpus(self, run: Run, workflow: Workflow, job: Job, container: Container) -> bool:
        """A container that was made, and whose lease has gone since, must not run on GPUs that are another's now."""
        lease = container.labels.get(LEASE, "")
        if not lease or self.leases.is_current(run, job.name, lease):
            if lease:
                self.leases.held(run, job.name, container.id)
            return True
        if job.started is None:
            await self._rooms.engine.remove(container.id)
        else:
            message = "its GPU was given to another before it began"
            await self._end(run, workflow, job, container, Outcome("Error", message, counts=False))
        return False

    def _running(self, run: Run, job: Job, container: Container) -> None:
        now = self._rooms.clock()
        with self._rooms.db.write() as db:
            if runs.move_job(db, run.id, job.name, "Starting", "Running", started=now):
                tell(self._rooms, run, "JobStarted", f"{job.name} runs")
        self._follow(run, job, container)

    def _follow(self, run: Run, job: Job, container: Container | None) -> None:
        if container is None or container.state != "running":
            return
        if job.stopped is not None:  # a stop of everything that did not come to this one has not interrupted it
            with self._rooms.db.write() as db:
                runs.mark_stopped(db, job.container, None)
        if self._attached.get((run.id, job.name)) == container.id:
            return
        self._attached[run.id, job.name] = container.id
        if container.labels.get(LEASE):
            self.leases.held(run, job.name, container.id)
        if container.log_path:
            self._rooms.telemetry.attach(collecting.log_source(run, job.name, container), container.log_path)

    async def _stop(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock())
        message = f"stopping ({stop.reason if stop else job.preempted})"
        with self._rooms.db.write() as db:
            runs.move_job(db, run.id, job.name, job.phase, job.phase, message=message)
        await self._rooms.engine.stop(container.id, grace_s=self._rooms.settings.stop_grace_s)

    async def _collect(self, run: Run, workflow: Workflow, job: Job, container: Container) -> None:
        await self.ending.drain(run, job.name, container)
        outputs: dict[str, Any] = {}
        commit_id = ""
        outcome = await self._outcome(run, workflow, job, container)
        if outcome.succeeded:
            declared = workflow.jobs[job.name]
            try:
                commit_id = await collecting.read_commit(self._rooms, run, job.name, declared)
                strings = await collecting.read_strings(self._rooms, run, job.name, declared)
                # from here on a cancel comes too late: a version must not be committed for a job that is then Canceled
                self._accept(run, job, container)
                outputs = await collecting.commit(self._rooms, run, job.name, declared, strings)
            except (UsageError, NotFound, Conflict) as error:
                outcome = Outcome("Failed", words(error), hopeless=isinstance(error, NotFound))
            except StorageError as error:
                if self._may_repeat(run, job):
                    raise
                outcome = Outcome("Failed", f"its outputs cannot be stored: {words(error)}")
        self._refused.pop((run.id, job.name), None)
        await self._end(run, workflow, job, container, outcome, outputs, commit_id)

    def _may_repeat(self, run: Run, job: Job) -> bool:
        """A store that refuses what a job has made is asked again for about three minutes; it may be full just now."""
        tries = self._refused[run.id, job.name] = self._refused.get((run.id, job.name), 0) + 1
        return tries < STORE_TRIES

    def _accept(self, run: Run, job: Job, container: Container) -> None:
        with self._rooms.db.write() as db:
            message = "its outputs are stored"
            runs.move_job(db, run.id, job.name, job.phase, job.phase, message=message, exit_code=container.exit_code)

    async def _outcome(self, run: Run, workflow: Workflow, job: Job, container: Container) -> Outcome:
        ended = container.finished if container.finished is not None else self._rooms.clock()
        interruption = self._interruptions.of(job, container)
        stop = plan.stop_of(run, workflow, job, at=interruption.at if interruption else ended)
        if stop and job.exit_code is None:
            return Outcome(stop.phase, stop.reason)
        if interruption:
            if job.preempted:
                interruption = replace(interruption, message=job.preempted, counts=False)
            if workflow.jobs[job.name].retry.limit and not interruption.counts:
                return Outcome("Error", interruption.message, counts=False)
            again = f"{interruption.message} (next: `appliance workflow resume {run.workflow}.{run.number}`)"
            return Outcome("Error", again)
        if container.exit_code not in UNSTARTED_CODES and not actions.says_how_it_ended(workflow.jobs[job.name]):
            return outcome_of(container)
        last_line = await self._rooms.engine.logs_tail(container.id, 1)
        return outcome_of(container, Redactor(self._rooms.vault.values()).scrub(last_line))

    async def _end(
        self,
        run: Run,
        workflow: Workflow,
        job: Job,
        container: Container | None,
        outcome: Outcome,
        outputs: Mapping[str, Any] | None = None,
        commit_id: str = "",
    ) -> None:
        await self.ending.end(run, workflow, job, container, outcome, outputs, commit_id)
        self._attached.pop((run.id, job.name), None)

    async def _lost(self, run: Run, workflow: Workflow, job: Job) -> None:
        stop = plan.stop_of(run, workflow, job, at=self._rooms.clock())
        message = "its container disappeared while it ran, so nobody knows how far it came"
        outcome = Outcome(stop.phase, stop.reason) if stop else Outcome("Error", message)
        await self._end(run, workflow, job, None, outcome)

    def _read(self, run_id: str, name: str) -> tuple[Run, Job]:
        db = self._rooms.db.read
        return runs.head(db, run_id), runs.job(db, run_id, name)

    async def _seen(self, run: Run, job: Job) -> Container | None:
        if (run.id, job.name) in self._fresh:
            self._fresh.discard((run.id, job.name))
            return None
        return await self._container(run, job)

    async def _container(self, run: Run, job: Job) -> Container | None:
        """The job's container. One of the same name that is somebody else's is not looked at, nor touched."""
        container = await self._rooms.engine.inspect(job.container) if job.container else None
        owner = owner_of(container.labels) if container else None
        mine = owner and (owner.instance, owner.uid, owner.part) == (self._rooms.instance, run.id, job.name)
        return container if mine else None

    def _wanted(self, run: Run, workflow: Workflow, job: Job) -> Callable[[], bool]:
        def wanted() -> bool:
            now = runs.head(self._rooms.db.read, run.id)
            return plan.stop_of(now, workflow, job, at=self._rooms.clock()) is None

        return wanted
