"""Logins at image registries."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts


def routes(parts: Parts) -> list[Route]:
    async def registries(_: Request) -> Response:
        items = [
            wire.Registry(name=one.name, url=one.url, username=one.username, updated=one.updated)
            for one in parts.registries.every()
        ]
        return JSONResponse({"items": items})

    async def registry(request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            parts.registries.delete(name)
        else:
            asked = await requests.body(request, wire.RegistryRequest)
            login = {"url": asked["url"], "username": asked["username"], "password": asked["password"]}
            for uid in parts.registries.set(name, **login):
                for kind in ("deployment", "notebook"):
                    parts.hint(kind, uid)
        return Response(status_code=204)

    return [
        Route("/v1/registries", registries, methods=["GET"]),
        Route("/v1/registries/{name}", registry, methods=["PUT", "DELETE"]),
    ]
