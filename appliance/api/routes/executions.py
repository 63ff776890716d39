"""Executing a notebook's files with nobody watching."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests
from appliance.api.parts import Parts
from appliance.errors import UsageError
from appliance.notebooks.executing.asked import Asked
from appliance.state.executions import Execution

NEWEST = "newest"
"""In place of a number."""
MOST_ROWS = 1000


def routes(parts: Parts) -> list[Route]:
    async def executions(request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "GET":
            rows = parts.notebooks.orders.rows(name)[: requests.count(request, "limit", MOST_ROWS, most=MOST_ROWS)]
            return JSONResponse({"items": [view(name, row) for row in rows]})
        asked = await requests.body(request, wire.ExecutionRequest)
        made = await parts.notebooks.orders.start(
            name,
            Asked(
                asked["file"],
                asked.get("parameters", {}),
                asked.get("kernel", ""),
                asked.get("output", ""),
                asked.get("gpu", True),
            ),
            author=requests.author(request),
        )
        return JSONResponse(view(name, made), 201)

    async def execution(request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(view(name, parts.notebooks.orders.find(name, number_of(request))))

    async def cancel(request: Request) -> Response:
        name = request.path_params["name"]
        row = parts.notebooks.orders.cancel(name, number_of(request), author=requests.author(request))
        return JSONResponse(view(name, row), 202)

    return [
        Route("/v1/notebooks/{name}/executions", executions, methods=["GET", "POST"]),
        Route("/v1/notebooks/{name}/executions/{number}", execution, methods=["GET"]),
        Route("/v1/notebooks/{name}/executions/{number}/cancel", cancel, methods=["POST"]),
    ]


def number_of(request: Request) -> int | None:
    """None: the newest."""
    text: str = request.path_params["number"]
    if text == NEWEST:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UsageError(f"no number of a run: {text!r}", where=request.url.path, hint=f"such as 3, or {NEWEST}")
    return int(text)


def view(name: str, row: Execution) -> wire.Execution:
    """`name`: the notebook's by now."""
    return wire.Execution(
        notebook=name,
        number=row.number,
        phase=row.phase,
        message=row.message,
        file=row.file,
        output=row.output,
        parameters=dict(row.parameters),
        kernel=row.kernel,
        author=row.author,
        generation=row.generation,
        created=row.created,
        started=row.started,
        finished=row.finished,
        exit_code=row.exit_code,
        logged=row.name,
        part=row.part,
    )
