"""The API on sockets of its own, as the daemon serves it; the engine's terminals are made up."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from appliance import home
from appliance.api.app import behind_token, build_app
from appliance.client import Client
from appliance.daemon import _Server, server_config
from appliance.engine.docker import Engine
from appliance.engine.executing import Piece
from appliance.engine.terminals import Size
from appliance.notebooks.notebooks import Notebooks
from appliance.notebooks.typed import Terminals
from appliance.settings import Settings
from appliance.state import resources
from tests.conftest import Clock
from tests.unit.api.test_api import TOKEN, House

DEADLINE_S = 60.0
PIECE = bytes(1 << 15)


class Talking:
    """Tells what it is given as lines of JSON. It ends at `exit N`, and writes without end at `flood`."""

    def __init__(self, told: Mapping[str, Any], *, tty: bool) -> None:
        self._out: asyncio.Queue[Piece | int] = asyncio.Queue()
        self._tty = tty
        self._code = 0
        self.written = 0
        self._tell("stdout", **told)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while not isinstance(found := await self._out.get(), int):
            if found.data != b"flood":
                yield found
                continue
            while True:
                yield Piece("stdout", PIECE)
                self.written += len(PIECE)
        self._code = found

    async def write(self, data: bytes) -> None:
        if data.startswith(b"exit "):
            self._out.put_nowait(int(data[5:]))
        elif data == b"flood":
            self._out.put_nowait(Piece("stdout", data))
        else:
            self._tell("stdout" if self._tty else "stderr", typed=data.hex())

    async def end_input(self) -> None:
        self._tell("stdout", eof=True)

    async def resize(self, size: Size) -> None:
        self._tell("stdout", size=[size.columns, size.rows])

    async def exit_code(self) -> int:
        return self._code

    def _tell(self, stream: Any, **words: Any) -> None:
        self._out.put_nowait(Piece(stream, json.dumps(words).encode() + b"\n"))


class FakeEngine:
    def __init__(self) -> None:
        self.begun: list[Talking] = []
        self.left = threading.Semaphore(0)

    @asynccontextmanager
    async def terminal(
        self, container_id: str, argv: Sequence[str], *, tty: bool, size: Size, env: Mapping[str, str]
    ) -> AsyncIterator[Talking]:
        told = {"container": container_id, "argv": list(argv), "tty": tty, "env": dict(env)}
        talking = Talking({**told, "size": [size.columns, size.rows]}, tty=tty)
        self.begun.append(talking)
        try:
            yield talking
        finally:
            self.left.release()


class Served:
    def __init__(self, settings: Settings, folder: Path) -> None:
        home.prepare(settings)
        self.settings, self._folder = settings, folder
        self.engine = FakeEngine()
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(DEADLINE_S)

    def client(self) -> Client:
        return Client(socket=self.settings.socket)

    def declare(self, kind: str, name: str, **status: Any) -> None:
        async def run() -> None:
            with self.house.db.write() as db:
                found, _ = resources.put(db, kind, name, {"image": "i"}, source="test", now=1.0)
                resources.set_status(db, found.uid, generation=found.generation, phase="Running", status=status)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE_S)

    def tell(self, container: str, words: str) -> None:
        """As the watch over the sessions does."""

        async def run() -> None:
            self.house.parts.notebooks.terminals.tell(container, words)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(DEADLINE_S)

    def stop(self) -> None:
        """As the daemon does it."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "it waits for somebody who is not going to answer"

    def _end(self) -> None:
        self.house.parts.stopping.set()
        for server in self._servers:
            server.should_exit = True

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.house = House(self._folder, self.settings, Clock(time.time()))
        self.house.parts.engine = cast(Engine, self.engine)
        self.house.parts.notebooks = cast(Notebooks, SimpleNamespace(terminals=Terminals()))
        app = build_app(self.house.parts)
        doors = ((app, self.settings.socket), (behind_token(app, TOKEN), self.settings.front_socket))
        self._servers = [_Server(server_config(door)) for door, _ in doors]
        listeners = [home.listen(path, 0o600) for _, path in doors]
        serving = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, listener in zip(self._servers, listeners, strict=True)
        ]
        while not all(server.started for server in self._servers):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        self._up.set()
        await asyncio.gather(*serving)
        self.house.db.close()


@contextmanager
def served(settings: Settings, folder: Path) -> Iterator[Served]:
    made = Served(settings, folder)
    try:
        yield made
    finally:
        made.stop()
