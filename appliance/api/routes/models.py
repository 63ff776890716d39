"""Registered models: names for dataset versions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.datasets import lineage
from appliance.errors import UsageError
from appliance.state import resources
from appliance.state.models import Model


def routes(parts: Parts) -> list[Route]:
    def show(row: Model) -> wire.Model:
        dataset = resources.find_uid(parts.db.read, row.dataset)
        return views.model(row, dataset=dataset.name if dataset else row.dataset)

    async def models(request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse({"items": [show(row) for row in parts.models.every()]})
        asked = await requests.body(request, wire.ModelRequest)
        version = parts.datasets.resolve(asked["ref"])
        return JSONResponse(show(parts.models.register(asked["name"], asked.get("type", "Custom"), version)), 201)

    async def model(request: Request) -> Response:
        """Deleting one takes its id, for a name means whatever is newest, and leaves its dataset version."""
        row = parts.models.resolve(request.path_params["name"])
        if request.method == "GET":
            return JSONResponse(show(row))
        if row.id != request.path_params["name"]:
            raise UsageError("a model is deleted by its id", where=row.name, hint=f"its newest one is {row.id}")
        parts.models.delete(row.id)
        return Response(status_code=204)

    async def versions(request: Request) -> Response:
        """All that were registered under one name, newest first."""
        return JSONResponse({"items": [show(row) for row in parts.models.named(request.path_params["name"])]})

    async def lineage_(request: Request) -> Response:
        row = parts.models.resolve(request.path_params["name"])
        of_version, run, inputs = lineage.of_model(parts.db.read, row)
        document = wire.ModelLineage(
            model=show(row), run=run, job=row.job, inputs=dict(inputs), version=views.lineage(of_version, show)
        )
        return JSONResponse(document)

    return [
        Route("/v1/models", models, methods=["GET", "POST"]),
        Route("/v1/models/{name}", model, methods=["GET", "DELETE"]),
        Route("/v1/models/{name}/versions", versions, methods=["GET"]),
        Route("/v1/models/{name}/lineage", lineage_, methods=["GET"]),
    ]
