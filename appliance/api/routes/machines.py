"""Machine types: Gradient's names and one's own, what they give here, and how many could begin now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance.api import machines
from appliance.api.parts import Parts
from appliance.errors import NotFound
from appliance.scheduler.types import Card
from appliance.spec.machines import Shape, known
from appliance.spec.problems import printable, quoted


def routes(parts: Parts) -> list[Route]:
    def cards() -> tuple[Card, ...] | None:
        """None: there is no driver."""
        queue = parts.gpus.snapshot() if parts.gpus else None
        return queue.cards if queue and queue.inventory.present else None

    def free(shape: Shape) -> int | None:
        return parts.gpus.free_cards(shape) if parts.gpus else None

    async def every(_: Request) -> Response:
        """Each machine type, and what it gives on this machine."""
        own = parts.settings.machines
        return JSONResponse({"items": machines.every(own.keys(), parts.machines, cards(), free)})

    async def one(request: Request) -> Response:
        """Any name that a spec may have as its machine type, such as A4000x2."""
        name = request.path_params["name"]
        if not known(name, parts.machines):
            raise NotFound(
                f"there is no machine type {quoted(printable(name))}",
                hint="a spec that names it runs as the setting `machine` says; `appliance get machines` lists them",
            )
        return JSONResponse(machines.one(name, parts.settings.machines.keys(), parts.machines, cards(), free))

    return [
        Route("/v1/machines", every, methods=["GET"]),
        Route("/v1/machines/{name}", one, methods=["GET"]),
    ]
