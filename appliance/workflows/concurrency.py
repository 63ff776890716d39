"""What a new run does while an older one of the same workflow goes on: the key `concurrency` of a workflow.

- empty: they run side by side;
- `queue`: the new one waits until every older one is over, so the oldest goes first; where MOST_WAITING wait already,
  it is not made;
- `skip`: the new one is not made;
- `cancel`: the older ones are asked to end, and the new one waits until they have.

"The same workflow" is the resource that runs count for, however they start; of a repository, the file there. Its name
does not decide: a file of a repository may have the name of a workflow that is declared here. `admit` is asked when a
run is made, in that transaction; `held_by` is asked each time somebody looks at a run that has not begun.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.errors import Conflict
from appliance.spec.models import Workflow
from appliance.state import events, runs
from appliance.state.db import Connection
from appliance.state.runs import Ahead, Run

WAITING = frozenset({"queue", "cancel"})
TAKES_ITS_PLACE = "a newer run takes its place (concurrency: cancel)"
MOST_WAITING = 100
"""Runs of one workflow that wait in its queue: behind one that hangs, a schedule would make more of them for ever."""


class Skipped(Conflict):
    """The workflow makes no run now, as it says; what asked for one has its answer."""


class QueueFull(Conflict):
    """No further run waits until one of those that do has begun, or is canceled."""


def held_by(run: Run, workflow: Workflow, older: Sequence[Run | Ahead]) -> str:
    """Why `run` may not begin yet, in words; empty: it may. `older` may hold other workflows' runs and newer ones.

    What has begun is never held, and what is asked to end has nothing to wait for.
    """
    if workflow.concurrency not in WAITING or run.cancel or run.phase != "Pending":
        return ""
    before = earlier(run, older)
    if not before:
        return ""
    if workflow.concurrency == "cancel":
        return f"waits until {_names(before)} has ended, which was asked to cancel (concurrency: cancel)"
    return f"waits for {_names(before)}: one run at a time (concurrency: queue)"


def earlier(run: Run, older: Iterable[Run | Ahead]) -> list[Run | Ahead]:
    """Those of the same workflow that come before `run` and are not over, oldest first."""
    same = (one for one in older if one.workflow_uid == run.workflow_uid)
    found = (one for one in same if one.number < run.number and one.finished is None)
    return sorted(found, key=lambda one: one.number)


def admit(db: Connection, workflow: Workflow, name: str, uid: str, *, now: float) -> None:
    """Called in the transaction that makes a run that counts for `uid` and is numbered under `name`, before it is made.

    Raises Conflict where it is not to be made. Under `cancel` the older runs are asked to end; whoever looks at the
    new run then hints them.
    """
    if workflow.concurrency == "queue" and runs.count_waiting(db, uid) >= MOST_WAITING:
        raise QueueFull(
            f"{MOST_WAITING} runs of workflow {name!r} wait already (concurrency: queue), and no more than that may",
            hint=f"see what they wait for and cancel what is not needed: `appliance workflow runs {name}`",
        )
    if workflow.concurrency not in ("skip", "cancel"):
        return
    going = runs.ahead(db, uid)
    if not going:
        return
    if workflow.concurrency == "skip":
        raise Skipped(
            f"{_names(going)} goes on, and workflow {name!r} makes no second run meanwhile (concurrency: skip)",
            hint=f"wait for it or cancel it: `appliance workflow cancel {_name(going[0])}`",
        )
    for one in going:
        if not one.cancel:
            runs.request_cancel(db, one.id)
            events.record(db, "run", _name(one), "CancelRequested", TAKES_ITS_PLACE, now=now)


def why_canceled(db: Connection, run: Run) -> str:
    """Of a run that nobody canceled by hand; else empty."""
    asked = events.last(db, "run", _name(run), "CancelRequested")
    return TAKES_ITS_PLACE if asked and asked.message == TAKES_ITS_PLACE else ""


def _name(run: Run | Ahead) -> str:
    return f"{run.workflow}.{run.number}"


def _names(found: Sequence[Run | Ahead]) -> str:
    """The first one by name: a queue may be long."""
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return _name(found[0]) + more
