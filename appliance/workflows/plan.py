"""What a run needs next. Data in, data out: no clock, no engine, no database.

`plan` looks at a whole run and is asked again after every change; `step` looks at one job that is under way. Both
can be asked at any moment, also by a daemon that has just started and knows nothing but the rows and the containers.
A job whose needs have not all succeeded is omitted, with the name of the job that failed; jobs that do not depend on
the failed one go on, as in Argo's `failFast: false` branches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter

from appliance.engine.types import Container
from appliance.spec.models import Workflow
from appliance.state.runs import FINAL_PHASES, Job, Run

ACTIVE_PHASES = frozenset({"Starting", "Running"})
REMOVAL_S = 1.0
"""Seconds until the engine is asked again about a container that it is removing."""
PASSED_PHASES = frozenset({"Succeeded", "Skipped"})
FAILED_PHASES = frozenset({"Failed", "Error"})


@dataclass(frozen=True, slots=True)
class Start:
    """Commit that the job starts. Nothing outside may happen before that commit."""

    job: str


@dataclass(frozen=True, slots=True)
class Omit:
    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    job: str


@dataclass(frozen=True, slots=True)
class Work:
    """The job's container or volumes need something; `step` says what."""

    job: str


@dataclass(frozen=True, slots=True)
class Finish:
    phase: str
    message: str


Action = Start | Omit | Cancel | Work | Finish


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    waiting: tuple[str, ...] = ()
    """Jobs that are ready and have no free slot."""
    deadline: float | None = None
    """Unix time of the next timeout of what runs, or of the next look at what the engine is still removing."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a job has to end before its own end, and the phase it gets then."""

    phase: str
    reason: str


def plan(
    run: Run,
    workflow: Workflow,
    jobs: Sequence[Job],
    containers: Mapping[str, Container],
    *,
    now: float,
    slots: int,
    busy: Collection[str] = (),
) -> Plan:
    """The next actions, in an order in which they may be done.

    `containers` are those observed, by job name. `slots` is how many more jobs may start on this machine. Jobs in
    `busy` are being worked on at this moment; they are left alone.
    """
    rows = {job.name: job for job in jobs}
    if all(job.phase in FINAL_PHASES for job in jobs):
        return _ending(jobs, containers, now, busy)
    expired = _run_expired(run, workflow, now)
    phases = {job.name: job.phase for job in jobs}
    reasons = {job.name: job.message for job in jobs}
    actions: list[Action] = []
    waiting: list[str] = []
    for name in _order(workflow, rows):
        job = rows[name]
        if job.phase != "Pending":
            if name not in busy and step(run, workflow, job, containers.get(name), now=now) is not Step.WATCH:
                actions.append(Work(name))
            continue
        needs = workflow.jobs[name].needs
        if run.cancel:
            phases[name] = "Canceled"
            actions.append(Cancel(name))
        elif reason := expired or _blocked(needs, phases, reasons):
            phases[name], reasons[name] = "Omitted", reason
            actions.append(Omit(name, reason))
        elif all(phases[need] in PASSED_PHASES for need in needs):
            if slots > 0:
                slots -= 1
                actions.append(Start(name))
            else:
                waiting.append(name)
    return Plan(tuple(actions), tuple(waiting), _next_deadline(run, workflow, jobs, now))


def _ending(jobs: Sequence[Job], containers: Mapping[str, Container], now: float, busy: Collection[str]) -> Plan:
    """All jobs are final: the run is over once nothing is left of their containers and nobody works on them."""
    leftovers = [job.name for job in jobs if job.name in containers]
    if not leftovers and not busy:
        return Plan((Finish(*_verdict(jobs)),))
    removable = [name for name in leftovers if name not in busy and containers[name].state != "removing"]
    return Plan(tuple(Work(name) for name in removable), deadline=now + REMOVAL_S)


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
    stop = stop_of(run, workflow, job, at=now)
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


def _run_expired(run: Run, workflow: Workflow, at: float) -> str:
    if workflow.timeout_s is None or run.started is None or at < run.started + workflow.timeout_s:
        return ""
    return f"stopped: the run's timeout of {workflow.timeout_s:g} s has passed"


def _blocked(needs: Iterable[str], phases: Mapping[str, str], reasons: Mapping[str, str]) -> str:
    """Why a job with these needs can never start; empty: it may still."""
    for need in needs:
        if phases[need] in FAILED_PHASES:
            return f"{need} failed"
        if phases[need] == "Canceled":
            return f"{need} was canceled"
        if phases[need] == "Omitted":
            return reasons[need]
    return ""


def _order(workflow: Workflow, rows: Mapping[str, Job]) -> list[str]:
    """Every job after what it needs, so that one pass carries an omission all the way down."""
    return list(TopologicalSorter({name: workflow.jobs[name].needs for name in rows}).static_order())


def _next_deadline(run: Run, workflow: Workflow, jobs: Sequence[Job], now: float) -> float | None:
    found = []
    if workflow.timeout_s is not None and run.started is not None:
        found.append(run.started + workflow.timeout_s)
    for job in jobs:
        timeout = workflow.jobs[job.name].timeout_s
        if timeout is not None and job.started is not None and job.phase in ACTIVE_PHASES:
            found.append(job.started + timeout)
    return min((deadline for deadline in found if deadline > now), default=None)


def _verdict(jobs: Sequence[Job]) -> tuple[str, str]:
    """Phase and message of a run whose jobs are all final."""
    failed = [job for job in jobs if job.phase in FAILED_PHASES]
    if any(job.phase == "Canceled" for job in jobs):
        return "Canceled", "canceled"
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return "Failed", f"{failed[0].name}: {failed[0].message}{more}"
    omitted = [job for job in jobs if job.phase == "Omitted"]
    if omitted:
        return "Failed", omitted[0].message
    return "Succeeded", ""
