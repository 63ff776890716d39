"""The step cache: a job whose image, command, environment and inputs were seen before is given what it made then.

A key stands for all that the appliance gives to a job:

    the image's content, entrypoint, command and private files; variables, secrets in place; the instance type;
    its workflow's and its own name, which it sees as variables (of a matrix: the name without the number);
    each input: of a string the text, of a dataset the version, of a volume the very job that made it, or, where that
    checked out a repository, the commit that it took, with address, ref and place, in whatever run;
    what outputs it has, and the datasets that they go to.

Not in it, and so not noticed: `/storage`, the network, the clock, the number of the run. A job that depends on these
says `cache: false`; any job runs again `keep_cache_days` after what is remembered of it was made, however often that
was used, so a nightly one that fetches data without saying so does it again. Jobs without an output run for their
effects and are never cached; neither are those whose result the key cannot tell: s3-download, git-checkout of anything
but a full commit hash, what the daemon does itself, a job with a volume that its neighbours write to as well (the
dialect of 2021), and one with a volume of a job that is not cached itself, since no later run can be given that volume.
The volume of a checkout is: the checkout of a branch runs every time, and the jobs behind it do not as long as the
branch has not moved. The ref counts beside the commit, since a job can ask git for the names of its branch and tags.

A job that writes to a dataset leaves its version as the latest one, and whoever names the dataset alone reads that. So
such a job is given an earlier result only while that is the latest still; where another version has come since, it
runs. Jobs of a matrix that write to one dataset overtake each other, and so run each time.

Equal jobs that start at the same moment all run; the last one to end is the one remembered. That changes nothing for
the others: what they made is theirs, and is kept as long as somebody refers to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.datasets import uses
from appliance.errors import ApplianceError
from appliance.fetching.git import COMMIT
from appliance.spec.load import parse
from appliance.spec.models import GitCheckoutAction, Job, Output, S3DownloadAction, Workflow
from appliance.state import runs, step_cache, versions
from appliance.state.db import Connection
from appliance.state.runs import Job as JobRow
from appliance.state.runs import Run
from appliance.state.step_cache import Entry
from appliance.workflows.inputs import leaves
from appliance.workflows.plan import HOSTED
from appliance.workflows.preparing import Prepared
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions
from appliance.workflows.steps.checkout import checkout_of

VERSION = 1
"""Of what a key is made from; another one makes every job run again."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Hit:
    entry: Entry
    outputs: Mapping[str, Any]
    source: str
    """`WORKFLOW.NUMBER/JOB`, whose outputs they are."""
    reason: str
    """Why it counts as the same, in words."""
    commit_id: str = ""
    """Of a checkout."""


def key_of(
    rooms: Rooms, run: Run, workflow: Workflow, job: JobRow, given: Mapping[str, Any], prepared: Prepared
) -> str:
    """What the outputs depend on, as one text that tells nothing of it; empty: this job is not cached."""
    declared = workflow.jobs[job.name]
    if run.mode == "replay" or rooms.settings.keep_cache_days <= 0 or not prepared.digest:
        return ""
    if not _is_told_by_its_key(declared, prepared, workflow) or any(each["type"] == "shared" for each in leaves(given)):
        return ""
    try:
        outputs = {name: _place(rooms, output) for name, output in declared.outputs.items()}
    except ApplianceError:
        return ""  # it fails when the outputs are made, and says why
    inputs = {name: _identity(rooms, run, workflow, document) for name, document in given.items()}
    if None in inputs.values():
        return ""
    task = prepared.task
    told = {
        "version": VERSION,
        "image": prepared.digest,
        "entrypoint": None if task.entrypoint is None else list(task.entrypoint),
        "command": None if task.command is None else list(task.command),
        "files": dict(task.files),
        "env": dict(prepared.env),
        "machine": declared.machine,
        "name": [workflow.name, _plain_name(job.name, declared)],
        "inputs": inputs,
        "outputs": outputs,
    }
    return rooms.vault.fingerprint(json.dumps(told, sort_keys=True))


async def look(rooms: Rooms, run: Run, workflow: Workflow, job: JobRow, key: str) -> Hit | None:
    """What an earlier job with this key made, if it would make the same now; else its entry is dropped.

    That is: all of it still exists, and nobody has written to its datasets since.
    """
    if not run.cache:
        return None
    entry = step_cache.find(rooms.db.read, key)
    if entry is None or entry.created < rooms.clock() - rooms.settings.keep_cache_days * DAY_S:
        return None  # one that is too old goes with the next tending
    by, made = runs.head(rooms.db.read, entry.run), runs.job(rooms.db.read, entry.run, entry.job)
    outputs = await _still_there(rooms, workflow.jobs[job.name], made)
    if outputs is None or not _are_latest(rooms.db.read, entry, outputs):
        with rooms.db.write() as db:
            step_cache.forget(db, entry)
        return None
    source = f"{actions.subject(by)}/{made.name}"
    ago = _ago(rooms.clock() - entry.created)
    reason = f"cached: same image, command, env and inputs as {source} ({ago})"
    return Hit(entry, outputs, source, reason, made.commit_id)


