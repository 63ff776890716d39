"""Which run may begin a job now: those that wait for a slot of the machine, and those behind an older run of theirs.

All of it is memory: a daemon that comes back looks at every run, and each takes its place again.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.spec.models import Workflow
from appliance.state import runs
from appliance.state.runs import Run
from appliance.workflows import concurrency
from appliance.workflows.rooms import Rooms


class Slots:
    """`wake` is called with the id of a run to be looked at; `lent` says how many jobs under way use no slot now."""

    def __init__(self, rooms: Rooms, wake: Callable[[str], None], lent: Callable[[], int] = lambda: 0) -> None:
        self._rooms = rooms
        self._wake = wake
        self._lent = lent
        self._waiting: dict[str, tuple[float, int]] = {}
        """Runs with a job that waits for a free slot, and their place in the queue."""
        self._held: dict[str, tuple[str, int]] = {}
        """Runs that may not begin before an older one of their workflow is over: its uid, and their number."""

    def hold(self, run: Run, workflow: Workflow) -> str:
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
                    self._wake(other.id)
        return reason

    def free_for(self, run: Run) -> int:
        """What is free for this run: one slot stays for each older run that waits, and none where disk space is low."""
        if self._rooms.no_room():
            return 0
        place = (run.created, run.number)
        older = sum(1 for id_, other in self._waiting.items() if id_ != run.id and other < place)
        return max(0, self._free() - older)

    def queue(self, run: Run) -> None:
        """It has a job that waits for a slot."""
        self._waiting[run.id] = (run.created, run.number)

    def leave_queue(self, run_id: str) -> None:
        """The slot that it did not take is for the next in the queue."""
        if self._waiting.pop(run_id, None) is not None:
            self.wake_waiting()

    def wake_waiting(self) -> None:
        """A slot may be free: the oldest of those that wait are looked at."""
        for waiting in sorted(self._waiting, key=self._waiting.__getitem__)[: max(0, self._free())]:
            self._wake(waiting)

    def ended(self, run: Run) -> None:
        """Its slot is free, and the oldest run that it held may begin: what holds that one holds the others too."""
        self.forget(run.id)
        self.wake_waiting()
        held = [(number, run_id) for run_id, (uid, number) in self._held.items() if uid == run.workflow_uid]
        if held:
            self._wake(min(held)[1])

    def forget(self, run_id: str) -> None:
        self._waiting.pop(run_id, None)
        self._held.pop(run_id, None)

    def _free(self) -> int:
        return self._rooms.settings.max_parallel_jobs - runs.active_jobs(self._rooms.db.read) + self._lent()
