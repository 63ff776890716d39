"""The composition root: builds every part, wires them, and owns start, stop and signals.

Starting order: lock, state, what needs no engine, the doors, then the engine as soon as it answers. A part that is
missing is told in the status and tried again; only a second daemon or an unusable home ends the start.
Containers and the front door outlive the daemon: stopping it stops nothing that it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import uvicorn

from appliance import home, wire
from appliance.api.app import behind_token, build_app
from appliance.api.parts import Parts
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.deployments.controller import DeploymentController
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import owner_of
from appliance.engine.types import Container, EngineEvent
from appliance.errors import ApplianceError
from appliance.gpu import inventory
from appliance.history.workspaces import Workspaces
from appliance.notebooks.controller import NotebookController
from appliance.reconcile import Reconciler
from appliance.router.router import Router
from appliance.settings import Settings
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.open import open_store
from appliance.storage.scratch import Scratch
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource
from appliance.vault.secrets import Secrets
from appliance.watch import Watcher
from appliance.workflows.controller import RunController

log = logging.getLogger("appliance")

CHECK_S = 10.0
"""Between two looks at the disk, the front door and the rest."""
ENGINE_RETRY_S = 2.0
GPU_DEADLINE_S = 5.0


class _Server(uvicorn.Server):
    """Leaves the signals to the daemon, which must end streams before it ends the server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Daemon:
    """One daemon on one home. `run()` returns after an orderly stop."""

    settings: Settings
    clock: Callable[[], float] = time.time

    async def run(self) -> None:
        """Raises Conflict for a second daemon, ApplianceError for a home that cannot be used."""
        home.prepare(self.settings)
        lock = home.Lock(self.settings)
        try:
            await self._run()
        finally:
            lock.release()

    async def _run(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        house = await _build(self.settings, self.clock)
        servers = _servers(house.parts)
        tasks = [asyncio.create_task(server.serve(sockets=[listener])) for server, listener in servers]
        background = [asyncio.create_task(work, name=name) for name, work in house.background()]
        log.info("appliance %s is up: %s", house.parts.instance, self.settings.url)
        try:
            waiting = asyncio.create_task(stop.wait())
            done, _ = await asyncio.wait({waiting, *tasks, *background}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {waiting}:
                log.error("%s ended by itself", task.get_name(), exc_info=task.exception())
        finally:
            house.parts.stopping.set()
            for server, _ in servers:
                server.should_exit = True
            for task in background:
                task.cancel()
            await asyncio.gather(*tasks, *background, return_exceptions=True)
            await house.close()
            log.info("stopped; containers and the front door go on")


def _servers(parts: Parts) -> list[tuple[_Server, home.socket.socket]]:
    app = build_app(parts)
    trusted = home.listen(parts.settings.socket, 0o660)
    home.share_with_docker_group(parts.settings.socket)
    front = home.listen(parts.settings.front_socket, 0o666)
    doors = ((app, trusted), (behind_token(app, parts.token), front))
    return [
        (_Server(uvicorn.Config(door, log_config=None, access_log=False, lifespan="off", ws="none")), listener)
        for door, listener in doors
    ]


@dataclass
class House:
    """The parts and what runs in the background between them."""

    parts: Parts
    store: Store
    images: Images
    router: Router
    scratch: Scratch
    reconciler: Reconciler
    watcher: Watcher

    def background(self) -> list[tuple[str, Awaitable[None]]]:  # type: ignore[type-arg]
        return [
            ("reconcile", self.reconciler.run()),
            ("watched folder", self.watcher.run()),
            ("engine", self._follow_engine()),
            ("front door", self._keep_router()),
            ("checks", self._check()),
        ]

    async def close(self) -> None:
        for name, closing in (("telemetry", self.parts.telemetry.stop()), ("engine", self.parts.engine.close())):
            try:
                await closing
            except Exception:
                log.exception("%s did not close", name)
        self.parts.db.close()

    # -- engine

    async def _follow_engine(self) -> None:
        """Connect, catch up with what happened meanwhile, then turn events into hints; for ever."""
        while True:
            try:
                info = await self.parts.engine.connect()
                gateway = await self.parts.engine.ensure_network()
                await self.router.set_binds([f"{gateway}:{self.parts.settings.port}"])
                self._tell(
                    "engine", True, f"Docker {info.version}, {info.storage_driver}, cgroup v{info.cgroup_version}"
                )
                await self._catch_up()
                async for event in self.parts.engine.events():
                    await self._on_event(event)
            except ApplianceError as error:
                self._tell("engine", False, str(error))
            except Exception as error:
                log.exception("the engine's events ended")
                self._tell("engine", False, f"events ended: {error}")
            await asyncio.sleep(ENGINE_RETRY_S)

    async def _catch_up(self) -> None:
        for container in await self.parts.engine.list():
            self._follow_logs(container)
        self.reconciler.hint_all()

    async def _on_event(self, event: EngineEvent) -> None:
        if event.action == "resync":
            await self._catch_up()
            return
        owner = owner_of(event.labels)
        if owner is None or owner.instance != self.parts.instance:
            return
        if event.action == "start" and (container := await self.parts.engine.inspect(event.container_id)):
            self._follow_logs(container)
        if event.action in ("start", "die", "destroy", "oom"):
            self.parts.hint(owner.kind, owner.uid)

    def _follow_logs(self, container: Container) -> None:
        owner = owner_of(container.labels)
        if owner and container.log_path and container.state == "running":
            source = LogSource(kind=owner.kind, name=owner.name, part=owner.part, container=container.id)
            self.parts.telemetry.attach(source, container.log_path)

    # -- front door and the rest

    async def _keep_router(self) -> None:
        while True:
            try:
                await self.router.start()
                self.reconciler.hint_all()
                await self.router.watch()
            except ApplianceError as error:
                self._tell("front door", False, str(error))
            except Exception as error:
                log.exception("the front door's watch ended")
                self._tell("front door", False, str(error))
            await asyncio.sleep(ENGINE_RETRY_S)

    async def _check(self) -> None:
        await self._check_gpus()
        while True:
            await self._check_store()
            status = await self.router.status()
            self._tell("front door", status.running, status.message or f"{self.parts.settings.url}")
            warnings = self.parts.telemetry.warnings
            self._tell("telemetry", not warnings, "; ".join(warnings) or "logs are stored")
            await asyncio.sleep(CHECK_S)

    async def _check_store(self) -> None:
        try:
            info = await asyncio.to_thread(self.store.info)
        except ApplianceError as error:
            self._tell("storage", False, str(error))
            return
        free = f"{info.free_bytes / 1e9:.0f} of {info.total_bytes / 1e9:.0f} GB free"
        low = info.free_bytes < 0.03 * info.total_bytes
        text = f"{info.kind}: {info.detail}, {free}"
        self._tell("storage", not low, f"{text}: nearly full, free some space" if low else text)

    async def _check_gpus(self) -> None:
        try:
            found = await asyncio.wait_for(asyncio.to_thread(inventory.look), GPU_DEADLINE_S)
            self._tell("gpu", found.ok, found.message)
        except TimeoutError:
            self._tell("gpu", False, f"NVML did not answer within {GPU_DEADLINE_S:.0f} s; see `nvidia-smi`")

    def _tell(self, name: str, ok: bool, message: str) -> None:
        before = self.parts.health.get(name)
        self.parts.health[name] = wire.Part(name=name, ok=ok, message=message)
        if before is None or before["ok"] != ok:
            log.log(logging.INFO if ok else logging.WARNING, "%s: %s", name, message)


async def _build(settings: Settings, clock: Callable[[], float]) -> House:
    """Every part, none of them started but the stores."""
    instance = home.instance_id(settings)
    db = Database(settings.state_file)
    secrets = Secrets(db, settings.home / "secret.key", clock)
    store = await asyncio.to_thread(open_store, settings)
    engine = Engine(instance=instance, docker_host=settings.docker_host)
    images = Images(engine, base_image=settings.base_image, work_dir=settings.home)
    datasets = Datasets(db, store, clock)
    models = Models(db, datasets, clock)
    workspaces = Workspaces(db, store, clock)
    scratch = Scratch(store)
    telemetry = Telemetry(
        settings.telemetry_file,
        flush_s=settings.log_flush_s,
        memory_mb=settings.telemetry_memory_mb,
        redact=secrets.values,
    )
    router = Router(
        settings.router_dir,
        haproxy=settings.haproxy,
        host=settings.host,
        port=settings.port,
        api_socket=settings.front_socket,
    )
    await telemetry.start()
    await datasets.sweep()
    await workspaces.sweep()
    reconciler = Reconciler((), resync_s=settings.resync_s)
    common = {
        "db": db, "engine": engine, "images": images, "store": store, "telemetry": telemetry, "vault": secrets,
        "settings": settings, "instance": instance, "clock": clock, "hint": reconciler.hint,
    }  # fmt: skip
    notebooks = NotebookController(**common, workspaces=workspaces, datasets=datasets, router=router)
    deployments = DeploymentController(**common, datasets=datasets, models=models, router=router)
    runs = RunController(**common, scratch=scratch, datasets=datasets, models=models)
    for controller in (notebooks, deployments, runs):
        reconciler.add(controller)
    parts = Parts(
        settings=settings,
        instance=instance,
        token=home.api_token(settings),
        db=db,
        engine=engine,
        datasets=datasets,
        models=models,
        workspaces=workspaces,
        telemetry=telemetry,
        secrets=secrets,
        notebooks=notebooks,
        hint=reconciler.hint,
        clock=clock,
        started=clock(),
    )
    watcher = Watcher(db, settings.specs_dir, debounce_s=settings.watch_debounce_s, clock=clock, hint=reconciler.hint)
    return House(parts, store, images, router, scratch, reconciler, watcher)
