"""Dataset versions, models and secrets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.datasets.files import open_file
from appliance.errors import UsageError
from appliance.state import resources
from appliance.state.models import Model

CHUNK = 1 << 18


def routes(parts: Parts) -> list[Route]:
    async def versions(request: Request) -> Response:
        name = request.path_params["name"]
        tags = parts.datasets.tags(name)
        rows = [row for row in parts.datasets.versions(name) if row.committed is not None]
        return JSONResponse({"items": [views.version(row, dataset=name, tags=tags) for row in rows]})

    async def file(request: Request) -> Response:
        """One file of a version, the newest unless `version` names another."""
        version = request.query_params.get("version", "")
        name = request.path_params["name"]
        row = parts.datasets.resolve(f"{name}:{version}" if version else name)
        root = await parts.datasets.path(row)
        stream = await asyncio.to_thread(open_file, root, request.query_params.get("path", ""))
        size = os.fstat(stream.fileno()).st_size
        headers = {"Content-Length": str(size), "X-Content-Type-Options": "nosniff"}
        return StreamingResponse(_chunks(stream), media_type="application/octet-stream", headers=headers)

    def show(row: Model) -> wire.Model:
        dataset = resources.find_uid(parts.db.read, row.dataset)
        return views.model(row, dataset=dataset.name if dataset else row.dataset)

    async def models(_: Request) -> Response:
        return JSONResponse({"items": [show(row) for row in parts.models.every()]})

    async def model(request: Request) -> Response:
        """Deleting one takes its id, for a name means whatever is newest, and leaves its dataset version."""
        row = parts.models.resolve(request.path_params["name"])
        if request.method == "GET":
            return JSONResponse(show(row))
        if row.id != request.path_params["name"]:
            raise UsageError("a model is deleted by its id", where=row.name, hint=f"its newest one is {row.id}")
        parts.models.delete(row.id)
        return Response(status_code=204)

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
        Route("/v1/datasets/{name}/file", file, methods=["GET"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name}", model, methods=["GET", "DELETE"]),
        Route("/v1/secrets", secrets, methods=["GET"]),
        Route("/v1/secrets/{name}", secret, methods=["PUT", "DELETE"]),
    ]


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Read in a worker thread, chunk by chunk."""
    with stream:
        while chunk := stream.read(CHUNK):
            yield chunk
