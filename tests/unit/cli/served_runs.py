"""The real API on a socket over the bench of the workflow tests, which works in a thread as a daemon would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvicorn

from appliance import home
from appliance.api.app import build_app
from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.api.run_house import Lines, parts_of
from tests.unit.workflows.fakes import Bench

T = TypeVar("T")


class ServedRuns:
    """`call` and `do` run something where the bench is at home."""

    def __init__(self, settings: Settings) -> None:
        home.prepare(settings)
        self._settings = settings
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(60)

    def call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return self.do(run())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.bench = Bench(self._settings, Clock(time.time()))
        self.lines = Lines()
        app = build_app(parts_of(self.bench, self.lines, []))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listener = home.listen(self._settings.socket, 0o600)
        work = asyncio.create_task(self._work())
        self._up.set()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            work.cancel()
            self.bench.close()

    async def _work(self) -> None:
        while True:
            await self.bench.settle_some(20)
            await asyncio.sleep(0.01)
