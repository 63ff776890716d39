"""The page of a notebook's history, and what nobody else asks for: a file's own timeline."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import pages, requests
from appliance.api.parts import Parts
from appliance.errors import NotFound
from appliance.history.file_moments import MOST, FileMoments, Seen
from appliance.paths import decode
from appliance.state import resources

FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def routes(parts: Parts) -> list[Route]:
    digest, files = pages.read()
    moments = FileMoments(parts.workspaces)

    async def page(_: Request) -> Response:
        """The same for every name, and for one that there is not: it tells nothing without a token."""
        found = files["history.html"]
        headers = {**pages.SAFE, "Cache-Control": "no-cache"}
        return Response(found.content, headers=headers, media_type=found.media_type)

    async def asset(request: Request) -> Response:
        found = files.get(request.path_params["file"])
        if found is None or request.path_params["digest"] != digest:
            raise NotFound(f"there is no {request.url.path}", hint="load the page again: the appliance is another now")
        return Response(found.content, headers={**pages.SAFE, **FOR_EVER}, media_type=found.media_type)

    async def of_file(request: Request) -> Response:
        uid = resources.get(parts.db.read, "notebook", request.path_params["name"]).uid
        path = decode(request.query_params.get("path", ""))
        found = await moments.of(uid, path, most=requests.count(request, "limit", MOST, most=MOST))
        items = [
            wire.FileMoment(snapshot=each.moment.id, state=_state(each.seen), changed=each.changed)
            for each in found.moments
        ]
        return JSONResponse(
            wire.FileMoments(items=items, now=_state(found.now), now_changed=found.now_changed, whole=found.whole)
        )

    return [
        Route("/history/-/{digest}/{file}", asset, methods=["GET"], include_in_schema=False),
        Route("/history/{name}", page, methods=["GET"], include_in_schema=False),
        Route("/v1/notebooks/{name}/history/file", of_file, methods=["GET"]),
    ]


def _state(seen: Seen | None) -> wire.FileState | None:
    return wire.FileState(kind=seen.kind, size=seen.size, modified=seen.modified_ns / 1e9) if seen else None
