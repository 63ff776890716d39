"""A file of a volume as an answer: in pieces, with its length, and never as something that a browser would show."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import PurePosixPath
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from appliance.paths import encode
from appliance.storage.threads import in_thread

CHUNK = 1 << 18


class FileResponse(StreamingResponse):
    """`of` opens the file, so that what is wrong with it is an error of its own; sending the answer closes it."""

    def __init__(self, opened: AsyncExitStack, file: BinaryIO, path: str, stopping: asyncio.Event) -> None:
        size = os.fstat(file.fileno()).st_size
        name = quote(encode(PurePosixPath(path).name))
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        super().__init__(_pieces(file, size, stopping), media_type="application/octet-stream", headers=headers)
        self._opened = opened

    @classmethod
    async def of(
        cls, reading: AbstractAsyncContextManager[BinaryIO], path: str, stopping: asyncio.Event
    ) -> FileResponse:
        async with AsyncExitStack() as opened:
            file = await opened.enter_async_context(reading)
            return cls(opened.pop_all(), file, path, stopping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await super().__call__(scope, receive, send)


async def _pieces(file: BinaryIO, size: int, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """As long as the file was when it was opened. One that has shrunk ends early, and the client sees that it did."""
    left = size
    while left > 0 and not stopping.is_set():
        piece = await in_thread(file.read, min(CHUNK, left))
        if not piece:
            return
        left -= len(piece)
        yield piece
