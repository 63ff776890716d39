"""`deploy@v1`: a deployment with this run's model, applied by the one door and waited for.

That a generation was applied is written with it, in one transaction; a daemon that comes back waits for that one.
What was ready before goes on serving until the new generation is, also where that never happens.

Where the very same spec has failed before, something around it may have been repaired since: it is started afresh, as a
generation of its own, and only what is observed of that one counts. `taking_back` says what becomes of a generation
whose job is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from appliance import revisions
from appliance.apply import REMOVED, apply
from appliance.errors import Conflict, NotFound, UsageError
from appliance.spec.load import Loaded, load_text
from appliance.spec.models import DeployAction
from appliance.spec.models import Job as JobSpec
from appliance.state import events, models, resources, runs
from appliance.state.resources import Resource
from appliance.state.runs import Job, Run
from appliance.workflows.refusals import Settled
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import begun
from appliance.workflows.steps.begun import Begun
from appliance.workflows.telling import words

KIND = "deployment"
MODEL = "model"
"""The input that holds what is deployed."""
DEFAULT_PATH = "/opt/models"
_FAILING = ("Failed", "Degraded")
_ENDINGS = ("ReplicaEnded", "Undone", *_FAILING)
"""Reasons of a deployment's events whose message has the end of a log below its first line."""
_LOOK = "`appliance logs deployment/{name}` and `appliance deployment show {name}` say more"
MOST_WORDS = 300
"""Characters of a log line that are shown."""


class Failing(Conflict):
    """The generation does not become ready."""


class Replaced(Settled):
    """Another generation took its place before it was ready."""


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
    mine = begun.of(job)
    if mine is None:
        uid, message = _begin(rooms, run, job, action, given)
        rooms.hint(KIND, uid)
        return message
    if mine.became is not None:
        raise Settled(mine.became)
    found = resources.find_uid(rooms.db.read, mine.uid)
    waited = rooms.clock() - (job.started or rooms.clock())
    slow_after_s = rooms.settings.deploy_deadline_s
    try:
        return judge(found, mine.generation, waited, action, slow_after_s=slow_after_s)
    except Failing as error:
        wrote = _last_line(rooms, action.name, since=job.started or 0.0)
        message = f"{error.message}; a replica wrote: {wrote}" if wrote else error.message
        raise Failing(message, hint=error.hint, where=error.where) from None
    except Replaced as error:
        with rooms.db.write() as db:  # so that nobody goes back to it
            given_up = str(mine.given_up(words(error)))
            runs.move_job(db, run.id, job.name, job.phase, job.phase, message=job.message, begun=given_up)
        raise


def is_ready(found: Resource, generation: int) -> bool:
    """As a whole; or nothing of it has to run, at all or until somebody asks."""
    return int(found.status.get("generation_ready", 0)) == generation and found.phase in ("Ready", "Asleep", "Disabled")


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
    if is_ready(found, generation):
        return None
    ready = int(found.status.get("generation_ready", 0))
    if found.generation != generation and ready != generation:
        raise Replaced(
            f"generation {found.generation} was applied before generation {generation} was ready",
            where=where,
            hint="let one workflow at a time deploy it: `concurrency: queue`",
        )
    if found.desired != "running":
        raise Settled(f"it was stopped before generation {generation} was ready", where=where)
    said = found.message if found.observed == generation else "the controller has not looked at it yet"
    if (found.status.get("undone") or {}).get("generation") == generation:
        raise Failing(f"generation {generation} fails: {said}", where=where, hint=_LOOK.format(name=found.name))
    failing = found.phase in _FAILING and found.observed == generation and ready != generation
    if failing and waited < slow_after_s:
        raise Failing(f"generation {generation} fails: {said}", where=where, hint=_next_step(found))
    if waited > action.ready_s:
        message = f"generation {generation} is not ready after {action.ready_s:g} s: {said}"
        raise Failing(message, where=where, hint=_next_step(found))
    return f"generation {generation}: {said}"


def _last_line(rooms: Rooms, name: str, *, since: float) -> str:
    """What a replica wrote last before it ended; secrets are blanked there already. Empty: nothing is known."""
    told = (events.last(rooms.db.read, KIND, name, reason) for reason in _ENDINGS)
    ends = [event for event in told if event and event.at >= since and "\n" in event.message]
    newest = max(ends, key=lambda event: event.id, default=None)
    return newest.message.rstrip().rpartition("\n")[2].strip()[:MOST_WORDS] if newest else ""


def _next_step(found: Resource) -> str:
    return f"{_LOOK.format(name=found.name)}; it stays declared, and takes over once it is ready"


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


def _begin(rooms: Rooms, run: Run, job: Job, action: DeployAction, given: Mapping[str, Any]) -> tuple[str, str]:
    """Apply it. The deployment's uid, and what was done, in words."""
    source = begun.source_of(run, job)
    model_id = _model(rooms, run, job, action, given.get(MODEL))
    with rooms.db.write() as db:
        old = resources.find(db, KIND, action.name)
        _refuse(old, action)
        base = action.spec or (old.spec if old else {})
        loaded = _loaded(action, document_of(action, base, model_id))
        (applied,) = apply(rooms.db, [loaded], source=source, now=rooms.clock())
        found = resources.get(db, KIND, action.name)
        message = f"deployment {action.name} is {applied.change}"
        if old and found.generation == old.generation and _has_failed(old):
            found = revisions.restart(db, found, source=source, now=rooms.clock())
            message = f"deployment {action.name} is started afresh as generation {found.generation}"
        mine = Begun(found.uid, found.generation, job.attempt, begun.before(old, job, source))
        if not runs.move_job(db, run.id, job.name, job.phase, job.phase, message=message, begun=str(mine)):
            raise Conflict("the job was ended meanwhile")
    return found.uid, message


def _has_failed(old: Resource) -> bool:
    """What runs of it will not become ready by waiting, or nothing of it runs.

    One that was whole and has lost some of its replicas is not meant: those are made again, and the others serve.
    """
    if _is_withdrawn(old) or old.phase in ("Failed", "Disabled"):
        return True
    return old.phase == "Degraded" and int(old.status.get("generation_ready", 0)) != old.generation


def _is_withdrawn(old: Resource) -> bool:
    return old.source.startswith(REMOVED) and old.desired == "stopped"


def _refuse(old: Resource | None, action: DeployAction) -> None:
    where = f"deployment {action.name}"
    if old is None:
        if not action.spec:
            raise NotFound("there is none, and the job has no `spec` to make one", where=where, hint="add a `spec`")
        return
    if old.source.startswith("file:"):
        file = old.source.removeprefix("file:")
        raise Settled(
            f"{file} in the watched folder declares it, and would win again",
            where=where,
            hint="deploy under another name, or take that file away",
        )
    if old.desired == "stopped" and not _is_withdrawn(old):
        raise Settled(
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
