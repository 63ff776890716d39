"""The way in: start a run, cancel a run. Both only write; the controller does the rest once it is hinted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.datasets import finding
from appliance.datasets.ref import parse_ref
from appliance.errors import Conflict, UsageError
from appliance.spec.load import parse
from appliance.spec.models import Workflow
from appliance.state import events, registries, runs
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.workflows import concurrency
from appliance.workflows.inputs import run_inputs
from appliance.workflows.steps import actions, own_repository


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
    uid: str = "",
) -> runs.Run:
    """A Pending run of `document`, which it keeps whole: later changes of the workflow do not touch it.

    `workflow` is the resource the run counts for; None for a document that is declared nowhere, whose runs belong
    together by `uid`, or where that is empty by `name`. Without `cache` every
    job runs, whatever earlier runs have made. Raises SpecError,
    UsageError that names everything missing or not supported, also datasets that its jobs write to, Conflict while the
    workflow is deleted and where its `concurrency` makes no second run. A dataset that a job reads may come later: it
    is looked up when that job starts.
    """
    spec = parse("workflow", name, document)
    if not isinstance(spec, Workflow):
        raise UsageError(f"{name!r} is not a workflow")
    if workflow and workflow.deleting:
        raise Conflict(f"workflow {name!r} is being deleted", hint="apply it again once it is gone")
    if found := actions.problems(spec):
        raise UsageError(
            "; ".join(found),
            where=f"workflow {name}",
            hint=f"correct the file and {'push it' if cause == 'git' else 'apply it again'}",
        )
    uid = workflow.uid if workflow else uid or f"undeclared:{name}"
    if told := own_repository.refused(db.read, uid, spec):
        raise UsageError(told, where=f"workflow {name}")
    given = run_inputs(spec, inputs)
    _check_targets(db.read, spec, name)
    with db.write() as transaction:
        concurrency.admit(transaction, spec, name, uid, now=now)
        run = runs.create(
            transaction,
            workflow_uid=uid,
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
        for message in _ignored(transaction, spec):
            events.record(transaction, "run", subject, "Ignored", message, now=now, level="warning")
    return run


def _check_targets(db: Connection, spec: Workflow, name: str) -> None:
    """Refuse now what would end a job, perhaps after hours: nothing that runs makes a dataset."""
    missing: dict[str, list[str]] = {}
    for job, declared in spec.jobs.items():
        for output in declared.outputs.values():
            if output.type == "dataset" and finding.find(db, ref := parse_ref(output.ref)) is None:
                missing.setdefault(ref.name, []).append(job)
    if not missing:
        return
    *most, last = [repr(each) for each in missing]
    jobs = {job for writers in missing.values() for job in writers}
    who = f"job {jobs.pop()} writes" if len(jobs) == 1 else "its jobs write"
    named = f"datasets {', '.join(most)} and {last}" if most else f"dataset {last}"
    create = " && ".join(f"appliance dataset create {each}" for each in missing)
    raise UsageError(f"no {named}, to which {who}", where=f"workflow {name}", hint=f"`{create}`, then start it again")


def _ignored(db: Connection, workflow: Workflow) -> list[str]:
    """What the spec asks for and this version does not do, in words."""
    found = []
    known = {one.name for one in registries.every(db)}
    if unknown := [name for name in workflow.registries if name not in known]:
        how = f"`appliance registry add {unknown[0]}`"
        found.append(f"container-registries: there is no {', '.join(unknown)} here, {how}; images come without a login")
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
