"""Deleted notebooks: which there are, bringing one back, destroying one before its time."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import Conflict
from appliance.state.trash import Deleted


def routes(parts: Parts) -> list[Route]:
    async def listing(_: Request) -> Response:
        return JSONResponse({"items": [_view(row) for row in parts.notebooks.trash.rows()]})

    async def undelete(request: Request) -> Response:
        """By name, the one deleted last, or by uid."""
        asked = await requests.body(request, wire.UndeleteRequest)
        back = await parts.notebooks.trash.undelete(
            request.path_params["name"], asked.get("name", ""), author=requests.author(request)
        )
        return JSONResponse(views.item(back, front_door=parts.settings.url, problems={}, full=True))

    async def purge(request: Request) -> Response:
        name = request.path_params["name"]
        if request.query_params.get("confirm", "") != name:
            raise Conflict(
                f"this destroys the deleted notebook {name!r} with its files and history",
                hint=f"confirm with the name: `appliance notebook delete {name} --purge --confirm {name}`",
            )
        await parts.notebooks.trash.purge(name)
        return Response(status_code=204)

    return [
        Route("/v1/trash", listing, methods=["GET"]),
        Route("/v1/trash/{name}/undelete", undelete, methods=["POST"]),
        Route("/v1/trash/{name}", purge, methods=["DELETE"]),
    ]


def _view(row: Deleted) -> wire.Deleted:
    return wire.Deleted(
        kind="notebook",
        name=row.name,
        uid=row.uid,
        deleted=row.deleted,
        until=row.until,
        bytes=row.bytes,
        going=row.going,
    )
