"""Secrets."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts


def routes(parts: Parts) -> list[Route]:
    async def secrets(_: Request) -> Response:
        items = [wire.Secret(name=name, updated=updated) for name, updated in parts.secrets.names()]
        return JSONResponse({"items": items})

    async def secret(request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            parts.secrets.delete(name)
        else:
            parts.secrets.set(name, (await requests.body(request, wire.SecretRequest))["value"])
        return Response(status_code=204)

    return [
        Route("/v1/secrets", secrets, methods=["GET"]),
        Route("/v1/secrets/{name}", secret, methods=["PUT", "DELETE"]),
    ]