def claim(db: Connection, hit: Hit, *, now: float) -> bool:
    """In the transaction that gives a job the outputs of the hit, which then keeps them. False: they may be gone."""
    return _are_latest(db, hit.entry, hit.outputs) and step_cache.touch(db, hit.entry, now=now)


def remember(db: Connection, run: Run, job: JobRow, *, now: float) -> None:
    """In the transaction that ends a job which succeeded."""
    if job.cache_key:
        step_cache.put(db, job.cache_key, run.id, job.name, now=now)


def _is_told_by_its_key(declared: Job, prepared: Prepared, workflow: Workflow) -> bool:
    action = declared.action
    if not declared.cache or not declared.outputs or action.uses in HOSTED or isinstance(action, S3DownloadAction):
        return False
    if not isinstance(action, GitCheckoutAction):
        return True
    return bool(COMMIT.fullmatch(checkout_of(action, declared, prepared.env, workflow.event).ref.lower()))


def _plain_name(name: str, declared: Job) -> str:
    """A value more in a matrix gives its jobs other numbers; their values are among the variables."""
    return name.rpartition("-")[0] if declared.matrix else name


def _identity(rooms: Rooms, run: Run, workflow: Workflow, document: Mapping[str, Any]) -> list[Any] | None:
    """None: no later run can be given the same again."""
    match document["type"]:
        case "string":
            return ["string", document["value"]]
        case "dataset":
            version = rooms.datasets.resolve(document["id"])
            return ["dataset", version.dataset, version.version]
        case "many":
            each = {job: _identity(rooms, run, workflow, one) for job, one in document["of"].items()}
            return None if None in each.values() else ["many", each]
        case _:
            made = runs.job(rooms.db.read, document["run"], document["job"])
            if found := _checked_out(rooms, run, workflow, made):
                return [*found, document["output"]]
            return ["volume", made.run, made.name, document["output"]] if made.cache_key else None


def _checked_out(rooms: Rooms, run: Run, workflow: Workflow, made: JobRow) -> list[str]:
    """What a job of this or of another run took from which repository; empty where that is not known."""
    if not made.commit_id:
        return []
    try:
        if made.run != run.id:
            other = runs.get(rooms.db.read, made.run)
            parsed = parse("workflow", other.workflow, other.spec)
            assert isinstance(parsed, Workflow)
            workflow = parsed
        declared = workflow.jobs[made.name]
        if not isinstance(declared.action, GitCheckoutAction):
            return []
        env = {name: rooms.vault.resolve(value) for name, value in declared.env.items()}
        found = checkout_of(declared.action, declared, env, workflow.event)
    except ApplianceError:
        return []  # a secret in its address has gone, or its document is not valid any more
    return ["git", found.url, found.ref, made.commit_id, found.target, made.image]


def _place(rooms: Rooms, output: Output) -> list[str]:
    return [output.type, rooms.datasets.get(output.ref).uid if output.type == "dataset" else ""]


def _are_latest(db: Connection, entry: Entry, outputs: Mapping[str, Any]) -> bool:
    """Its datasets still end with what that job wrote. False also where a version has gone."""
    for document in leaves(outputs):
        if document["type"] != "dataset":
            continue
        key = uses.resolve(db, document["id"])
        last = versions.latest(db, key[0]) if key else None
        if not key or not last or (last.version != key[1] and (last.run, last.job) != (entry.run, entry.job)):
            return False
    return True


async def _still_there(rooms: Rooms, declared: Job, made: JobRow) -> dict[str, Any] | None:
    """All outputs, or None."""
    found = {}
    for name, output in declared.outputs.items():
        document = made.outputs.get(name)
        if document is None or document["type"] != output.type:
            return None
        if output.type == "dataset":
            try:
                rooms.datasets.resolve(document["id"])
            except ApplianceError:
                return None
        elif output.type == "volume" and not await rooms.scratch.finished(
            document["run"], document["job"], document["output"]
        ):
            return None
        found[name] = document
    return found


def _ago(seconds: float) -> str:
    for unit, size in (("d", DAY_S), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
