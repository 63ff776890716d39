"""Workflow runs. A run's name is `WORKFLOW.NUMBER`."""

from __future__ import annotations

import json
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import apply, wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.spec.load import load_text
from appliance.state import capsules, events, resources, runs
from appliance.state.db import Connection
from appliance.workflows import again, submit
from appliance.workflows.declared import declared_jobs
from appliance.workflows.kept import capsule
from appliance.workflows.kept.deleting import delete_run
from appliance.workflows.kept.opening import fill_workspace

FILLING = "Filling"
"""Reason of the event that tells what a notebook is being filled with."""
DECIDES = frozenset({FILLING, "Opened", "Created", "Start", "Deleting"})
"""Reasons of the events of a notebook, of which the last one tells whether it was being filled."""
HOW_TO_LIST = "`appliance get runs` lists them; a name is WORKFLOW.NUMBER"


def routes(parts: Parts) -> list[Route]:
    async def listing(request: Request) -> Response:
        limit = requests.count(request, "limit", 100, most=1000)
        rows = runs.newest(parts.db.read, workflow=request.query_params.get("workflow", ""), limit=limit)
        return JSONResponse({"items": [views.run(row, parent=_name(parts.db.read, row.parent)) for row in rows]})

    async def one(request: Request) -> Response:
        return JSONResponse(_whole(parts, find(parts, request.path_params["name"])))

    async def delete(request: Request) -> Response:
        row = exact(parts, request.path_params["name"])
        size = await delete_run(parts.rooms, row, request.query_params.get("confirm", ""))
        return JSONResponse(wire.DeletedRun(bytes=size))

    async def start(request: Request) -> Response:
        asked = await requests.body(request, wire.RunRequest)
        workflow = resources.get(parts.db.read, "workflow", request.path_params["name"])
        row = submit.start_run(
            parts.db,
            workflow,
            workflow.name,
            workflow.spec,
            asked.get("inputs", {}),
            now=parts.clock(),
            cache=asked.get("cache", True),
        )
        return _begun(row)

    async def cancel(request: Request) -> Response:
        row = find(parts, request.path_params["name"])
        submit.cancel_run(parts.db, row.id, now=parts.clock())
        parts.hint("run", row.id)
        return JSONResponse(views.run(runs.get(parts.db.read, row.id)), 202)

    async def resume(request: Request) -> Response:
        row = again.resume_run(parts.db, find(parts, request.path_params["name"]), now=parts.clock())
        return _begun(row)

    async def replay(request: Request) -> Response:
        row = find(parts, request.path_params["name"])
        return _begun(await again.replay_run(parts.db, parts.rooms.images, row, now=parts.clock()))

    def _begun(row: runs.Run) -> Response:
        parts.hint("run", row.id)
        return JSONResponse(views.run(row, parent=_name(parts.db.read, row.parent)), 201)

    async def notebook(request: Request) -> Response:
        asked = await requests.body(request, wire.JobNotebookRequest)
        row = find(parts, request.path_params["name"])
        made = await _open_capsule(parts, row, request.path_params["job"], asked["name"], asked.get("image", ""))
        return JSONResponse(made, 201)

    return [
        Route("/v1/runs", listing, methods=["GET"]),
        Route("/v1/runs/{name}", one, methods=["GET"]),
        Route("/v1/runs/{name}", delete, methods=["DELETE"]),
        Route("/v1/runs/{name}/cancel", cancel, methods=["POST"]),
        Route("/v1/runs/{name}/resume", resume, methods=["POST"]),
        Route("/v1/runs/{name}/replay", replay, methods=["POST"]),
        Route("/v1/runs/{name}/jobs/{job}/notebook", notebook, methods=["POST"]),
        Route("/v1/workflows/{name}/runs", start, methods=["POST"]),
    ]


