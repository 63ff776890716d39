"""The one way to the daemon: blocking client calls in worker threads, one client each, answered to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from appliance.client import Client

T = TypeVar("T")

STREAM_BATCH = 500
STREAM_PAUSE_S = 0.1
"""Lines are shown ten times a second, however fast they come."""


class Feed:
    """Calls take turns on one kept connection; a stream has a client and a thread of its own."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client = connect()
        self._turn = asyncio.Lock()

    @classmethod
    def of_home(cls, home: Path) -> Feed:
        return cls(lambda: Client.from_environment(home, via="tui"))

    async def call(self, ask: Callable[[Client], T]) -> T:
        """Raises what the client raises."""
        async with self._turn:
            return await asyncio.to_thread(ask, self._client)

    async def stream(self, ask: Callable[[Client], Iterable[Any]]) -> AsyncIterator[list[Any]]:
        """Batches of what a streamed answer brings, such as log lines as they are stored; ends when the daemon goes."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Any] = asyncio.Queue()
        client = self._connect()
        left = threading.Event()
        room = threading.Semaphore(20 * STREAM_BATCH)  # a reader that lags behind holds the thread, not the memory

        def read() -> None:
            try:
                for item in ask(client):
                    room.acquire()
                    if left.is_set():
                        return
                    loop.call_soon_threadsafe(queue.put_nowait, item)
                end: object = None
            except Exception as error:  # told to the reader in the event loop
                end = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(queue.put_nowait, end)

        threading.Thread(target=read, name="stream", daemon=True).start()
        try:
            async for batch in self._batches(queue, room):
                yield batch
        finally:  # the reader has gone: end the thread and its connection, wherever it waits
            left.set()
            room.release()
            client.close()

    async def _batches(self, queue: asyncio.Queue[Any], room: threading.Semaphore) -> AsyncIterator[list[Any]]:
        while True:
            batch = [await queue.get()]
            while not queue.empty() and len(batch) < STREAM_BATCH:
                batch.append(queue.get_nowait())
            room.release(len(batch))
            end = [found for found in batch if found is None or isinstance(found, Exception)]
            yield [found for found in batch if isinstance(found, dict)]
            if end:
                if isinstance(end[0], Exception):
                    raise end[0]
                return
            await asyncio.sleep(STREAM_PAUSE_S)
