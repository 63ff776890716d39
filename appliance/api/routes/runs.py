"""Workflow runs. A run's name is `WORKFLOW.NUMBER`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import NotFound
from appliance.state import resources, runs
from appliance.workflows import submit


def routes(parts: Parts) -> list[Route]:
    async def listing(request: Request) -> Response:
        limit = requests.count(request, "limit", 100, most=1000)
        rows = runs.newest(parts.db.read, workflow=request.query_params.get("workflow", ""), limit=limit)
        return JSONResponse({"items": [views.run(row) for row in rows]})

    async def one(request: Request) -> Response:
        row = find(parts, request.path_params["name"])
        return JSONResponse(views.run(row, runs.jobs(parts.db.read, row.id)))

    async def start(request: Request) -> Response:
        asked = await requests.body(request, wire.RunRequest)
        workflow = resources.get(parts.db.read, "workflow", request.path_params["name"])
        row = submit.start_run(
            parts.db, workflow, workflow.name, workflow.spec, asked.get("inputs", {}), now=parts.clock()
        )
        parts.hint("run", row.id)
        return JSONResponse(views.run(row), 201)

    async def cancel(request: Request) -> Response:
        row = find(parts, request.path_params["name"])
        submit.cancel_run(parts.db, row.id, now=parts.clock())
        parts.hint("run", row.id)
        return JSONResponse(views.run(runs.get(parts.db.read, row.id)), 202)

    return [
        Route("/v1/runs", listing, methods=["GET"]),
        Route("/v1/runs/{name}", one, methods=["GET"]),
        Route("/v1/runs/{name}/cancel", cancel, methods=["POST"]),
        Route("/v1/workflows/{name}/runs", start, methods=["POST"]),
    ]


def find(parts: Parts, name: str) -> runs.Run:
    """By `WORKFLOW.NUMBER`; the name alone means its newest run."""
    workflow, dot, number = name.rpartition(".")
    if dot and number.isascii() and number.isdigit() and len(number) < 10:
        return runs.by_number(parts.db.read, workflow, int(number))
    newest = runs.newest(parts.db.read, workflow=name, limit=1)
    if not newest:
        raise NotFound(f"no run {name!r}", hint="`appliance get runs` lists them; a name is WORKFLOW.NUMBER")
    return newest[0]