async def _open_capsule(parts: Parts, run: runs.Run, job: str, name: str, image: str) -> wire.JobNotebook:
    """The notebook is declared stopped, filled, and only then started; one that cannot be filled is taken back.

    One that a kill has left half filled with the same is filled again. Raises NotFound, Conflict, SpecError, NoSpace.
    """
    capsule.find(parts.db.read, run, job)
    content = f"what is kept of {run.workflow}.{run.number}/{job}"
    if there := resources.find(parts.db.read, "notebook", name):
        _check_half_filled(parts, there, content)
    document = {"kind": "notebook", "name": name, **({"image": image} if image else {})}
    loaded = load_text(json.dumps(document), file=f"{run.workflow}.{run.number}/{job}")
    now = parts.clock()
    with parts.db.write() as db:
        (applied,) = apply.apply(parts.db, loaded, source="cli", now=now)
        resources.set_desired(db, applied.uid, "stopped", now=now)
        events.record(db, "notebook", name, FILLING, content, now=now)
    try:
        report = await fill_workspace(parts.rooms, parts.workspaces, applied.uid, run, job)
    except BaseException:  # also a full /tmp, and the daemon's stop
        with suppress(ApplianceError):  # somebody has deleted it meanwhile
            apply.delete(parts.db, "notebook", name, source="cli", now=parts.clock(), purge=True)
        parts.hint("notebook", applied.uid)
        raise
    with parts.db.write() as db:
        resources.set_desired(db, applied.uid, "running", now=parts.clock())
        events.record(db, "notebook", name, "Opened", f"holds {content}", now=parts.clock())
    parts.hint("notebook", applied.uid)
    made = resources.get(parts.db.read, "notebook", name)
    return wire.JobNotebook(
        notebook=views.item(made, front_door=parts.settings.url, problems={}, full=True),
        reason=report.reason,
        image=report.image_name,
        inputs=list(report.inputs),
        outputs=list(report.outputs),
        missing=list(report.missing),
    )


def _check_half_filled(parts: Parts, there: resources.Resource, content: str) -> None:
    """Raises Conflict, but for a notebook that is half filled with this content, and by nobody any more."""
    refused = Conflict(f"there is a notebook {there.name!r} already", hint="choose another name")
    if there.deleting or there.desired != "stopped":
        raise refused
    if there.uid in parts.rooms.opening:
        raise Conflict(f"notebook {there.name!r} is being filled at this moment", hint="wait until it runs")
    told = events.newest(parts.db.read, kind="notebook", name=there.name)
    last = next((event for event in reversed(told) if event.reason in DECIDES), None)
    if last is None or last.reason != FILLING:
        raise refused
    if last.message != content:
        raise Conflict(
            f"there is a notebook {there.name!r} already, half filled with {last.message}",
            hint=f"choose another name, or `appliance delete notebook {there.name} --confirm {there.name}`",
        )


def _whole(parts: Parts, row: runs.Run) -> wire.Run:
    db = parts.db.read
    kept = [capsule.job for capsule in capsules.every(db, run=row.id)]
    return views.run(row, runs.jobs(db, row.id), declared_jobs(row), parent=_name(db, row.parent), capsules=kept)


def _name(db: Connection, run_id: str) -> str:
    """`WORKFLOW.NUMBER`; empty where there is no such run any more."""
    if not run_id:
        return ""
    try:
        found = runs.head(db, run_id)
    except NotFound:
        return ""
    return f"{found.workflow}.{found.number}"


def find(parts: Parts, name: str) -> runs.Run:
    """By `WORKFLOW.NUMBER`; the name alone means its newest run."""
    if named := _numbered(name):
        return runs.by_number(parts.db.read, *named)
    newest = runs.newest(parts.db.read, workflow=name, limit=1)
    if not newest and resources.find(parts.db.read, "workflow", name):
        raise NotFound(f"workflow {name!r} has no runs yet", hint=f"`appliance workflow run {name}`")
    if not newest:
        raise NotFound(f"no run {name!r}", hint=HOW_TO_LIST)
    return newest[0]


def exact(parts: Parts, name: str) -> runs.Run:
    """By `WORKFLOW.NUMBER` only: what is done cannot be undone."""
    if named := _numbered(name):
        return runs.by_number(parts.db.read, *named)
    raise NotFound(f"no run {name!r}", hint=HOW_TO_LIST)


def _numbered(name: str) -> tuple[str, int] | None:
    workflow, dot, number = name.rpartition(".")
    return (workflow, int(number)) if dot and number.isascii() and number.isdigit() and len(number) < 10 else None
