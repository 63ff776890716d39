"""Dataset versions, models and secrets."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts


def routes(parts: Parts) -> list[Route]:
    async def versions(request: Request) -> Response:
        rows = parts.datasets.versions(request.path_params["name"])
        return JSONResponse({"items": [views.version(parts.datasets, row) for row in rows]})

    async def models(_: Request) -> Response:
        return JSONResponse({"items": [views.model(parts.datasets, row) for row in parts.models.every()]})

    async def model(request: Request) -> Response:
        return JSONResponse(views.model(parts.datasets, parts.models.resolve(request.path_params["name"])))

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
        Route("/v1/datasets/{name}/versions", versions, methods=["GET"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name}", model, methods=["GET"]),
        Route("/v1/secrets", secrets, methods=["GET"]),
        Route("/v1/secrets/{name}", secret, methods=["PUT", "DELETE"]),
    ]
