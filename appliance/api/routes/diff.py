"""What differs between two moments of a notebook's workspace."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from appliance.api import requests
from appliance.api.parts import Parts
from appliance.api.stream import LinesResponse
from appliance.history.diff import compare
from appliance.state import resources

MOST = 10_000_000
"""Changes that one answer may tell."""


def routes(parts: Parts) -> list[Route]:
    def moments(request: Request) -> tuple[str, str, str]:
        """The workspace, and the moments `from` and `to`: the newest snapshot and now where they are not given."""
        uid = resources.get(parts.db.read, "notebook", request.path_params["name"]).uid
        query = request.query_params
        return uid, *compare.moments(parts.workspaces, uid, query.get("from", ""), query.get("to", ""))

    async def changes(request: Request) -> Response:
        """Lines of JSON: a FileChange each, at last a DiffEnd."""
        uid, older, newer = moments(request)
        source = compare.comparing(
            parts.workspaces,
            uid,
            older,
            newer,
            path=request.query_params.get("path", ""),
            checksum=requests.flag(request, "checksum"),
            most=requests.count(request, "limit", compare.MOST, most=MOST),
        )
        return await LinesResponse.begin(source, parts.stopping)

    async def file(request: Request) -> Response:
        uid, older, newer = moments(request)
        path, was = request.query_params.get("path", ""), request.query_params.get("was", "")
        answer = await compare.one_file(parts.workspaces, uid, older, newer, path, was=was)
        return Response(answer, media_type="application/json")

    return [
        Route("/v1/notebooks/{name}/diff", changes, methods=["GET"]),
        Route("/v1/notebooks/{name}/diff/file", file, methods=["GET"]),
    ]
