"""GPUs: the cards, who has them, who waits, what they came to; and a card taken out of service and back."""

from __future__ import annotations

from typing import cast, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import gpus, requests
from appliance.api.parts import Parts
from appliance.errors import Conflict, UsageError
from appliance.gpu.types import Inventory
from appliance.scheduler.view import Gpus, Queue
from appliance.state import ledger

LONGEST_WHY = 200
NOBODY = "nobody looks after GPUs here"


def routes(parts: Parts) -> list[Route]:
    def queue() -> Queue:
        if parts.gpus is None:
            return Queue(parts.clock(), Inventory(parts.clock(), message=NOBODY))
        return parts.gpus.snapshot()

    def scheduler() -> Gpus:
        if parts.gpus is None:
            raise Conflict(NOBODY, where="gpus", hint="`appliance doctor` tells why")
        return parts.gpus

    async def cards(_: Request) -> Response:
        """What each card does at present, and who has it."""
        return JSONResponse(gpus.gpus(queue()))

    async def leases(_: Request) -> Response:
        """Who has GPUs, then who waits for some, in the order in which they are served."""
        return JSONResponse({"items": gpus.leases(queue())})

    async def used(request: Request) -> Response:
        """What GPUs came to `since` (unix seconds) summed `by` owner, name, kind or device. Whole hours."""
        by = request.query_params.get("by", "owner")
        if by not in get_args(ledger.By):
            known = ", ".join(get_args(ledger.By))
            raise UsageError(f"by must be one of {known}, not {by!r}", where=request.url.path)
        since = requests.number(request, "since", 0.0)
        rows = ledger.totals(parts.db.read, cast("ledger.By", by), since=since)
        return JSONResponse(wire.GpuLedger(by=by, since=since, items=[gpus.use(row) for row in rows]))

    async def drain(request: Request) -> Response:
        """Nothing new is put on the card; what runs there goes on."""
        asked = await requests.body(request, wire.DrainRequest)
        why = "".join(character for character in asked.get("why", "") if character.isprintable()).strip()
        if len(why) > LONGEST_WHY:
            raise UsageError(f"why has at most {LONGEST_WHY} characters", where=request.url.path)
        scheduler().drain(request.path_params["uuid"], why or f"{requests.author(request)} took it out of service")
        return Response(status_code=204)

    async def resume(request: Request) -> Response:
        """It is given again."""
        await requests.body(request, wire.ResumeRequest)
        scheduler().resume(request.path_params["uuid"])
        return Response(status_code=204)

    return [
        Route("/v1/gpus", cards, methods=["GET"]),
        Route("/v1/leases", leases, methods=["GET"]),
        Route("/v1/gpu/ledger", used, methods=["GET"]),
        Route("/v1/gpus/{uuid}/drain", drain, methods=["POST"]),
        Route("/v1/gpus/{uuid}/resume", resume, methods=["POST"]),
    ]
