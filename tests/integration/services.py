"""A daemon's parts for notebooks and deployments, real all of them: engine, HAProxy, files, logs, reconcile loop."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.deployments.content import Content
from appliance.deployments.controller import DeploymentController
from appliance.deployments.gathering import Gathering
from appliance.deployments.load import this_machine
from appliance.deployments.scaler import Scaler
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import owner_of
from appliance.engine.types import Container
from appliance.history.workspaces import Workspaces
from appliance.notebooks.notebooks import Notebooks
from appliance.reconcile import Reconciler
from appliance.router.router import Router
from appliance.settings import load
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.directory.store import DirectoryStore
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets
from tests.support.docker import clear
from tests.support.ports import free_port

needs_services = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.images,
    pytest.mark.haproxy,
    pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None, reason="no HAProxy"),
]
DEADLINE_S = 300.0


async def eventually(look: Callable[[], Awaitable[object] | object], what: str, within_s: float = DEADLINE_S) -> None:
    """Until `look` answers something true; nothing here can be waited for otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.05)


class Services:
    """`restart()` drops everything the daemon's process holds and begins again on what is stored."""

    def __init__(self, home: Path, **changes: str) -> None:
        environ = {"APPLIANCE_PORT": str(free_port()), "APPLIANCE_STOP_GRACE_S": "3", **changes}
        self.settings = load(environ, home=home)
        self.instance = secrets.token_hex(4)
        self.engine = Engine(instance=self.instance)
        self.http = httpx2.AsyncClient(base_url=self.settings.url, trust_env=False, timeout=60)
        self.router = self._router()
        self._tasks: list[asyncio.Task[None]] = []

    def _router(self) -> Router:
        return Router(
            self.settings.router_dir,
            haproxy=self.settings.haproxy,
            host=self.settings.host,
            port=self.settings.port,
            api_socket=self.settings.front_socket,
        )

    async def start(self) -> None:
        settings, clock = self.settings, time.time
        self.db = Database(settings.state_file)
        self.store = DirectoryStore(settings.volumes_dir, "a test")
        self.vault = Secrets(self.db, settings.home / "key", clock)
        self.workspaces = Workspaces(self.db, self.store, clock)
        self.datasets = Datasets(self.db, self.store, clock)
        self.models = Models(self.db, self.store, clock)
        self.telemetry = Telemetry(settings.telemetry_file, flush_s=0.2, memory_mb=128, redact=self.vault.values)
        await self.telemetry.start()
        await self.router.start()
        self.reconciler = Reconciler((), resync_s=5.0)
        common: dict[str, Any] = {
            "db": self.db,
            "engine": self.engine,
            "images": Images(self.engine, base_image=settings.base_image, work_dir=settings.home),
            "telemetry": self.telemetry,
            "router": self.router,
            "vault": self.vault,
            "settings": settings,
            "instance": self.instance,
            "clock": clock,
            "hint": self.reconciler.hint,
        }
        self.notebooks = Notebooks(
            **common, workspaces=self.workspaces, datasets=self.datasets, models=self.models, store=self.store
        )
        gathering = Gathering(
            db=self.db,
            engine=self.engine,
            images=common["images"],
            store=self.store,
            datasets=self.datasets,
            telemetry=self.telemetry,
            vault=self.vault,
            instance=self.instance,
        )
        self.content = Content(gathering, clock, partial(self.reconciler.hint, DeploymentController.kind))
        self.scaler = Scaler(
            db=self.db,
            engine=self.engine,
            router=self.router,
            telemetry=self.telemetry,
            settings=settings,
            host=this_machine(),
            clock=clock,
            hint=self.reconciler.hint,
        )
        self.router.on_knock = self.scaler.woken
        self.deployments = DeploymentController(**common, models=self.models, content=self.content, scaler=self.scaler)
        self.reconciler.add(self.notebooks.controller)
        self.reconciler.add(self.notebooks.executing)
        self.reconciler.add(self.deployments)
        works = (self.reconciler.run(), self._follow(), self._scale(), self._watch(), self.scaler.listen())
        self._tasks = [asyncio.create_task(work) for work in works]

    async def _scale(self) -> None:
        while True:
            await self.scaler.tend()
            await asyncio.sleep(1.0)

    async def _watch(self) -> None:
        while True:
            await self.notebooks.watch()
            await asyncio.sleep(1.0)

    async def _follow(self) -> None:
        async for event in self.engine.events():
            owner = owner_of(event.labels)
            if owner and event.action in ("start", "die", "destroy"):
                self.reconciler.hint(owner.kind, owner.uid)

    async def drop(self) -> None:
        """The daemon's process is gone; containers and the front door go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.notebooks.close()
        await self.deployments.close()
        await self.telemetry.stop()
        self.db.close()

    async def restart(self) -> None:
        await self.drop()
        self.router = self._router()
        await self.start()

    async def clean(self) -> None:
        with contextlib.suppress(AttributeError):
            await self.drop()
        await clear(self.engine)
        await self.router.stop()
        await self.http.aclose()
        await self.engine.close()

    def declare(self, kind: str, name: str, document: Mapping[str, Any]) -> Resource:
        with self.db.write() as db:
            found, _ = resources.put(db, kind, name, document, source="cli", now=time.time())
        self.reconciler.hint(kind, found.uid)
        return found

    def ask(self, kind: str, name: str, desired: str) -> None:
        found = self.get(kind, name)
        with self.db.write() as db:
            resources.set_desired(db, found.uid, desired, now=time.time())
        self.reconciler.hint(kind, found.uid)

    def delete(self, kind: str, name: str) -> None:
        found = self.get(kind, name)
        with self.db.write() as db:
            resources.set_deleting(db, found.uid, now=time.time(), purge=True)
        self.reconciler.hint(kind, found.uid)

    def get(self, kind: str, name: str) -> Resource:
        return resources.get(self.db.read, kind, name)

    def all_events(self, kind: str, name: str) -> list[events.Event]:
        return events.newest(self.db.read, kind=kind, name=name)

    def events(self, kind: str, name: str) -> list[str]:
        return [event.reason for event in self.all_events(kind, name)]

    async def phase(self, kind: str, name: str, *phases: str, within_s: float = DEADLINE_S) -> Resource:
        def reached() -> bool:
            row = self.get(kind, name)
            return row.phase in phases and row.observed == row.generation

        try:
            await eventually(reached, f"{kind} {name} in {phases}", within_s)
        except AssertionError as error:
            row = self.get(kind, name)
            raise AssertionError(f"{error}; it is {row.phase}: {row.message}") from None
        return self.get(kind, name)

    async def gone(self, kind: str, name: str) -> None:
        await eventually(lambda: resources.find(self.db.read, kind, name) is None, f"{kind} {name} gone")

    async def containers(self, kind: str, name: str) -> list[Container]:
        return await self.engine.list(kind=kind, name=name)


@asynccontextmanager
async def services(**changes: str) -> AsyncIterator[Services]:
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    home.chmod(0o711)  # HAProxy gives up root and must reach its files
    found = Services(home, **changes)
    try:
        await found.start()
        yield found
    finally:
        await found.clean()
        shutil.rmtree(home, ignore_errors=True)
