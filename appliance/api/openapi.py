"""OpenAPI 3.1 of the routes, with the wire's shapes as schemas."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from starlette.routing import BaseRoute, Route, WebSocketRoute

from appliance import __version__, wire

SUMMARIES = {
    "/v1/status": "The appliance: its parts, what runs, what failed",
    "/v1/apply": "Declare the specs in a text",
    "/v1/logs": "Log lines; follow=1 streams them",
    "/v1/events": "Events; follow=1 streams them",
    "/v1/metrics": "Series of points, by kind, name, part and metric; follow=1 streams new points. Or samples for one",
    "/v1/metrics/names": "Which metrics there are, and whose",
    "/v1/sql": "A read-only query over logs, metrics, requests and the state; those that run",
    "/v1/sql/tables": "What can be asked: tables and their columns",
    "/v1/sql/ready": "Ready queries, each with the question in words that it answers",
    "/v1/sql/{id}": "Cancel a query that runs",
    "/v1/workflows/{name}/runs": "Start a run",
    "/v1/runs/{name}/cancel": "Stop a run",
    "/v1/runs/{name}/resume": "A new run that goes on where this one failed or was canceled",
    "/v1/runs/{name}/replay": "A new run of all jobs on the exact inputs and images of this one",
    "/v1/runs/{name}/jobs/{job}/notebook": "A notebook with what is kept of a job that failed",
    "/v1/deployments/{name}/revisions": "The revisions of a deployment, newest first",
    "/v1/deployments/{name}/revisions/{span}": "What differs between two generations, such as 3..5",
    "/v1/deployments/{name}/rollback": "An earlier revision as a new generation: its spec, its image, its models",
    "/v1/deployments/{name}/restart": "The same spec as a new generation, its image and models looked up anew",
    "/v1/deployments/{name}/scale": "Another number of replicas; none is replaced",
    "/v1/deployments/{name}/traffic": "Requests, latencies and errors since a time, and what is under way now",
    "/v1/deployments/{name}/exec": "Run a command in a replica: lines of JSON, ExecOutput and at last ExecEnd",
    "/v1/deployments/{name}/terminal": "A websocket: a command in a replica, at a terminal or at pipes",
    "/v1/notebooks/{name}/terminal": "A websocket: a shell or a command in the session, at a terminal or at pipes",
    "/v1/notebooks/{name}/executions": "Files of the notebook executed with nobody watching, newest first; or another",
    "/v1/notebooks/{name}/executions/{number}": "One of them; `newest` in place of a number",
    "/v1/notebooks/{name}/executions/{number}/cancel": "It is asked to end, and saves what it has",
    "/v1/gpus": "What each GPU does at present, and who has it",
    "/v1/leases": "Who has GPUs, then who waits for some, in the order in which they are served",
    "/v1/gpu/ledger": "What GPUs came to since a time, by=owner, name, kind or device; whole hours",
    "/v1/gpus/{uuid}/drain": "Nothing new is put on the card; what runs there goes on",
    "/v1/gpus/{uuid}/resume": "The card is given again",
    "/v1/machines": "Machine types, and what each gives on this machine",
    "/v1/machines/{name}": "Any name that a spec may have as its machine type, such as A4000x2",
    "/v1/registries/{name}": "A login at an image registry; its password is never given back",
    "/v1/hooks/{name}": "A signed message that starts a run of the workflow, as its on.webhook says",
    "/v1/hooks/repository/{name}": "A signed message that there is something new in the repository",
    "/v1/notebooks/{name}/history/file": "One path at each moment: when it changed",
    "/v1/notebooks/{name}/diff": "What differs between two moments: lines of JSON, FileChange and at last DiffEnd",
    "/v1/notebooks/{name}/diff/file": "One file at two moments: its lines, or a notebook's cells",
}


SIGNED = "/v1/hooks/"
"""Of what needs no token: each message is signed with the secret of its own receiver."""


def describe(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Of every route that is in the schema."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, WebSocketRoute):
            paths.setdefault(route.path, {})["get"] = _operation(route, "GET")
        if not isinstance(route, Route) or not route.include_in_schema:
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    schemas = {
        name: TypeAdapter(shape).json_schema(ref_template="#/components/schemas/{model}")
        for name, shape in inspect.getmembers(wire, _is_shape)
    }
    for schema in list(schemas.values()):
        schemas.update(schema.pop("$defs", {}))
    return {
        "openapi": "3.1.0",
        "info": {"title": "appliance", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}],
    }


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, type)
        and hasattr(value, "__required_keys__")
        and value.__module__.startswith(f"{wire.__name__}.")
    )


def _operation(route: Route | WebSocketRoute, method: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.param_convertors
    ]
    verb = {"GET": "Read", "POST": "Do", "PUT": "Set", "DELETE": "Delete"}[method]
    problem = {"$ref": "#/components/schemas/Problem"}
    open_to_all: dict[str, Any] = {"security": []} if route.path.startswith(SIGNED) else {}
    return {
        "summary": SUMMARIES.get(route.path, f"{verb} {route.path.removeprefix('/v1/').replace('/', ' ')}"),
        "parameters": parameters,
        **open_to_all,
        "responses": {
            "2XX": {"description": "done"},
            "default": {"description": "a problem", "content": {"application/problem+json": {"schema": problem}}},
        },
    }
