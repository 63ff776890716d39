"""Server-sent events. A stream ends when its client goes, or when the daemon is stopping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import StreamingResponse

HEARTBEAT_S = 15.0
"""A comment this often tells proxies and clients that the stream lives."""


def event_stream(batches: AsyncIterator[list[Mapping[str, Any]]], stopping: asyncio.Event) -> StreamingResponse:
    """One `data:` line for each document; `id:` is its `seq` or `id`, for Last-Event-ID."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_frames(batches, stopping), media_type="text/event-stream", headers=headers)


async def _frames(batches: AsyncIterator[list[Mapping[str, Any]]], stopping: asyncio.Event) -> AsyncIterator[bytes]:
    yield b": open\n\n"
    stop = asyncio.create_task(stopping.wait())
    async with aclosing(batches):  # type: ignore[type-var]  # every iterator given here is a generator
        nearest = asyncio.create_task(_next(batches))
        try:
            while True:
                await asyncio.wait({nearest, stop}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    return
                if not nearest.done():
                    yield b": alive\n\n"
                    continue
                batch = nearest.result()
                if batch is None:
                    return
                yield b"".join(_frame(document) for document in batch)
                nearest = asyncio.create_task(_next(batches))
        finally:
            stop.cancel()
            nearest.cancel()
            await asyncio.gather(stop, nearest, return_exceptions=True)


async def _next(batches: AsyncIterator[list[Mapping[str, Any]]]) -> list[Mapping[str, Any]] | None:
    return await anext(batches, None)


def _frame(document: Mapping[str, Any]) -> bytes:
    number = document.get("seq", document.get("id", 0))
    return b"id: %d\ndata: %s\n\n" % (number, orjson.dumps(document))
