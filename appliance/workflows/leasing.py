"""The GPUs of jobs: who asks for them, who waits for them, and what the one that waits says.

A job takes a slot first, has its image fetched, and only then asks to be given its GPU: none lies idle while an image
comes. While it waits it lends its slot to others, so that a queue for GPUs holds up nothing that needs none. Once it is
given one it begins at once, though a slot more than `max_parallel_jobs` be taken then: a GPU waits for no slot.

A request ends in the transaction that writes the end of the attempt, so whoever is killed leaves none behind; the GPU
itself goes to nobody before the container is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.scheduler.types import LOCAL, Answer, Who
from appliance.spec.models import GitCheckoutAction, Job, S3DownloadAction, Workflow
from appliance.state import runs
from appliance.state.runs import Job as JobRow
from appliance.state.runs import Run
from appliance.workflows import plan
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions
from appliance.workflows.telling import tell

KEEP_S = 30.0
_STANDS = ("waits", "impossible")
"""Not granted: what can never be given here may be so again, when a card comes back."""


def who_of(run: Run, name: str, owner: str = "") -> Who:
    return Who("run", actions.subject(run), run.id, name, owner or LOCAL)


def may_use_gpu(declared: Job) -> bool:
    """False of what the daemon does itself, and of its own programs: they compute nothing, whatever they run on."""
    return declared.action.uses not in plan.HOSTED and not isinstance(
        declared.action, GitCheckoutAction | S3DownloadAction
    )


class JobLeases:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._waiting: dict[tuple[str, str], str] = {}
        """Jobs, by run, with their image here and no GPU yet, and what they wait for in words."""
        self._told: set[tuple[str, str]] = set()

    def stand(self, run: Run, workflow: Workflow, job: JobRow) -> Answer:
        """Where its request stands; where there is none, it takes its place in the queue, and holds nothing yet."""
        declared = workflow.jobs[job.name]
        if not may_use_gpu(declared):
            return actions.NO_LEASE
        answer = self._rooms.leases.peek(who_of(run, job.name, declared.owner))
        if answer.state == "none":
            answer = self._ask(run, workflow, job, ready=False)
        if answer.state == "unneeded":
            self._tell(run, "Ignored", answer.words)
        return answer

    def ask(self, run: Run, workflow: Workflow, job: JobRow) -> Answer:
        """It could begin now."""
        if not may_use_gpu(workflow.jobs[job.name]):
            return actions.NO_LEASE
        answer = self._ask(run, workflow, job, ready=True)
        if answer.state in _STANDS:
            self._say(run, job, answer)
        else:
            self._waiting.pop((run.id, job.name), None)
            if answer.state == "granted":
                self._tell(run, "Machine", answer.words)
        return answer

    def waits(self, run_id: str, name: str) -> bool:
        """As far as was seen at the last look."""
        return (run_id, name) in self._waiting

    @asynccontextmanager
    async def kept(self, run: Run, name: str) -> AsyncIterator[None]:
        """While it is prepared: who does not ask for minutes is forgotten, and an image or a copy may take longer."""
        asking = asyncio.create_task(self._keep(run, name), name=f"place of {name}")
        try:
            yield
        finally:
            asking.cancel()

    async def _keep(self, run: Run, name: str) -> None:
        while True:
            await asyncio.sleep(KEEP_S)
            self._rooms.leases.peek(who_of(run, name))

    def count_waiting(self) -> int:
        """Jobs that lend their slot."""
        return len(self._waiting)

    def words_of(self, run_id: str, active: set[str]) -> str:
        """What a run says of which every job under way waits; empty: one gets on, or none is under way."""
        said = [(name, self._waiting.get((run_id, name), "")) for name in sorted(active)]
        if not said or not all(words for _, words in said):
            return ""
        more = len(said) - 1
        return f"job {said[0][0]}: {said[0][1]}" + (f"; {more} more wait{'' if more > 1 else 's'}" if more else "")

    def is_current(self, run: Run, name: str, lease: str) -> bool:
        """A container that was made with this lease may begin: its cards are still its own."""
        answer = self._rooms.leases.peek(who_of(run, name))
        return answer.state == "granted" and answer.lease == lease

    def held(self, run: Run, name: str, container: str) -> None:
        self._rooms.leases.held(who_of(run, name), container)

    def release(self, run: Run, name: str) -> None:
        """At the end of every attempt, in its transaction."""
        self._waiting.pop((run.id, name), None)
        self._rooms.leases.release(who_of(run, name))

    def forget(self, run_id: str) -> None:
        self._waiting = {key: words for key, words in self._waiting.items() if key[0] != run_id}
        self._told = {key for key in self._told if key[0] != run_id}

    def _ask(self, run: Run, workflow: Workflow, job: JobRow, *, ready: bool) -> Answer:
        declared = workflow.jobs[job.name]
        bound = plan.longest_s(workflow, job.name)
        return self._rooms.leases.ask(
            who_of(run, job.name, declared.owner),
            machine=declared.machine,
            ready=ready,
            priority=declared.priority,
            bound_s=None if bound is None else bound + self._rooms.settings.stop_grace_s,
            # only one that may run twice can be asked to make way
            preemptible=declared.preemptible if declared.retry.limit else False,
        )

    def _say(self, run: Run, job: JobRow, answer: Answer) -> None:
        words = answer.words or "waits for a GPU"
        self._waiting[run.id, job.name] = words
        if job.message != words:
            with self._rooms.db.write() as db:
                runs.move_job(db, run.id, job.name, job.phase, job.phase, message=words)

    def _tell(self, run: Run, reason: str, words: str) -> None:
        """What its jobs are given in place of what they ask; once, whatever the number of jobs."""
        if words and (run.id, words) not in self._told:
            self._told.add((run.id, words))
            tell(self._rooms, run, reason, words, level="warning")
