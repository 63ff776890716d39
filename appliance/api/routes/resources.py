"""What is declared: listing, reading, applying, deleting, and the switch of each kind."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import apply, wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import Conflict, UsageError
from appliance.spec.load import load_text, parse
from appliance.state import events, resources, runs, spec_files
from appliance.triggers import idle

PLURALS = {
    "notebooks": "notebook",
    "workflows": "workflow",
    "deployments": "deployment",
    "datasets": "dataset",
    "repositories": "repository",
}
HOLDS_DATA = frozenset({"notebook", "dataset"})


def routes(parts: Parts) -> list[Route]:
    def problems() -> dict[str, str]:
        return {f"file:{found.path}": found.problem for found in spec_files.every(parts.db.read) if found.problem}

    def document(resource: resources.Resource, *, full: bool = False) -> wire.Item:
        url, now = parts.settings.url, parts.clock()
        return views.item(resource, front_door=url, problems=problems(), full=full, now=now)

    def listing(plural: str, kind: str) -> Route:
        async def endpoint(_: Request) -> Response:
            found, wrong, now = resources.every(parts.db.read, kind), problems(), parts.clock()
            items = [views.item(row, front_door=parts.settings.url, problems=wrong, now=now) for row in found]
            return JSONResponse({"items": items})

        return Route(f"/v1/{plural}", endpoint, methods=["GET"])

    def one(plural: str, kind: str) -> Route:
        async def endpoint(request: Request) -> Response:
            resource = resources.get(parts.db.read, kind, request.path_params["name"])
            if request.method == "GET":
                return JSONResponse(document(resource, full=True))
            await _delete(parts, resource, request.query_params.get("confirm", ""))
            return Response(status_code=202)

        return Route(f"/v1/{plural}/{{name}}", endpoint, methods=["GET", "DELETE"])

    def switch(kind: str, verb: str, desired: str) -> Route:
        async def endpoint(request: Request) -> Response:
            resource = resources.get(parts.db.read, kind, request.path_params["name"])
            if resource.deleting:
                raise Conflict(f"{kind} {resource.name!r} is being deleted", hint="wait until it is gone")
            now = parts.clock()
            with parts.db.write() as db:
                apply.switch(db, resource, desired, source="cli", now=now)
                events.record(db, kind, resource.name, verb.capitalize(), f"{verb} was asked for", now=now)
            parts.hint(kind, resource.uid)
            return JSONResponse(document(resources.get(parts.db.read, kind, resource.name)), 202)

        return Route(f"/v1/{kind}s/{{name}}/{verb}", endpoint, methods=["POST"])

    async def apply_text(request: Request) -> Response:
        asked = await requests.body(request, wire.ApplyRequest)
        name = asked.get("name") or None
        loaded = await asyncio.to_thread(load_text, asked["text"], file=asked["file"], name=name)
        dry_run = asked.get("dry_run", False)
        applied = apply.apply(parts.db, loaded, source="cli", now=parts.clock(), dry_run=dry_run)
        idle_ones = await idle.warnings(parts.db.read, loaded, parts.secrets.resolve, source="cli")
        for change in applied:
            if change.change != "unchanged" and not dry_run:
                parts.hint(change.kind, change.uid)
        items = [
            wire.Change(kind=row.kind, name=row.name, change=row.change, warnings=[*row.warnings, *told])  # type: ignore[typeddict-item]
            for row in applied
            for told in [idle_ones.get(row.name, []) if row.kind == "workflow" else []]
        ]
        return JSONResponse({"items": items})

    async def scale(request: Request) -> Response:
        """A new revision with another number of replicas."""
        asked = await requests.body(request, wire.ScaleRequest)
        resource = resources.get(parts.db.read, "deployment", request.path_params["name"])
        if not 0 <= asked["replicas"] <= 64:
            raise UsageError(f"replicas must be 0 to 64, not {asked['replicas']}", where=resource.name)
        spec = {**resource.spec, "resources": {**resource.spec.get("resources", {}), "replicas": asked["replicas"]}}
        parse("deployment", resource.name, spec)
        with parts.db.write() as db:
            new, change = resources.put(
                db, "deployment", resource.name, spec, source=resource.source, now=parts.clock()
            )
        if change != "unchanged":
            parts.hint("deployment", new.uid)
        return JSONResponse(document(new))

    return [
        Route("/v1/apply", apply_text, methods=["POST"]),
        *(listing(plural, kind) for plural, kind in PLURALS.items()),
        *(one(plural, kind) for plural, kind in PLURALS.items()),
        *(switch(kind, "start", "running") for kind in ("notebook", "deployment")),
        *(switch(kind, "stop", "stopped") for kind in ("notebook", "deployment")),
        Route("/v1/deployments/{name}/scale", scale, methods=["POST"]),
    ]


async def _delete(parts: Parts, resource: resources.Resource, confirm: str) -> None:
    if resource.kind in HOLDS_DATA and confirm != resource.name:
        raise Conflict(
            f"deleting {resource.kind} {resource.name!r} destroys its data and history",
            hint=f"confirm with the name: `appliance delete {resource.kind} {resource.name} --confirm {resource.name}`",
        )
    if resource.kind == "workflow" and any(run.workflow_uid == resource.uid for run in runs.unfinished(parts.db.read)):
        raise Conflict(f"workflow {resource.name!r} has runs that are not finished", hint="cancel them first")
    apply.delete(parts.db, resource.kind, resource.name, source="cli", now=parts.clock())
    if resource.kind == "dataset":
        await parts.datasets.destroy(resource.uid)
    else:
        parts.hint(resource.kind, resource.uid)
