"""What a run needs next. Data in, data out: no clock, no engine, no database.

`plan` looks at a run through its board and is asked again after every change; `step` looks at one job that is under
way. Both can be asked at any moment, also by a daemon that has just started and knows nothing but the rows and the
containers. A job whose needs have not all succeeded is omitted, with the name of the job that failed; jobs that do not
depend on the failed one go on, as in Argo's `failFast: false` branches.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from appliance.engine.types import Container
from appliance.spec.models import Workflow
from appliance.state.runs import FINAL_PHASES, Job, Mark, Run
from appliance.workflows.board import ACTIVE_PHASES, FAILED_PHASES, Board

REMOVAL_S = 1.0
"""Seconds until the engine is asked again about a container that it is removing."""
HOSTED = frozenset({"create-model@v1", "deploy@v1"})
"""Actions that the daemon does itself, without a container."""
LONGEST_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Start:
    """Commit that the job starts. Nothing outside may happen before that commit."""

    job: str


@dataclass(frozen=True, slots=True)
class Omit:
    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """It has failed before, and its next attempt can never start."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    job: str


@dataclass(frozen=True, slots=True)
class Work:
    """The job is under way and must end now; `step` says how."""

    job: str


@dataclass(frozen=True, slots=True)
class Finish:
    phase: str
    message: str


Action = Start | Omit | Fail | Cancel | Work | Finish


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    waiting: int = 0
    """How many jobs are ready and have no free slot."""
    deadline: float | None = None
    """Unix time of the run's timeout, or of the next attempt that waits for its time."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a job has to end before its own end, and the phase it gets then."""

    phase: str
    reason: str


def plan(run: Run, workflow: Workflow, board: Board, *, now: float, slots: int, busy: bool = False) -> Plan:
    """The next actions, in an order in which they may be done.

    `slots` is how many more jobs may start on this machine. `busy`: some job is being worked on at this moment.
    """
    if not board.open:
        return Plan(() if busy else (Finish(*_verdict(board)),))
    expired = _run_expired(run, workflow, now)
    if run.cancel or expired:
        pending = (mark for mark in board if mark.phase == "Pending")
        ended = [Cancel(mark.name) if run.cancel else _expire(mark, expired) for mark in pending]
        return Plan((*ended, *(Work(name) for name in sorted(board.active))))
    starts = tuple(Start(name) for name in islice(board.startable(now), max(0, slots)))
    deadlines = (_run_deadline(run, workflow), board.next_wait(now))
    return Plan(
        (*_omissions(board), *starts),
        board.count_startable(now) - len(starts),
        min((deadline for deadline in deadlines if deadline is not None), default=None),
    )


def _expire(mark: Mark, reason: str) -> Omit | Fail:
    return Fail(mark.name, f"not tried again: {reason}") if mark.attempt > 1 else Omit(mark.name, reason)


def _omissions(board: Board) -> list[Omit]:
    """Of every job below one that has failed; each after what it needs, so that the reasons are carried down."""
    found: dict[str, str] = {}
    left = [(board.rank[name], name) for name in board.doomed]
    heapq.heapify(left)
    while left:
        _, name = heapq.heappop(left)
        if name in found:
            continue
        found[name] = _blocked(board, name, found)
        for other in board.needed_by[name]:
            if board[other].phase == "Pending":
                heapq.heappush(left, (board.rank[other], other))
    return [Omit(name, reason) for name, reason in found.items()]


class Step(StrEnum):
    """What one job needs now."""

    PREPARE = "prepare"
    """Make its image, volumes and container; none of them has run."""
    START = "start"
    """Its container is made and has never run."""
    ADOPT = "adopt"
    """Its container runs, and the row does not say so yet."""
    WATCH = "watch"
    """Nothing: it runs, or waits for its needs."""
    STOP = "stop"
    COLLECT = "collect"
    """Its container has ended."""
    DROP = "drop"
    """It must not run any more and never has."""
    HOSTED = "hosted"
    """The daemon works on it itself."""
    LOST = "lost"
    """It was started and its container is gone. It is never started again."""
    CLEAN = "clean"
    """Its outcome is written; what it left behind can go."""


