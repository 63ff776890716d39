"""A socket before the engine's own that can be shut: to a daemon behind it, Docker is restarted or gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

ENGINE = "/var/run/docker.sock"


class EngineDoor:
    """Open with `with`; `shut` ends what goes through it and lets nothing in until `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="engine door")
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> EngineDoor:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def open(self) -> None:
        self._do(self._open)

    def shut(self) -> None:
        self._do(self._shut)

    def _do(self, what: Callable[[], Awaitable[None]]) -> None:
        async def doing() -> None:
            await what()

        asyncio.run_coroutine_threadsafe(doing(), self._loop).result(30)

    async def _open(self) -> None:
        self._server = await asyncio.start_unix_server(self._pass, str(self.path))

    async def _shut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        self.path.unlink(missing_ok=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        links = [writer]
        try:
            behind, ahead = await asyncio.open_unix_connection(ENGINE)
            links.append(ahead)
            await asyncio.gather(_copy(reader, ahead), _copy(behind, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._passing.discard(task)
            for link in links:
                link.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """To the end of one direction; the other may go on."""
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()
