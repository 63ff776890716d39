"""Deployments: their revisions and the way back, scale, traffic, commands in their replicas."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import revisions, wire
from appliance.api import commands, deployments, requests, traffic, views
from appliance.api.parts import Parts
from appliance.api.stream import LinesResponse
from appliance.errors import Conflict, UsageError
from appliance.state import models, resources
from appliance.state.db import Connection
from appliance.state.resources import Resource

MOST_REPLICAS = 64
TRAFFIC_S = 300.0
"""What is told of the traffic where nothing else is asked for."""
LONGEST_TRAFFIC_S = 7 * 86_400.0
SPAN = "A..B, two generations such as 3..5"


def routes(parts: Parts) -> list[Route]:
    def find(request: Request) -> Resource:
        return resources.get(parts.db.read, revisions.KIND, request.path_params["name"])

    async def answer(deployment: Resource, status: int = 200) -> Response:
        item = views.item(deployment, front_door=parts.settings.url, problems={})
        await deployments.tell(parts, [deployment], [item])
        return JSONResponse(item, status)

    async def change(request: Request, make: Callable[[Connection, Resource], Resource]) -> Response:
        """A new generation by `make`; nothing is hinted where there is none."""
        before = find(request)
        if before.deleting:
            raise Conflict(f"deployment {before.name!r} is being deleted", hint="wait until it is gone")
        with parts.db.write() as db:
            after = make(db, before)
            if after.generation != before.generation:
                resources.set_author(db, after.uid, after.generation, requests.author(request))
        if after.generation != before.generation:
            parts.hint(revisions.KIND, after.uid)
        return await answer(after, 202)

    def named(model: str) -> str:
        found = models.find(parts.db.read, model)
        return f"{found.name} ({model})" if found else f"{model}, which is gone,"

    async def history(request: Request) -> Response:
        found = revisions.history(parts.db.read, find(request))
        return JSONResponse({"items": [deployments.revision(entry, named) for entry in found]})

    async def diff(request: Request) -> Response:
        older, newer = _span(request.path_params["span"])
        found = revisions.diff(parts.db.read, find(request), older, newer)
        return JSONResponse(deployments.difference(found))

    async def rollback(request: Request) -> Response:
        asked = await requests.body(request, wire.RevisionRequest)
        source, now = requests.author(request), parts.clock()
        return await change(
            request, lambda db, before: revisions.roll_back(db, before, asked.get("to"), source=source, now=now)
        )

    async def restart(request: Request) -> Response:
        source, now = requests.author(request), parts.clock()
        return await change(request, lambda db, before: revisions.restart(db, before, source=source, now=now))

    async def scale(request: Request) -> Response:
        """The same revision with another number of replicas: it replaces none."""
        replicas = (await requests.body(request, wire.ScaleRequest))["replicas"]
        if not 0 <= replicas <= MOST_REPLICAS:
            raise UsageError(
                f"replicas must be 0 to {MOST_REPLICAS}, not {replicas}", where=request.path_params["name"]
            )
        source, now = requests.author(request), parts.clock()
        return await change(request, lambda db, before: revisions.scale(db, before, replicas, source=source, now=now))

    async def traffic_(request: Request) -> Response:
        deployment, now = find(request), parts.clock()
        since = requests.number(request, "since", now - TRAFFIC_S)
        since = min(max(since, now - LONGEST_TRAFFIC_S), now)
        return JSONResponse(await traffic.traffic(parts, deployment, since=since, until=now))

    async def execute(request: Request) -> Response:
        """Lines of JSON: an ExecOutput each, at last an ExecEnd."""
        asked = await requests.body(request, wire.ExecRequest)
        if not asked["argv"] or not asked["argv"][0]:
            raise UsageError("argv is empty", where=request.url.path, hint="the command and its arguments, as a list")
        commands.check(asked["argv"], request.url.path)
        container = commands.container_of(find(request), asked.get("replica", ""))
        return await LinesResponse.begin(commands.running(parts.engine, container, asked["argv"]), parts.stopping)

    return [
        Route("/v1/deployments/{name}/revisions", history, methods=["GET"]),
        Route("/v1/deployments/{name}/revisions/{span}", diff, methods=["GET"]),
        Route("/v1/deployments/{name}/rollback", rollback, methods=["POST"]),
        Route("/v1/deployments/{name}/restart", restart, methods=["POST"]),
        Route("/v1/deployments/{name}/scale", scale, methods=["POST"]),
        Route("/v1/deployments/{name}/traffic", traffic_, methods=["GET"]),
        Route("/v1/deployments/{name}/exec", execute, methods=["POST"]),
    ]


def _span(text: str) -> tuple[int, int]:
    older, dots, newer = text.partition("..")
    if not dots or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in (older, newer)):
        raise UsageError(f"not a span of revisions: {text!r}", hint=SPAN)
    return int(older), int(newer)
