"""The way in: start a run, cancel a run. Both only write; the controller does the rest once it is hinted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from appliance.errors import Conflict, UsageError
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.state import events, runs
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.workflows import actions, concurrency
from appliance.workflows.inputs import run_inputs

CPU_MACHINE = re.compile(r"C\d+|Free-?CPU", re.IGNORECASE)
"""Gradient's labels of machines without a GPU."""


def start_run(
    db: Database,
    workflow: Resource | None,
    name: str,
    document: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    now: float,
    cause: str = "manual",
    source: str = "",
    cache: bool = True,
) -> runs.Run:
    """A Pending run of `document`, which it keeps whole: later changes of the workflow do not touch it.

    `workflow` is the resource the run counts for; None for a document that is declared nowhere. Without `cache` every
    job runs, whatever earlier runs have made. Raises SpecError,
    UsageError that names everything missing or not supported, Conflict while the workflow is deleted
    and where its `concurrency` makes no second run.
    """
    spec = parse("workflow", name, document)
    if not isinstance(spec, Workflow):
        raise UsageError(f"{name!r} is not a workflow")
    if workflow and workflow.deleting:
        raise Conflict(f"workflow {name!r} is being deleted", hint="apply it again once it is gone")
    if found := actions.problems(spec):
        raise UsageError("; ".join(found), where=f"workflow {name}", hint="correct the file and apply it again")
    given = run_inputs(spec, inputs)
    with db.write() as transaction:
        concurrency.admit(transaction, spec, name, now=now)
        run = runs.create(
            transaction,
            workflow_uid=workflow.uid if workflow else f"undeclared:{name}",
            workflow=name,
            spec=document,
            inputs=given,
            jobs=list(spec.jobs),
            now=now,
            cause=cause,
            source=source,
            cache=cache,
        )
        subject = actions.subject(run)
        events.record(transaction, "run", subject, "Submitted", f"{len(spec.jobs)} jobs", now=now)
        for message in _ignored(spec):
            events.record(transaction, "run", subject, "Ignored", message, now=now, level="warning")
    return run


def _ignored(workflow: Workflow) -> list[str]:
    """What the spec asks for and this version does not do, in words."""
    found = []
    if workflow.registries:
        names = ", ".join(workflow.registries)
        found.append(f"container-registries ({names}) are not used yet: images are pulled without a login")
    machines = {job.machine for job in workflow.jobs.values() if job.machine and not CPU_MACHINE.fullmatch(job.machine)}
    if machines:
        found.append(f"GPUs are not leased yet: jobs for {', '.join(sorted(machines))} run without one")
    return found


def cancel_run(db: Database, run_id: str, *, now: float) -> None:
    """Ask for the end of a run; what runs is stopped, what waits never starts. Repeating it changes nothing.

    Raises NotFound, and Conflict for a run that ended otherwise.
    """
    with db.write() as transaction:
        run = runs.get(transaction, run_id)
        if run.finished is not None and run.phase != "Canceled":
            raise Conflict(f"run {actions.subject(run)} has ended already: {run.phase}")
        if run.cancel or run.finished is not None:
            return
        runs.request_cancel(transaction, run_id)
        events.record(transaction, "run", actions.subject(run), "CancelRequested", "asked to cancel", now=now)
