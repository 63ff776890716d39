"""Questions in SQL over what is stored and over the state: asked, listed, canceled; tables and ready queries."""

from __future__ import annotations

import asyncio
import functools
import re
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance import wire
from appliance.api import requests, sql
from appliance.api.parts import Parts
from appliance.errors import Unavailable, UsageError
from appliance.state import sql_tables
from appliance.telemetry.sql.catalog import TABLES
from appliance.telemetry.sql.door import LONGEST_S, MOST_ROWS
from appliance.telemetry.sql.ready import ready_queries

LIMIT = 10_000
"""Rows, where nothing is said."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def routes(parts: Parts) -> list[Route]:
    async def ask(request: Request) -> Response:
        asked = await requests.body(request, wire.SqlRequest)
        limit, timeout_s = asked.get("limit", LIMIT), asked.get("timeout_s", parts.settings.sql_timeout_s)
        if not (0 <= limit <= MOST_ROWS and 0 < timeout_s <= LONGEST_S):
            raise UsageError(
                f"limit is 0 to {MOST_ROWS:,} rows and timeout_s at most {LONGEST_S:g}", where=request.url.path
            )
        if asked.get("id") and not _ID.fullmatch(asked["id"]):
            raise UsageError("id: up to 64 letters, digits, `.`, `_`, `-`", where=request.url.path)
        form = sql.FORMS[asked.get("format", "json")]
        file = sql.nameless(parts.settings.home)
        question = parts.telemetry.questions.ask(
            asked["query"],
            form.sink(file),
            limit=limit,
            timeout_s=timeout_s,
            state=functools.partial(sql_tables.read, parts.settings.state_file),
            question_id=asked.get("id", ""),
        )
        ending = await sql.unless_left(request, asyncio.create_task(question), parts.stopping)
        if ending is None:
            raise Unavailable("the query was ended: the daemon stops, or nobody waits", where=request.url.path)
        return sql.respond(file, form, ending)

    async def running(_: Request) -> Response:
        now = time.monotonic()
        found = [
            wire.SqlRunning(id=one.id, query=one.text, seconds=now - one.began)
            for one in parts.telemetry.questions.running()
        ]
        return JSONResponse({"items": found})

    async def cancel(request: Request) -> Response:
        parts.telemetry.questions.cancel(request.path_params["id"])
        return Response(status_code=204)

    async def tables(_: Request) -> Response:
        found = [
            wire.SqlTable(
                name=name,
                about=about,
                columns=[wire.SqlColumn(name=one.name, type=one.type, about=one.about) for one in columns],
            )
            for name, (about, columns) in TABLES.items()
        ]
        return JSONResponse({"items": found})

    async def ready(_: Request) -> Response:
        found = [wire.SqlReady(name=one.name, question=one.question, sql=one.sql) for one in ready_queries()]
        return JSONResponse({"items": found})

    return [
        Route("/v1/sql", ask, methods=["POST"]),
        Route("/v1/sql", running, methods=["GET"]),
        Route("/v1/sql/tables", tables, methods=["GET"]),
        Route("/v1/sql/ready", ready, methods=["GET"]),
        Route("/v1/sql/{id}", cancel, methods=["DELETE"]),
    ]
