"""`deploy@v1`: a deployment with this run's model, applied by the one door and waited for.

That a generation was applied is written with it, in one transaction; a daemon that comes back waits for that one.
What was ready before goes on serving until the new generation is, also where that never happens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from appliance.apply import apply
from appliance.errors import Conflict, NotFound, UsageError
from appliance.spec.load import Loaded, load_text
from appliance.spec.models import DeployAction
from appliance.spec.models import Job as JobSpec
from appliance.state import models, resources, runs
from appliance.state.resources import Resource
from appliance.state.runs import Job, Run
from appliance.workflows.rooms import Rooms

KIND = "deployment"
MODEL = "model"
"""The input that holds what is deployed."""
DEFAULT_PATH = "/opt/models"
_FAILING = ("Failed", "Degraded")


def check(action: DeployAction, job: JobSpec) -> None:
    """Raises UsageError where it is plain before the start that this cannot be done."""
    if MODEL not in job.inputs and not action.spec:
        raise UsageError(
            "it has neither an input `model` nor a `spec`", hint="add `inputs: {model: JOB.outputs.model-id}`"
        )
    if action.spec:
        _loaded(action, document_of(action, action.spec, ""))


async def deploy(rooms: Rooms, run: Run, job: Job, action: DeployAction, given: Mapping[str, Any]) -> str | None:
    """None: it is ready; else what it waits for. Raises ApplianceError: it will not be ready."""
    if not job.begun:
        uid = _begin(rooms, run, job, action, given)
        rooms.hint(KIND, uid)
        return f"deployment {action.name} is declared"
    uid, _, generation = job.begun.partition(" ")
    found = resources.find_uid(rooms.db.read, uid)
    waited = rooms.clock() - (job.started or rooms.clock())
    return judge(found, int(generation), waited, action, slow_after_s=rooms.settings.deploy_deadline_s)


def endpoint(action: DeployAction) -> str:
    """Path on the front door."""
    return f"/deployments/{action.name}/"


def judge(
    found: Resource | None, generation: int, waited: float, action: DeployAction, *, slow_after_s: float
) -> str | None:
    """As `deploy`, of what is stored. Pure. `slow_after_s`: after it, to be late is a failed phase too."""
    where = f"deployment {action.name}"
    if found is None or found.deleting:
        raise NotFound("it was deleted before it was ready", where=where)
    ready = int(found.status.get("generation_ready", 0))
    if ready == generation and found.phase in ("Ready", "Disabled"):
        return None
    if found.generation != generation and ready != generation:
        raise Conflict(
            f"generation {found.generation} was applied before generation {generation} was ready",
            where=where,
            hint="let one workflow at a time deploy it: `concurrency: queue`",
        )
    if found.desired != "running":
        raise Conflict(f"it was stopped before generation {generation} was ready", where=where)
    said = found.message if found.observed == generation else "the controller has not looked at it yet"
    failing = found.phase in _FAILING and found.observed == generation and ready != generation
    if failing and waited < slow_after_s:
        raise Conflict(f"generation {generation} fails: {said}", where=where, hint=_next_step(found))
    if waited > action.ready_s:
        message = f"generation {generation} is not ready after {action.ready_s:g} s: {said}"
        raise Conflict(message, where=where, hint=_next_step(found))
    return f"generation {generation}: {said}"


def _next_step(found: Resource) -> str:
    return f"`appliance logs deployment/{found.name}` and `appliance deployment show {found.name}` say more"


def document_of(action: DeployAction, base: Mapping[str, Any], model_id: str) -> dict[str, Any]:
    """The deployment's document with the model in its place. Pure. `model_id` empty: as it is.

    The place is the mount at `path`, else, where none is named, the only one there is, else a new one.
    """
    document = deepcopy(dict(base))
    if "name" in document:
        document["name"] = action.name
    if not model_id:
        return document
    mounts = [*_maps(document.get("models"))]
    mounts += [one for one in _maps(document.get("integrations")) if one.get("type") == "model"]
    wanted = action.path.rstrip("/")
    places = [one for one in mounts if str(one.get("path", DEFAULT_PATH)).rstrip("/") == wanted]
    if not places and wanted == DEFAULT_PATH and len(mounts) == 1:
        places = mounts
    if places:
        places[0]["id"] = model_id
    else:
        document["models"] = [*(document.get("models") or []), {"id": model_id, "path": action.path}]
    return document


def _maps(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _begin(rooms: Rooms, run: Run, job: Job, action: DeployAction, given: Mapping[str, Any]) -> str:
    """Apply it. The deployment's uid."""
    source = f"run:{run.workflow}.{run.number}/{job.name}"
    model_id = _model(rooms, run, job, action, given.get(MODEL))
    with rooms.db.write() as db:
        old = resources.find(db, KIND, action.name)
        _refuse(old, action)
        base = action.spec or (old.spec if old else {})
        loaded = _loaded(action, document_of(action, base, model_id))
        (applied,) = apply(rooms.db, [loaded], source=source, now=rooms.clock())
        found = resources.get(db, KIND, action.name)
        begun = f"{found.uid} {found.generation}"
        message = f"deployment {action.name} is {applied.change}"
        if not runs.move_job(db, run.id, job.name, job.phase, job.phase, message=message, begun=begun):
            raise Conflict("the job was ended meanwhile")
    return found.uid


def _refuse(old: Resource | None, action: DeployAction) -> None:
    where = f"deployment {action.name}"
    if old is None:
        if not action.spec:
            raise NotFound("there is none, and the job has no `spec` to make one", where=where, hint="add a `spec`")
        return
    if old.source.startswith("file:"):
        file = old.source.removeprefix("file:")
        raise Conflict(
            f"{file} in the watched folder declares it, and would win again",
            where=where,
            hint="deploy under another name, or take that file away",
        )
    if old.desired == "stopped" and not old.source.startswith("removed:"):
        raise Conflict(
            "it was stopped by hand", where=where, hint=f"start it first: `appliance deployment start {action.name}`"
        )


def _loaded(action: DeployAction, document: Mapping[str, Any]) -> Loaded:
    (loaded,) = load_text(
        json.dumps(document), file=f"the spec of deployment {action.name}", name=action.name, kind=KIND
    )
    if loaded.kind != KIND:
        raise UsageError(f"`spec` is a {loaded.kind}, not a deployment")
    return loaded


def _model(rooms: Rooms, run: Run, job: Job, action: DeployAction, document: Mapping[str, Any] | None) -> str:
    """Id of the model to mount; empty: the job names none."""
    if document is None:
        if not action.spec:
            raise UsageError("it has neither an input `model` nor a `spec`")
        return ""
    if document["type"] == "string":
        return rooms.models.resolve(str(document["value"]).strip()).id
    if document["type"] != "dataset":
        raise UsageError(
            f"the input `model` is a {document['type']}", hint="alias a `model-id` output, or a dataset output"
        )
    version = rooms.datasets.resolve(document["id"])
    for known in models.of_dataset(rooms.db.read, version.dataset):
        if known.version == version.version:
            return known.id
    # a deployment mounts models only
    return rooms.models.register(action.name, "Custom", version, run.id, job.name).id
