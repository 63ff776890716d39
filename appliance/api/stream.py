"""Answers that go on: server-sent events, and lines of JSON.

A stream ends when its client goes, or when the daemon is stopping.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import Any, TypeVar

import anyio
import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

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


async def _next(batches: AsyncIterator[T]) -> T | None:
    return await anext(batches, None)


def _frame(document: Mapping[str, Any]) -> bytes:
    number = document.get("seq", document.get("id", 0))
    return b"id: %d\ndata: %s\n\n" % (number, orjson.dumps(document))


class LinesResponse(Response):
    """Newline-delimited JSON, batch by batch as it comes. What produces it ends with the answer, however that ends.

    An empty line now and then keeps proxies and clients from giving up on a long silence.
    """

    media_type = "application/x-ndjson"
    alive = b"\n"

    def __init__(self, batches: AsyncIterator[bytes], ending: AsyncExitStack, stopping: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._batches = batches
        self._ending = ending
        self._stopping = stopping

    @classmethod
    async def begin(
        cls, source: AbstractAsyncContextManager[AsyncIterator[bytes]], stopping: asyncio.Event
    ) -> LinesResponse:
        """Enter `source`; what it raises now is an error of its own, and not the end of a good answer."""
        async with AsyncExitStack() as stack:
            batches = await stack.enter_async_context(source)
            return cls(batches, stack.pop_all(), stopping)
        raise AssertionError("unreachable: the stack swallows no error")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ends = [asyncio.create_task(self._stopping.wait()), asyncio.create_task(_left(receive))]
        nearest = asyncio.create_task(_next(self._batches))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while True:
                await asyncio.wait({nearest, *ends}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if any(end.done() for end in ends):
                    return await self._break_off(send)
                batch = nearest.result() if nearest.done() else self.alive
                if batch is None:
                    break
                await send({"type": "http.response.body", "body": batch, "more_body": True})
                if nearest.done():
                    nearest = asyncio.create_task(_next(self._batches))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            with anyio.CancelScope(shield=True):
                for task in (nearest, *ends):
                    task.cancel()
                await asyncio.gather(nearest, *ends, return_exceptions=True)
                await self._ending.aclose()

    async def _break_off(self, send: Send) -> None:
        """The last line of a whole answer says that it is one."""
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ArchiveResponse(LinesResponse):
    """A tar archive, which would look whole where it is not: one that is broken off has no end for the client."""

    media_type = "application/x-tar"
    alive = b""

    async def _break_off(self, send: Send) -> None:
        return


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
