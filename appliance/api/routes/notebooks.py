"""What only notebooks have: the way in, and the history of the workspace."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.auth import OWN
from appliance.api.files import FileResponse
from appliance.api.parts import Parts
from appliance.errors import Conflict, TooMany, UsageError
from appliance.history.workspaces import NOW, SESSION, USER
from appliance.paths import decode
from appliance.state import resources

MOST_REASON = 1000
MOST_MESSAGE = 500
MOST_A_MINUTE, MOST_A_DAY = 20, 500
"""Moments that a notebook's own token makes, by hand and before a restore. They are kept for hours, and code in a
session may ask for them without end."""
MOST_OWN_HOLDS = 20
"""Moments that are held on the word of a notebook's own token: retention cannot take them back."""
MOST_ENTRIES = 10_000
"""Of a listing where no limit is given."""


def routes(parts: Parts) -> list[Route]:
    def notebook_of(request: Request) -> resources.Resource:
        return resources.get(parts.db.read, "notebook", request.path_params["name"])

    def moment_of(request: Request) -> tuple[str, str]:
        """Which moment, and the path in it."""
        return request.query_params.get("at") or NOW, decode(request.query_params.get("path", ""))

    def check_pace(request: Request) -> None:
        if OWN not in request.scope:
            return
        notebook, now = notebook_of(request), parts.clock()
        made = [row.created for row in parts.workspaces.timeline(notebook.uid) if row.cause in ("manual", "restore")]
        for most, period_s, words in ((MOST_A_MINUTE, 60, "minute"), (MOST_A_DAY, 86_400, "day")):
            if sum(now - period_s < created for created in made) >= most:
                raise TooMany(
                    f"{most} moments in a {words} are the most that a session keeps by hand",
                    where=notebook.name,
                    hint="wait, or take it from outside: `appliance notebook snapshot`, `appliance notebook restore`",
                )

    async def access(request: Request) -> Response:
        notebook = notebook_of(request)
        token = notebook.status.get("token", "")
        if not token:
            raise Conflict(
                f"notebook {notebook.name!r} was never started", hint=f"`appliance notebook start {notebook.name}`"
            )
        base = f"{parts.settings.url}/notebooks/{notebook.name}/"
        return JSONResponse(
            wire.Access(
                url=f"{base}lab?token={token}",
                base_url=base,
                token=token,
                history_url=f"{parts.settings.url}/history/{notebook.name}#token={token}",
            )
        )

    async def history(request: Request) -> Response:
        notebook = notebook_of(request)
        held = parts.workspaces.held(notebook.uid)
        rows = parts.workspaces.timeline(notebook.uid)
        return JSONResponse({"items": [views.snapshot(row, held.get(row.id, ())) for row in rows]})

    async def snapshot(request: Request) -> Response:
        message = (await requests.body(request, wire.SnapshotRequest)).get("message", "")
        name = request.path_params["name"]
        if len(message) > MOST_MESSAGE:
            raise UsageError(f"the message has more than {MOST_MESSAGE} characters", where=name, hint="shorten it")
        check_pace(request)
        row = await parts.notebooks.history.snapshot(name, message, author=requests.author(request))
        return JSONResponse(views.snapshot(row))

    async def rollback(request: Request) -> Response:
        asked = await requests.body(request, wire.RollbackRequest)
        row = await parts.notebooks.history.rollback(
            request.path_params["name"], asked["snapshot"], author=requests.author(request)
        )
        return JSONResponse(views.snapshot(row))

    async def undo(request: Request) -> Response:
        await parts.notebooks.history.undo(request.path_params["name"], author=requests.author(request))
        return Response(status_code=204)

    async def files(request: Request) -> Response:
        at, path = moment_of(request)
        limit = requests.count(request, "limit", MOST_ENTRIES)
        shown, total = await parts.workspaces.first_of(notebook_of(request).uid, at, path, limit)
        return JSONResponse(wire.Entries(items=[views.entry(entry) for entry in shown], total=total))

    async def file(request: Request) -> Response:
        at, path = moment_of(request)
        reading = parts.workspaces.reading(notebook_of(request).uid, at, path)
        return await FileResponse.of(reading, path, parts.stopping)

    async def restore(request: Request) -> Response:
        asked = await requests.body(request, wire.RestoreRequest)
        check_pace(request)
        told: list[str] = []
        row = await parts.notebooks.history.restore(
            request.path_params["name"],
            asked["snapshot"],
            decode(asked["path"]),
            decode(asked.get("to", "")),
            author=requests.author(request),
            tell=told.append,
        )
        return JSONResponse(wire.Snapshot(**views.snapshot(row), warnings=told))

    async def fork(request: Request) -> Response:
        asked = await requests.body(request, wire.ForkRequest)
        made = await parts.notebooks.history.fork(
            request.path_params["name"],
            asked["name"],
            asked.get("snapshot") or NOW,
            start=asked.get("start", False),
            author=requests.author(request),
        )
        return JSONResponse(views.item(made, front_door=parts.settings.url, problems={}, full=True), 201)

    async def prune(request: Request) -> Response:
        asked = await requests.body(request, wire.PruneRequest)
        dry_run = asked.get("dry_run", False)
        notebook = notebook_of(request)
        held = parts.workspaces.held(notebook.uid)
        found = await parts.notebooks.history.prune(notebook.name, dry_run=dry_run)
        return JSONResponse(views.pruning(found, held, dry_run=dry_run))

    async def hold(request: Request) -> Response:
        name, snapshot_id = request.path_params["name"], request.path_params["snapshot"]
        owner = SESSION if OWN in request.scope else USER
        if request.method == "DELETE":
            await parts.notebooks.history.release(name, snapshot_id, owner=owner)
            return Response(status_code=204)
        reason = (await requests.body(request, wire.HoldRequest)).get("reason", "")
        if len(reason) > MOST_REASON:
            raise UsageError(f"the reason has more than {MOST_REASON} characters", where=name)
        mine = parts.workspaces.held_by(notebook_of(request).uid, owner) - {snapshot_id}
        if owner == SESSION and len(mine) >= MOST_OWN_HOLDS:
            raise Conflict(
                f"{MOST_OWN_HOLDS} moments are the most that are held from inside a notebook",
                hint=f"release one, or hold it from outside: `appliance notebook hold {name} {snapshot_id}`",
            )
        await parts.notebooks.history.hold(name, snapshot_id, reason, owner=owner)
        return Response(status_code=204)

    return [
        Route("/v1/notebooks/{name}/access", access, methods=["GET"]),
        Route("/v1/notebooks/{name}/history", history, methods=["GET"]),
        Route("/v1/notebooks/{name}/snapshot", snapshot, methods=["POST"]),
        Route("/v1/notebooks/{name}/rollback", rollback, methods=["POST"]),
        Route("/v1/notebooks/{name}/undo", undo, methods=["POST"]),
        Route("/v1/notebooks/{name}/files", files, methods=["GET"]),
        Route("/v1/notebooks/{name}/file", file, methods=["GET"]),
        Route("/v1/notebooks/{name}/restore", restore, methods=["POST"]),
        Route("/v1/notebooks/{name}/fork", fork, methods=["POST"]),
        Route("/v1/notebooks/{name}/prune", prune, methods=["POST"]),
        Route("/v1/notebooks/{name}/snapshots/{snapshot}/hold", hold, methods=["PUT", "DELETE"]),
    ]
