"""What happened and what was said: events, logs. Listings, or streams with `follow=1`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance.api import requests, views
from appliance.api.parts import Parts
from appliance.api.stream import event_stream
from appliance.state import events, spec_files
from appliance.telemetry.types import LogQuery

EVENT_POLL_S = 0.25
"""A look at the newest event id takes some 20 µs, and only while somebody follows."""


def routes(parts: Parts) -> list[Route]:
    async def logs(request: Request) -> Response:
        query = LogQuery(
            kind=request.query_params.get("kind", ""),
            name=request.query_params.get("name", ""),
            part=request.query_params.get("part", ""),
            contains=request.query_params.get("contains", ""),
            after=requests.count(request, "after", 0),
            since=requests.number(request, "since", 0.0),
            limit=requests.count(request, "limit", 1000, most=100_000),
        )
        if requests.flag(request, "follow"):
            return event_stream(_lines(parts, query), parts.stopping)
        return JSONResponse({"items": [views.log_line(line) for line in await parts.telemetry.logs(query)]})

    async def events_(request: Request) -> Response:
        if requests.flag(request, "follow"):
            last = request.headers.get("last-event-id") or request.query_params.get("after")
            return event_stream(_events(parts, _cursor(last)), parts.stopping)
        rows = events.newest(
            parts.db.read,
            kind=request.query_params.get("kind", ""),
            name=request.query_params.get("name", ""),
            limit=requests.count(request, "limit", 100, most=10_000),
        )
        return JSONResponse({"items": [views.event(row) for row in rows]})

    async def specs(_: Request) -> Response:
        return JSONResponse({"items": [views.spec_file(row) for row in spec_files.every(parts.db.read)]})

    return [
        Route("/v1/logs", logs, methods=["GET"]),
        Route("/v1/events", events_, methods=["GET"]),
        Route("/v1/specs", specs, methods=["GET"]),
    ]


async def _lines(parts: Parts, query: LogQuery) -> AsyncIterator[list[Mapping[str, Any]]]:
    async for batch in parts.telemetry.follow(query):
        yield [views.log_line(line) for line in batch]


async def _events(parts: Parts, last: int | None) -> AsyncIterator[list[Mapping[str, Any]]]:
    if last is None:
        newest = events.newest(parts.db.read, limit=1)
        last = newest[-1].id if newest else 0
    while True:
        if rows := events.after(parts.db.read, last):
            last = rows[-1].id
            yield [views.event(row) for row in rows]
        else:
            await asyncio.sleep(EVENT_POLL_S)


def _cursor(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
