"""A run once more: `resume` from where it failed, `replay` from its beginning.

Both make a new run with the document and the inputs of the old one, every dataset at the version that was read then.

Resume takes over what succeeded, with its outputs, and runs the rest: a job that had begun gets the very inputs that
it had, a job that had not looks up its own at its start. What those jobs read must still be there.

Replay runs every job, each on the image it had by content and not by name, and the step cache is left out. A dataset
that the run itself had made, and then read by name, is read by name again: the replay makes its own.

A checkout whose commit is known takes that commit in both of them, and fails where the server has it no more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from appliance.datasets import uses
from appliance.engine.images import Images
from appliance.errors import Conflict, NoSuchImage, SpecError, UsageError
from appliance.spec.load import parse
from appliance.spec.models import Alias, GitCheckoutAction, Job, Workflow
from appliance.state import events, kept, resources, runs, versions
from appliance.state.db import Connection, Database
from appliance.state.runs import Job as JobRow
from appliance.state.runs import Run
from appliance.storage.scratch import volume_name
from appliance.workflows import concurrency
from appliance.workflows.board import PASSED_PHASES
from appliance.workflows.inputs import leaves, shared_volumes, sources
from appliance.workflows.kept import keeping
from appliance.workflows.steps import actions


def resume_run(db: Database, run: Run, *, now: float) -> Run:
    """A Pending run that goes on where this one failed or was canceled.

    Raises Conflict that says why not: it has not ended, nothing is left to do, or what its jobs need is gone.
    """
    with db.write() as transaction:
        old, workflow = _ended(transaction, run, "resume")
        rows = {row.name: row for row in runs.jobs(transaction, old.id)}
        done = {name for name, row in rows.items() if row.phase in PASSED_PHASES}
        if len(done) == len(rows):
            raise Conflict(
                f"all jobs of run {actions.subject(old)} have succeeded: nothing is left to resume",
                hint=f"`appliance workflow replay {actions.subject(old)}` runs them again on the same inputs",
            )
        pins = {name: row.inputs for name, row in rows.items() if name not in done and row.inputs}
        _check_shared(old, workflow, done)
        _check_volumes(transaction, old, workflow, rows, done, pins)
        made = {"": old.inputs, **{name: rows[name].outputs for name in done}}
        to_come = {name: declared for name, declared in workflow.jobs.items() if name not in done}
        needed = {name: [*leaves(pins.get(name, {})), *_read(to_come[name], made)] for name in to_come}
        _check_versions(transaction, old, needed, hint="start a new run: it takes the newest version")
        new = _create(transaction, old, workflow, "resume", now=now)
        for name in rows:
            if name in done:
                kept.take_over(transaction, new.id, _taken(old, rows[name], now))
            elif name in pins or rows[name].commit_id:
                kept.pin(transaction, new.id, name, pins=pins.get(name, {}), commit_id=rows[name].commit_id)
        said = f"goes on from {actions.subject(old)}: {len(done)} of {len(rows)} jobs are taken over"
        if _has_changed(transaction, old):
            said += (
                "; it runs the file as it was then, the declared one has changed since: "
                f"`appliance workflow run {old.workflow}` runs that"
            )
        events.record(transaction, "run", actions.subject(new), "Submitted", said, now=now)
    return new


async def replay_run(db: Database, images: Images, run: Run, *, now: float) -> Run:
    """A Pending run of all jobs on the inputs and images that this one had.

    Raises Conflict where it has not ended or a version is gone, NoSuchImage where an image is.
    """
    for row in runs.jobs(db.read, run.id):
        if row.image and not await images.identity(row.image):
            raise NoSuchImage(
                f"the image of job {row.name}, {row.image}, is not on this machine any more",
                where=f"run {actions.subject(run)}",
                hint="start a new run: it takes what the image's name means now",
            )
    with db.write() as transaction:
        old, workflow = _ended(transaction, run, "replay")
        rows = {row.name: row for row in runs.jobs(transaction, old.id)}
        pins = {name: _from_outside(transaction, old, workflow.jobs[name], row) for name, row in rows.items()}
        hint = "start a new run: it takes the newest version"
        needed = {name: [*leaves(given)] for name, given in {**pins, "the run": old.inputs}.items()}
        _check_versions(transaction, old, needed, hint=hint)
        new = _create(transaction, old, workflow, "replay", now=now)
        for name, row in rows.items():
            kept.pin(transaction, new.id, name, pins=pins[name], image=row.image, commit_id=row.commit_id)
        unknown = [name for name, row in rows.items() if not row.image and _has_image(workflow.jobs[name])]
        said = f"repeats {actions.subject(old)} on the same inputs and images"
        if unknown:
            said += f"; never begun there, so on what their images' names mean now: {', '.join(unknown)}"
        moving = [name for name, row in rows.items() if not row.commit_id and _is_checkout(workflow.jobs[name])]
        if moving:
            said += f"; no commit is known, so at what their refs mean now: {', '.join(moving)}"
        events.record(transaction, "run", actions.subject(new), "Submitted", said, now=now)
    return new


def _ended(db: Connection, run: Run, verb: str) -> tuple[Run, Workflow]:
    """As the rows say now, with what its document means."""
    old = runs.get(db, run.id)
    name = actions.subject(old)
    if old.finished is None:
        hint = f"wait for its end, or cancel it: `appliance workflow cancel {name}`"
        raise Conflict(f"run {name} has not ended, so there is nothing to {verb} yet", hint=hint)
    resource = resources.find_uid(db, old.workflow_uid)
    if resource and resource.deleting:
        raise Conflict(f"workflow {old.workflow!r} is being deleted", hint="apply it again once it is gone")
    try:
        workflow = parse("workflow", old.workflow, old.spec)
    except SpecError as error:
        raise Conflict(f"the document of run {name} is not valid any more: {error.problems[0]}") from None
    if not isinstance(workflow, Workflow):
        raise UsageError(f"{old.workflow!r} is not a workflow")
    return old, workflow


def _has_changed(db: Connection, old: Run) -> bool:
    """What is declared now is another document; of a run whose file is in a repository nobody knows that here."""
    declared = resources.find_uid(db, old.workflow_uid)
    return declared is not None and declared.kind == "workflow" and declared.spec != old.spec


def _create(db: Connection, old: Run, workflow: Workflow, mode: str, *, now: float) -> Run:
    concurrency.admit(db, workflow, old.workflow, old.workflow_uid, now=now)
    return runs.create(
        db,
        workflow_uid=old.workflow_uid,
        workflow=old.workflow,
        spec=old.spec,
        inputs=old.inputs,
        jobs=list(workflow.jobs),
        now=now,
        cause=mode,
        parent=old.id,
        mode=mode,
        source=f"run {actions.subject(old)}",
        cache=old.cache and mode == "resume",
    )


def _taken(old: Run, row: JobRow, now: float) -> JobRow:
    made_by = row.reused or f"{actions.subject(old)}/{row.name}"
    return replace(row, message=f"taken over from {made_by}", finished=now, reused=made_by)


def _from_outside(db: Connection, old: Run, declared: Job, row: JobRow) -> dict[str, Any]:
    """The datasets that a job was given and that no job of its run had made."""
    found = {}
    for name, document in row.inputs.items():
        alias = declared.inputs.get(name)
        if document.get("type") != "dataset" or (isinstance(alias, Alias) and alias.job):
            continue
        key = uses.resolve(db, document["id"])
        version = versions.find(db, *key) if key else None
        if version is None or version.run != old.id:
            found[name] = document
    return found


def _check_versions(db: Connection, old: Run, needed: Mapping[str, Collection[Any]], *, hint: str) -> None:
    for job, documents in needed.items():
        for document in documents:
            if document.get("type") == "dataset" and "id" in document and uses.resolve(db, document["id"]) is None:
                raise Conflict(
                    f"the dataset version {document['id']} that {job} reads is gone",
                    where=f"run {actions.subject(old)}",
                    hint=hint,
                )


def _check_volumes(
    db: Connection,
    old: Run,
    workflow: Workflow,
    rows: Mapping[str, JobRow],
    done: Collection[str],
    pins: Mapping[str, Mapping[str, Any]],
) -> None:
    """Every volume that a job still to come reads stays, by the rows that keep it."""
    for name, declared in workflow.jobs.items():
        if name in done:
            continue
        made = {job: rows[job].outputs for job in sources(declared) & set(done)}
        for document in (*leaves(pins.get(name, {})), *_read(declared, made)):
            if document.get("type") != "volume":
                continue
            volume = volume_name(document["run"], document["job"], document["output"])
            if volume not in keeping.needed(db, document["run"]):
                raise Conflict(
                    f"the volume {document['output']!r} of job {document['job']}, which {name} reads, is gone: volumes"
                    " of failed runs are kept for a while (setting keep_capsules_days), those of canceled ones are not",
                    where=f"run {actions.subject(old)}",
                    hint=f"`appliance workflow replay {actions.subject(old)}` runs all jobs again on the same inputs",
                )


def _read(declared: Job, made: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """What the job reads of these outputs; those of the empty name are the inputs of the run."""
    found = []
    for alias in declared.inputs.values():
        if isinstance(alias, Alias):
            found += [made[job][alias.name] for job in alias.gather or (alias.job,) if alias.name in made.get(job, {})]
    return found


def _check_shared(old: Run, workflow: Workflow, done: Collection[str]) -> None:
    """In the dialect of 2021 all jobs write to the same volumes, so nobody knows what they held before a failure."""
    shared = {name: shared_volumes(workflow, declared) for name, declared in workflow.jobs.items()}
    before = {key for name in done for key in shared[name]}
    for name in shared:
        if name not in done and (common := sorted(shared[name] & before)):
            raise Conflict(
                f"job {name} shares the volume {common[0]!r} with jobs that are over, and what was in it then is gone",
                where=f"run {actions.subject(old)}",
                hint=f"replay it: `appliance workflow replay {actions.subject(old)}`; or give the volume as an output"
                " of the job that writes it, and as an input `JOB.outputs.NAME` of those that read it",
            )


def _is_checkout(declared: Job) -> bool:
    return isinstance(declared.action, GitCheckoutAction)


def _has_image(declared: Job) -> bool:
    return bool(getattr(declared.action, "image", ""))
