"""What only notebooks have: the way in, and the history of the workspace."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import Conflict
from appliance.state import resources


def routes(parts: Parts) -> list[Route]:
    async def access(request: Request) -> Response:
        notebook = resources.get(parts.db.read, "notebook", request.path_params["name"])
        token = notebook.status.get("token", "")
        if not token:
            raise Conflict(
                f"notebook {notebook.name!r} was never started", hint=f"`appliance notebook start {notebook.name}`"
            )
        base = f"{parts.settings.url}/notebooks/{notebook.name}/"
        return JSONResponse(wire.Access(url=f"{base}lab?token={token}", base_url=base, token=token))

    async def history(request: Request) -> Response:
        notebook = resources.get(parts.db.read, "notebook", request.path_params["name"])
        return JSONResponse({"items": [views.snapshot(row) for row in parts.workspaces.timeline(notebook.uid)]})

    async def snapshot(request: Request) -> Response:
        asked = await requests.body(request, wire.SnapshotRequest)
        row = await parts.notebooks.snapshot(request.path_params["name"], asked.get("message", ""))
        return JSONResponse(views.snapshot(row))

    async def rollback(request: Request) -> Response:
        asked = await requests.body(request, wire.RollbackRequest)
        row = await parts.notebooks.rollback(request.path_params["name"], asked["snapshot"])
        return JSONResponse(views.snapshot(row))

    async def undo(request: Request) -> Response:
        await parts.notebooks.undo(request.path_params["name"])
        return Response(status_code=204)

    return [
        Route("/v1/notebooks/{name}/access", access, methods=["GET"]),
        Route("/v1/notebooks/{name}/history", history, methods=["GET"]),
        Route("/v1/notebooks/{name}/snapshot", snapshot, methods=["POST"]),
        Route("/v1/notebooks/{name}/rollback", rollback, methods=["POST"]),
        Route("/v1/notebooks/{name}/undo", undo, methods=["POST"]),
    ]