def step(run: Run, workflow: Workflow, job: Job, container: Container | None, *, now: float) -> Step:
    """`container` must have been observed after `job` was read, or a container made in between looks lost."""
    if job.phase in FINAL_PHASES:
        return Step.CLEAN if container and container.state != "removing" else Step.WATCH
    if job.phase not in ACTIVE_PHASES:
        return Step.WATCH
    stop = stop_of(run, workflow, job, at=now) is not None or bool(job.preempted)
    if workflow.jobs[job.name].action.uses in HOSTED:
        return Step.DROP if stop else Step.HOSTED
    if container is None:
        if job.started is not None or job.phase == "Running":
            return Step.LOST
        return Step.DROP if stop else Step.PREPARE
    if container.state == "removing":
        return Step.WATCH
    if container.state == "created":
        return Step.DROP if stop else Step.START
    if container.state in ("exited", "dead"):
        return Step.COLLECT
    if stop:
        return Step.STOP
    return Step.ADOPT if job.phase == "Starting" else Step.WATCH


def stop_of(run: Run, workflow: Workflow, job: Job, *, at: float) -> Stop | None:
    """Why the job may not run at the time `at`; None: it may. The end of its container is judged by the same rule."""
    if run.cancel:
        return Stop("Canceled", "canceled")
    if expired := _run_expired(run, workflow, at):
        return Stop("Failed", expired)
    timeout = workflow.jobs[job.name].timeout_s
    if timeout is not None and job.started is not None and at >= job.started + timeout:
        return Stop("Failed", f"stopped: its timeout of {timeout:g} s has passed")
    return None


def longest_s(workflow: Workflow, name: str) -> float | None:
    """Seconds after which a job is ended whatever it does; None: it may run for ever. The same whenever it begins."""
    found = (workflow.jobs[name].timeout_s, workflow.timeout_s)
    return min((each for each in found if each is not None), default=None)


def retry_at(run: Run, workflow: Workflow, job: Job, *, now: float, counts: bool = True) -> float | None:
    """When a job that has just failed is tried again, unix time; None: not any more, or the run would be over.

    An attempt that does not count is made up for at once, where the job is one that may run twice at all.
    """
    retry = workflow.jobs[job.name].retry
    if run.cancel or job.tries > retry.limit + (0 if counts or not retry.limit else 1):
        return None
    at = now + (min(LONGEST_DELAY_S, retry.delay_s * 2.0 ** min(job.tries - 1, 32)) if counts else 0.0)
    deadline = _run_deadline(run, workflow)
    return None if deadline is not None and at >= deadline else at


def next_look(workflow: Workflow, job: Job, *, now: float, within_s: float) -> float:
    """Seconds until a job that runs must be looked at again: at its timeout, or after `within_s`."""
    timeout = workflow.jobs[job.name].timeout_s
    if timeout is None or job.started is None:
        return within_s
    return max(0.0, min(within_s, job.started + timeout - now))


def _run_deadline(run: Run, workflow: Workflow) -> float | None:
    if workflow.timeout_s is None or run.started is None:
        return None
    return run.started + workflow.timeout_s


def _run_expired(run: Run, workflow: Workflow, at: float) -> str:
    deadline = _run_deadline(run, workflow)
    if deadline is None or at < deadline:
        return ""
    return f"stopped: the run's timeout of {workflow.timeout_s:g} s has passed"


def _blocked(board: Board, name: str, omitted: Mapping[str, str]) -> str:
    """Why this job can never start. `omitted` are the reasons of those that are being omitted."""
    for need in board.needs[name]:
        mark = board[need]
        if need in omitted:
            return omitted[need]
        if mark.phase in FAILED_PHASES:
            return f"{need} failed"
        if mark.phase == "Canceled":
            return f"{need} was canceled"
        if mark.phase == "Omitted":
            return mark.message
    raise AssertionError(f"{name} is not blocked")


def _verdict(board: Board) -> tuple[str, str]:
    """Phase and message of a run whose jobs are all final."""
    failed = [mark for mark in board if mark.phase in FAILED_PHASES]
    if any(mark.phase == "Canceled" for mark in board):
        return "Canceled", "canceled"
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return "Failed", f"{failed[0].name}: {_without_hint(failed[0].message)}{more}"
    omitted = [mark for mark in board if mark.phase == "Omitted"]
    if omitted:
        return "Failed", omitted[0].message
    return "Succeeded", ""


def _without_hint(message: str) -> str:
    """The next step stands at the job itself."""
    return message.partition(" (next: ")[0]
