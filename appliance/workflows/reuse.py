"""The step cache: a job whose image, command, environment and inputs were seen before is given what it made then.

A key stands for all that the appliance gives to a job:

    the image's content, entrypoint, command and private files; variables, secrets in place; the instance type;
    its workflow's and its own name, which it sees as variables (of a matrix: the name without the number);
    each input: of a string the text, of a dataset the version, of a volume the very job that made it;
    what outputs it has, and the datasets that they go to.

Not in it, and so not noticed: `/storage`, the network, the clock, the number of the run. A job that depends on these
says `cache: false`. Jobs without an output run for their effects and are never cached; neither are those whose result
the key cannot tell: s3-download, git-checkout of anything but a full commit hash, what the daemon does itself, and a
job with a volume that its neighbours write to as well (the dialect of 2021).

Equal jobs that start at the same moment all run; the last one to end is the one remembered. That changes nothing for
the others: what they made is theirs, and is kept as long as somebody refers to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.datasets import uses
from appliance.errors import ApplianceError
from appliance.spec.models import GitCheckoutAction, Job, Output, S3DownloadAction, Workflow
from appliance.state import runs, step_cache
from appliance.state.db import Connection
from appliance.state.runs import Job as JobRow
from appliance.state.runs import Run
from appliance.state.step_cache import Entry
from appliance.workflows import actions
from appliance.workflows.checkout import checkout_of
from appliance.workflows.inputs import leaves
from appliance.workflows.plan import HOSTED
from appliance.workflows.preparing import Prepared
from appliance.workflows.rooms import Rooms

VERSION = 1
"""Of what a key is made from; another one makes every job run again."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hit:
    entry: Entry
    outputs: Mapping[str, Any]
    source: str
    """`WORKFLOW.NUMBER/JOB`, whose outputs they are."""
    reason: str
    """Why it counts as the same, in words."""


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
        "inputs": {name: _identity(rooms, document) for name, document in given.items()},
        "outputs": outputs,
    }
    return rooms.vault.fingerprint(json.dumps(told, sort_keys=True))


async def look(rooms: Rooms, run: Run, workflow: Workflow, job: JobRow, key: str) -> Hit | None:
    """What an earlier job with this key made, if all of it still exists; else its entry is dropped."""
    if not run.cache:
        return None
    entry = step_cache.find(rooms.db.read, key)
    if entry is None:
        return None
    made = runs.job(rooms.db.read, entry.run, entry.job)
    outputs = await _still_there(rooms, workflow.jobs[job.name], made)
    if outputs is None:
        with rooms.db.write() as db:
            step_cache.forget(db, entry)
        return None
    by = runs.head(rooms.db.read, entry.run)
    source = f"{actions.subject(by)}/{made.name}"
    ago = _ago(rooms.clock() - entry.created)
    return Hit(entry, outputs, source, f"cached: same image, command, env and inputs as {source} ({ago})")


def claim(db: Connection, hit: Hit, *, now: float) -> bool:
    """In the transaction that gives a job the outputs of the hit, which then keeps them. False: they may be gone."""
    versions = [document["id"] for document in leaves(hit.outputs) if document.get("type") == "dataset"]
    return all(uses.resolve(db, version) for version in versions) and step_cache.touch(db, hit.entry, now=now)


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
    return bool(_COMMIT.fullmatch(checkout_of(action, declared, prepared.env, workflow.event).ref))


def _plain_name(name: str, declared: Job) -> str:
    """A value more in a matrix gives its jobs other numbers; their values are among the variables."""
    return name.rpartition("-")[0] if declared.matrix else name


def _identity(rooms: Rooms, document: Mapping[str, Any]) -> list[Any]:
    match document["type"]:
        case "string":
            return ["string", document["value"]]
        case "dataset":
            version = rooms.datasets.resolve(document["id"])
            return ["dataset", version.dataset, version.version]
        case "many":
            return ["many", {job: _identity(rooms, each) for job, each in document["of"].items()}]
        case _:
            return ["volume", document["run"], document["job"], document["output"]]


def _place(rooms: Rooms, output: Output) -> list[str]:
    return [output.type, rooms.datasets.get(output.ref).uid if output.type == "dataset" else ""]


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
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"
