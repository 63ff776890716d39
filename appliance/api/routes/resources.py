"""What is declared: listing, reading, applying, deleting, and the switch of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import apply, revisions, wire
from appliance.api import deployments, requests, views
from appliance.api.parts import Parts
from appliance.deployments import volumes
from appliance.errors import Conflict
from appliance.spec.load import Loaded, load_text
from appliance.state import events, resources, runs, spec_files
from appliance.storage.threads import in_thread
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

    async def documents(rows: list[resources.Resource], *, full: bool = False) -> list[wire.Item]:
        """`rows` are all of one kind."""
        url, now, wrong = parts.settings.url, parts.clock(), problems()
        items = [views.item(row, front_door=url, problems=wrong, full=full, now=now) for row in rows]
        if rows and rows[0].kind == "deployment":
            await deployments.tell(parts, rows, items)
            if full:
                for row, item in zip(rows, items, strict=True):
                    item["status"]["missing"] = deployments.missing(parts.db.read, row)
                    item["status"]["models"] = deployments.served_models(parts.db.read, row)
        return items

    async def document(resource: resources.Resource, *, full: bool = False) -> wire.Item:
        return (await documents([resource], full=full))[0]

    def listing(plural: str, kind: str) -> Route:
        async def endpoint(_: Request) -> Response:
            return JSONResponse({"items": await documents(resources.every(parts.db.read, kind))})

        return Route(f"/v1/{plural}", endpoint, methods=["GET"])

    def one(plural: str, kind: str) -> Route:
        async def endpoint(request: Request) -> Response:
            resource = resources.get(parts.db.read, kind, request.path_params["name"])
            if request.method == "GET":
                return JSONResponse(await document(resource, full=True))
            until = await _delete(
                parts, resource, request.query_params.get("confirm", ""), purge=requests.flag(request, "purge")
            )
            return JSONResponse(wire.Deletion(until=until), 202) if kind == "notebook" else Response(status_code=202)

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
            return JSONResponse(await document(resources.get(parts.db.read, kind, resource.name)), 202)

        return Route(f"/v1/{kind}s/{{name}}/{verb}", endpoint, methods=["POST"])

    async def apply_text(request: Request) -> Response:
        asked = await requests.body(request, wire.ApplyRequest)
        name = asked.get("name") or None
        loaded = await asyncio.to_thread(load_text, asked["text"], file=asked["file"], name=name)
        dry_run = asked.get("dry_run", False)
        plans = _plans(parts, loaded) if dry_run else {}
        applied = apply.apply(parts.db, loaded, source="cli", now=parts.clock(), dry_run=dry_run)
        if not dry_run:
            _sign(parts, applied, requests.author(request))
        warned = {} if dry_run else _warnings(parts, loaded)
        idle_ones = await idle.warnings(parts.db.read, loaded, parts.secrets.resolve, source="cli")
        for row in applied:
            if row.change != "unchanged" and not dry_run:
                parts.hint(row.kind, row.uid)
        items = []
        for row in applied:
            told = idle_ones.get(row.name, []) if row.kind == "workflow" else warned.get((row.kind, row.name), [])
            change = wire.Change(kind=row.kind, name=row.name, change=row.change, warnings=[*row.warnings, *told])  # type: ignore[typeddict-item]
            if (plan := plans.get((row.kind, row.name))) is not None:
                change["plan"] = plan
            items.append(change)
        return JSONResponse({"items": items})

    return [
        Route("/v1/apply", apply_text, methods=["POST"]),
        *(listing(plural, kind) for plural, kind in PLURALS.items()),
        *(one(plural, kind) for plural, kind in PLURALS.items()),
        *(switch(kind, "start", "running") for kind in ("notebook", "deployment")),
        *(switch(kind, "stop", "stopped") for kind in ("notebook", "deployment")),
    ]


def _plans(parts: Parts, loaded: Sequence[Loaded]) -> dict[tuple[str, str], list[str]]:
    """By kind and name: what would become of the replicas of each deployment."""
    found = [spec for spec in loaded if spec.kind == revisions.KIND]
    return {(spec.kind, spec.name): deployments.plan(parts.db.read, spec, parts.gpus) for spec in found}


def _sign(parts: Parts, applied: Sequence[apply.Applied], author: str) -> None:
    """In the history of a deployment each revision tells who asked for it."""
    changed = [row for row in applied if row.kind == revisions.KIND and row.change != "unchanged"]
    if not changed:
        return
    with parts.db.write() as db:
        for row in changed:
            found = resources.get(db, row.kind, row.name)
            resources.set_author(db, found.uid, found.generation, author)


def _warnings(parts: Parts, loaded: Sequence[Loaded]) -> dict[tuple[str, str], list[str]]:
    """By kind and name, of each deployment that was applied; a dry run tells them in its plan."""
    found = [spec for spec in loaded if spec.kind == revisions.KIND]
    return {(spec.kind, spec.name): deployments.warnings(parts.db.read, spec, parts.gpus) for spec in found}


async def _delete(parts: Parts, resource: resources.Resource, confirm: str, *, purge: bool) -> float | None:
    """Until when it can be brought back; None: not at all."""
    kept_s = parts.settings.keep_deleted_days * 86_400.0
    into_trash = resource.kind == "notebook" and kept_s > 0 and not purge
    if resource.kind in HOLDS_DATA and not into_trash and confirm != resource.name:
        raise Conflict(
            f"deleting {resource.kind} {resource.name!r} destroys its data and history",
            hint=f"confirm with the name: `appliance delete {resource.kind} {resource.name}"
            f"{' --purge' if purge else ''} --confirm {resource.name}`",
        )
    unsure = resource.kind == "deployment" and confirm != resource.name
    if unsure and (names := await in_thread(volumes.holding, parts.rooms.store, resource.uid)):
        raise Conflict(
            f"deleting deployment {resource.name!r} destroys what its replicas have left in {', '.join(names)}",
            hint=f"confirm with the name: `appliance delete deployment {resource.name} --confirm {resource.name}`",
        )
    if resource.kind == "workflow" and any(run.workflow_uid == resource.uid for run in runs.unfinished(parts.db.read)):
        raise Conflict(f"workflow {resource.name!r} has runs that are not finished", hint="cancel them first")
    now = parts.clock()
    apply.delete(parts.db, resource.kind, resource.name, source="cli", now=now, purge=not into_trash)
    if resource.kind == "dataset":
        await parts.datasets.destroy(resource.uid)
    else:
        parts.hint(resource.kind, resource.uid)
    return now + kept_s if into_trash else None
