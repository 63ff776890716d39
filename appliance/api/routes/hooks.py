"""Signed messages from elsewhere: the only routes that do something for somebody without the token."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api.parts import Parts
from appliance.errors import Forbidden, TooLarge
from appliance.triggers import hooks
from appliance.triggers.hooks import Taken

LARGEST = 2 << 20
"""Bytes of a message. A push of many commits is a few hundred KiB."""


def routes(parts: Parts) -> list[Route]:
    async def to_workflow(request: Request) -> Response:
        body, name = await _body(request), request.path_params["name"]
        return _answer(hooks.to_workflow(parts.db, parts.secrets, name, request.headers, body, now=parts.clock()))

    async def to_repository(request: Request) -> Response:
        body, name = await _body(request), request.path_params["name"]
        return _answer(hooks.to_repository(parts.db, parts.secrets, name, request.headers, body, now=parts.clock()))

    def _answer(taken: Taken) -> Response:
        run = f"{taken.run.workflow}.{taken.run.number}" if taken.run else ""
        if taken.run:
            parts.hint("run", taken.run.id)
        if taken.look:
            parts.hint("repository", taken.look)
        return JSONResponse(wire.HookAnswer(message=taken.message, run=run), 202 if run or taken.look else 200)

    return [
        Route("/v1/hooks/{name}", to_workflow, methods=["POST"]),
        Route("/v1/hooks/repository/{name}", to_repository, methods=["POST"]),
    ]


async def _body(request: Request) -> bytes:
    """Raises Forbidden before a byte is read where there is no signature, TooLarge as soon as it is too much."""
    if not hooks.may_be_signed(request.headers):
        raise Forbidden("the message is not signed", hint="send the header X-Hub-Signature-256: sha256=HEX")
    found = bytearray()
    async for piece in request.stream():
        found += piece
        if len(found) > LARGEST:
            raise TooLarge(f"the message is larger than {LARGEST >> 20} MiB", hint="send smaller messages")
    return bytes(found)
