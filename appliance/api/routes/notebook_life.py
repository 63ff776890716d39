"""A notebook's life beyond start and stop: changing, renaming, another session, out into a file and in from one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from appliance import wire
from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.errors import ApplianceError, Unavailable
from appliance.history.workspaces import NOW
from appliance.notebooks.changing import WHOLE, Change
from appliance.state.resources import Resource

log = logging.getLogger(__name__)


def routes(parts: Parts) -> list[Route]:
    def document(notebook: Resource) -> wire.Item:
        return views.item(notebook, front_door=parts.settings.url, problems={}, full=True)

    async def rename(request: Request) -> Response:
        """Its history, files and token stay; a session that runs is followed by another at the new address."""
        asked = await requests.body(request, wire.RenameRequest)
        made = await parts.notebooks.renaming.rename(
            request.path_params["name"], asked["name"], author=requests.author(request)
        )
        return JSONResponse(document(made))

    async def restart(request: Request) -> Response:
        notebook = await parts.notebooks.changing.restart(request.path_params["name"], author=requests.author(request))
        return JSONResponse(document(notebook), 202)

    async def set_(request: Request) -> Response:
        asked = await requests.body(request, wire.SetRequest)
        change = Change(
            {key: value for key, value in asked.items() if key in WHOLE},  # type: ignore[misc]
            asked.get("env", {}),
            asked.get("unset_env", ()),
        )
        notebook, session = await parts.notebooks.changing.set(
            request.path_params["name"], change, generation=asked.get("generation"), start=asked.get("start", True)
        )
        return JSONResponse(wire.Changed(notebook=document(notebook), session=session))

    async def export(request: Request) -> Response:
        name, at = request.path_params["name"], request.query_params.get("at") or NOW
        async with AsyncExitStack() as opened:
            pieces = await opened.enter_async_context(
                parts.notebooks.carrying.export(name, at, author=requests.author(request))
            )
            return _ArchiveResponse(opened.pop_all(), pieces, name, parts.stopping)

    async def import_(request: Request) -> Response:
        """The body is the archive. `name` is its own where none is given; with `start` it begins at once."""
        made = await parts.notebooks.carrying.take(
            _body(request),
            parts.stopping,
            request.query_params.get("name", ""),
            start=requests.flag(request, "start"),
        )
        return JSONResponse(document(made), 201)

    return [
        Route("/v1/notebooks/{name}/rename", rename, methods=["POST"]),
        Route("/v1/notebooks/{name}/restart", restart, methods=["POST"]),
        Route("/v1/notebooks/{name}/set", set_, methods=["POST"]),
        Route("/v1/notebooks/{name}/export", export, methods=["GET"]),
        Route("/v1/notebooks/import", import_, methods=["POST"]),
    ]


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise ApplianceError("the sender has gone; nothing was imported") from None


class _ArchiveResponse(StreamingResponse):
    """`opened` is what the pieces are read from; sending the answer closes it. Its length is not known before."""

    def __init__(
        self, opened: AsyncExitStack, pieces: AsyncIterator[bytes], name: str, stopping: asyncio.Event
    ) -> None:
        headers = {
            "Content-Disposition": f'attachment; filename="{name}.tar.gz"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        super().__init__(_until(stopping, pieces), media_type="application/gzip", headers=headers)
        self._opened = opened
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """An archive that fails is left without its end, so that whoever reads it sees that there is more."""
        try:
            await super().stream_response(send)
        except ApplianceError as error:
            log.warning("the export of notebook %s is broken off: %s", self._name, error)


async def _until(stopping: asyncio.Event, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A daemon that stops does not wait for whoever reads."""
    async for piece in pieces:
        if stopping.is_set():
            raise Unavailable("the daemon is stopping", hint="repeat the command afterwards")
        yield piece
