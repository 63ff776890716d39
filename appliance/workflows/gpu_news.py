"""What the scheduler tells of the GPU that a job works on: that somebody more urgent needs it, or what befell it.

All of it is written into the job's row, so that a daemon which comes back goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import ApplianceError
from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.runs import Job, Run
from appliance.workflows.leasing import may_use_gpu
from appliance.workflows.rooms import Rooms
from appliance.workflows.telling import tell

MOST_WORDS = 400
"""Characters that a row keeps of what a GPU has told."""


class GpuNews:
    """`part`: the job; empty: each one under way that may use a GPU. `look_at` is called with the key `RUN/JOB`."""

    def __init__(self, rooms: Rooms, workflow_of: Callable[[Run], Workflow], look_at: Callable[[str], None]) -> None:
        self._rooms = rooms
        self._workflow_of = workflow_of
        self._look_at = look_at

    def preempt(self, uid: str, words: str, part: str = "") -> None:
        """It ends, and begins again later without an attempt lost; one that cannot run twice goes on.

        It is asked by SIGTERM and has the setting `stop_grace_s` to put down how far it came. `words`: for whom.
        """
        for run, workflow, job in self._under_way(uid, part):
            if not workflow.jobs[job.name].retry.limit:
                continue
            said = f"preempted: {words}"
            with self._rooms.db.write() as db:
                if runs.preempt(db, run.id, job.name, said, at=self._rooms.clock()):
                    tell(self._rooms, run, "JobPreempted", f"{job.name}: {words}", level="warning")
            self._look_at(f"{run.id}/{job.name}")

    def gpu_fault(self, uid: str, words: str, part: str = "") -> None:
        """What the program has done to it: the run goes on, and its end says so."""
        for run, _, job in self._under_way(uid, part):
            if words in job.fault:
                continue
            with self._rooms.db.write() as db:
                runs.mark_gpu(db, run.id, job.name, fault=_joined(job.fault, words))
                tell(self._rooms, run, "GpuFault", f"{job.name}: {words}", level="warning")

    def gpu_lost(self, uid: str, words: str, part: str = "") -> None:
        """It failed, or was taken away. What has it open may go on, so nothing is ended here.

        Should the job fail, that is not counted as one of its attempts.
        """
        for run, _, job in self._under_way(uid, part):
            if words in job.lost:
                continue
            with self._rooms.db.write() as db:
                runs.mark_gpu(db, run.id, job.name, lost=_joined(job.lost, words))
                tell(self._rooms, run, "GpuLost", f"{job.name}: {words}", level="error")

    def _under_way(self, uid: str, part: str) -> list[tuple[Run, Workflow, Job]]:
        db = self._rooms.db.read
        try:
            run = runs.head(db, uid)
            workflow = self._workflow_of(run)
        except ApplianceError:  # it has gone, or its end is near: its document is not valid any more
            return []
        names = [name for name in sorted(runs.active_names(db, uid)) if part in ("", name)]
        return [(run, workflow, runs.job(db, uid, name)) for name in names if may_use_gpu(workflow.jobs[name])]


def _joined(before: str, words: str) -> str:
    return (f"{before}; {words}" if before else words)[:MOST_WORDS]
