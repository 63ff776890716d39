"""The door for what containers push, as a Prometheus Pushgateway takes it. It is served on a socket of its own.

https://github.com/prometheus/pushgateway#api. It differs where samples are kept as a history and not as the last push:
the same push again is another sample, and a group that is deleted keeps what it had. No token: whoever speaks is found
by the address that the front door saw, and can only add to its own metrics.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from appliance.api import problem
from appliance.engine.callers import Callers
from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.errors import ApplianceError, Forbidden, TooLarge, UsageError
from appliance.router.push import ARRIVED, CALLER, MOST_BODY
from appliance.telemetry.metrics.types import Subject
from appliance.telemetry.push.exposition import parse
from appliance.telemetry.push.grouping import grouping_key
from appliance.telemetry.push.samples import samples
from appliance.telemetry.telemetry import Telemetry

SMALL = 16 << 10
"""Bytes that are read at once; more in a thread, so that nobody waits for it."""
MOST_UNPACKED = 8 * MOST_BODY
"""Bytes of a compressed push once it is unpacked."""
_ENCODINGS = ("gzip", "identity", "")


def push_app(callers: Callers, telemetry: Telemetry, clock: Callable[[], float]) -> ASGIApp:
    """Only for the socket that the front door hands pushes to: it believes who the front door says has called."""

    async def push(request: Request) -> Response:
        now = clock()
        key = grouping_key(request.scope["raw_path"].decode("latin-1"))
        subject = subject_of(await _caller(callers, request))
        if request.method == "DELETE":
            return Response(status_code=202)
        text = await _text(request)
        measures = parse(text) if len(text) <= SMALL else await asyncio.to_thread(parse, text)
        telemetry.measured(samples(subject, key, measures, at=now))
        return Response(status_code=200)

    return Starlette(
        routes=[Route("/metrics/{rest:path}", push, methods=["PUT", "POST", "DELETE"])],
        exception_handlers={
            ApplianceError: problem.on_appliance_error,
            HTTPException: problem.on_http_error,
            Exception: problem.on_surprise,
        },
    )


def subject_of(container: Container) -> Subject:
    """Whose metrics these are, as logs of the same container have it. Raises Forbidden for a container of nobody's."""
    owner = owner_of(container.labels)
    if owner is None or not owner.name:
        raise Forbidden("this container works for nobody", where=container.name, hint="see its labels")
    return Subject(owner.shown_kind, owner.name, owner.part, container.id)


async def _caller(callers: Callers, request: Request) -> Container:
    address, arrived = request.headers.get(CALLER, ""), request.headers.get(ARRIVED, "")
    if not address or not (arrived.isascii() and arrived.isdigit()):
        raise Forbidden("the front door does not say who calls", where=request.url.path, hint="push through its port")
    return await callers.find(address, at=int(arrived[:15]) / 1000)


async def _text(request: Request) -> str:
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/vnd.google.protobuf"):
        raise UsageError(
            "protocol buffers are not read here", where=kind, hint="push the text format, as expfmt.FmtText"
        )
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BODY:
            raise _too_large(MOST_BODY)
    encoding = request.headers.get("content-encoding", "").lower()
    if encoding not in _ENCODINGS:
        raise UsageError(
            "only gzip can be unpacked", where=f"content-encoding {encoding[:40]!r}", hint="push plain text"
        )
    try:
        return (await asyncio.to_thread(_unpacked, bytes(body)) if encoding == "gzip" else bytes(body)).decode()
    except UnicodeDecodeError:
        raise UsageError("the push is no UTF-8", where="metrics", hint="push Prometheus' text format 0.0.4") from None


def _unpacked(body: bytes) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = unzip.decompress(body, MOST_UNPACKED)
    except zlib.error:
        raise UsageError("the push is no gzip", where="metrics", hint="push plain text") from None
    if unzip.unconsumed_tail:
        raise _too_large(MOST_UNPACKED)
    if not unzip.eof:
        raise UsageError("the push ends within its gzip", where="metrics", hint="push it again")
    return found


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"the push is larger than {most >> 20} MiB", where="metrics", hint="push in parts")
