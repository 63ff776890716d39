"""The dataset rooms behind the real API on a socket, for a client in another thread, as the CLI is elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvicorn

from appliance import home
from appliance.api.app import build_app
from appliance.api.parts import Parts
from appliance.client import Client
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.datasets.uploads import Uploads
from appliance.history.measuring import SpaceReports
from appliance.settings import Settings
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.room import Room
from appliance.vault.registries import Registries
from appliance.vault.secrets import Secrets
from tests.conftest import Clock

T = TypeVar("T")


class Served:
    """`start` and `stop` as often as a test likes: what is on the disk stays. `do` runs something on its loop."""

    def __init__(self, settings: Settings, store: Callable[[], Store], clock: Clock) -> None:
        home.prepare(settings)
        self.settings = settings
        self.clock = clock
        self.client = Client(socket=settings.socket)
        self._make_store = store

    def start(self) -> None:
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(60)

    def stop(self) -> None:
        self.client.close()
        self.parts.stopping.set()
        self._server.should_exit = True
        self._thread.join(60)
        assert not self._thread.is_alive()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return self.do(run())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        db = Database(self.settings.state_file)
        self.store = self._make_store()
        self.datasets = Datasets(db, self.store, self.clock)
        self.models = Models(db, self.store, self.clock)
        self.uploads = Uploads(db, self.store, self.datasets, self.settings.uploads_dir, self.clock)
        self.db = db
        rest: Any = None
        secrets = Secrets(db, self.settings.home / "secret.key", self.clock)
        self.parts = Parts(
            settings=self.settings,
            instance="0" * 8,
            token="t",
            db=db,
            engine=rest,
            datasets=self.datasets,
            models=self.models,
            uploads=self.uploads,
            workspaces=rest,
            telemetry=rest,
            secrets=secrets,
            registries=Registries(db, secrets, self.clock),
            notebooks=rest,
            rooms=rest,
            backups=rest,
            space=SpaceReports(
                db, self.store, Room(self.store, self.settings.home, low=0, reserve=0), low=0, clock=self.clock
            ),
            hint=lambda kind, uid: None,
            clock=self.clock,
            started=self.clock(),
        )
        await self.uploads.sweep(at_start=True)
        await self.datasets.sweep()
        config = uvicorn.Config(build_app(self.parts), log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listener = home.listen(self.settings.socket, 0o600)
        self._up.set()
        try:
            await self._server.serve(sockets=[listener])
        finally:
            db.close()
