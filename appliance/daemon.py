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
import socket
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from appliance import home
from appliance.api.app import behind_token, build_app
from appliance.api.auth import own_token
from appliance.api.parts import Parts
from appliance.api.push import push_app
from appliance.backup.backups import Backups
from appliance.backup.work import Work
from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.datasets.uploads import Uploads
from appliance.deployments import volumes
from appliance.deployments.content import Content
from appliance.deployments.controller import DeploymentController
from appliance.deployments.gathering import Gathering
from appliance.deployments.load import this_machine
from appliance.deployments.scaler import Scaler
from appliance.engine.callers import Callers
from appliance.engine.devices import Devices
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.interrupted import boot_time
from appliance.errors import ApplianceError
from appliance.gpu.watch import GpuWatch
from appliance.history.measuring import SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.house import House
from appliance.leaseholders import tell_leaseholders
from appliance.notebooks.notebooks import Notebooks
from appliance.reconcile import Reconciler
from appliance.router import account
from appliance.router.router import Router
from appliance.sampling.sampler import Sampler
from appliance.scheduler.reaching import Reaching
from appliance.scheduler.scheduler import Scheduler
from appliance.settings import Settings
from appliance.spec.machine_tables import read_machines
from appliance.state.db import Database
from appliance.storage.open import open_store
from appliance.storage.room import Room
from appliance.storage.scratch import Scratch
from appliance.storage.zfs.store import ZfsStore
from appliance.telemetry.telemetry import Telemetry
from appliance.triggers.triggers import Triggers
from appliance.vault.registries import Registries
from appliance.vault.secrets import Secrets
from appliance.watch import Watcher
from appliance.workflows.controller import RunController
from appliance.workflows.kept import worth

log = logging.getLogger("appliance")

LEASE_FORGET_S = 120.0
"""Who has GPUs, no container, and asks for nothing for so long has them no more; at least four resyncs."""
PING_S = 30.0
MOST_MESSAGE = 4 << 20
"""Bytes of a message of a websocket; a command with its arguments has at most 1 MiB."""
WORDS_S = 2.0
"""For the last words to the client of a websocket, when the daemon stops."""


class _Server(uvicorn.Server):
    """Leaves the signals to the daemon, which must end streams before it ends the server."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Websocket(WebSocketsSansIOProtocol):
    """A client that does not read keeps nobody from stopping; a refusal is an answer as good as any."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else the log calls it an error

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(WORDS_S, self.transport.abort)


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
            home.check_whole(self.settings)
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


def _servers(parts: Parts) -> list[tuple[_Server, socket.socket]]:
    app = build_app(parts)
    trusted = home.listen(parts.settings.socket, 0o660)
    home.share_with_docker_group(parts.settings.socket)
    front = home.listen(parts.settings.front_socket, 0o666)
    push = home.listen(parts.settings.push_socket, 0o600)
    account.give(parts.settings.push_socket)
    pushed = push_app(Callers(parts.engine), parts.telemetry, parts.clock)
    doors = ((app, trusted), (behind_token(app, parts.token, own_token(parts.db)), front), (pushed, push))
    return [(_Server(server_config(door)), listener) for door, listener in doors]


def server_config(door: Any) -> uvicorn.Config:
    """Pings keep a silent terminal's connection open. None is missed: a client may pause for as long as it likes."""
    return uvicorn.Config(
        door,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws=_Websocket,
        ws_max_size=MOST_MESSAGE,
        ws_ping_interval=PING_S,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
    )


def _booted() -> float:
    """When the machine began to run; 0 where the kernel does not say."""
    try:
        return boot_time(Path("/proc/stat").read_text())
    except OSError:
        return 0.0


def leave_out(copy: Database, names: Collection[str]) -> set[str]:
    """Volumes that no backup takes along: they can be made, or fetched, again."""
    return worth.leave_out(copy, names) | volumes.can_be_fetched(names)


async def _first_look(room: Room) -> None:
    """Before anything can begin."""
    try:
        await room.look()
    except ApplianceError as error:
        log.warning("how full the disk is stays unknown for now: %s", error)


async def _build(settings: Settings, clock: Callable[[], float]) -> House:
    """Every part, none of them started but the stores."""
    machines = read_machines(settings.machines, str(settings.config_file), default=settings.machine)
    instance = home.instance_id(settings)
    db = Database(settings.state_file)
    secrets = Secrets(db, settings.home / "secret.key", clock)
    store = await asyncio.to_thread(open_store, settings)
    low = settings.low_space_mb << 20
    room = Room(store, settings.home, low=low, reserve=settings.reserve_mb << 20)
    await _first_look(room)
    engine = Engine(instance=instance, docker_host=settings.docker_host)
    registries = Registries(db, secrets, clock)
    images = Images(engine, base_image=settings.base_image, work_dir=settings.home, logins=registries.login)
    datasets = Datasets(db, store, clock)
    models = Models(db, store, clock)
    uploads = Uploads(db, store, datasets, settings.uploads_dir, clock)
    workspaces = Workspaces(db, store, clock)
    telemetry = Telemetry(
        settings.telemetry_file,
        flush_s=settings.log_flush_s,
        memory_mb=settings.telemetry_memory_mb,
        redact=secrets.values,
        clock=clock,
    )
    router = Router(
        settings.router_dir,
        haproxy=settings.haproxy,
        host=settings.host,
        port=settings.port,
        api_socket=settings.front_socket,
        connections=settings.connections,
        push_socket=settings.push_socket,
        push_port=settings.push_port,
    )
    await telemetry.start()
    work = Work(
        db=db,
        store=store,
        workspaces=workspaces,
        datasets=datasets,
        telemetry=telemetry,
        settings=settings,
        instance=instance,
        origin=home.origin(settings),
        leave_out=leave_out,
    )
    backups = Backups(db, work, settings, on_zfs=isinstance(store, ZfsStore), clock=clock)
    await backups.sweep()
    await uploads.sweep(at_start=True)
    await datasets.sweep()
    await workspaces.sweep()
    reconciler = Reconciler((), resync_s=settings.resync_s)
    gpus = GpuWatch(clock=clock)
    gpus.on_inventory.append(telemetry.sampled)
    scheduler = Scheduler(
        db=db,
        containers=engine.list,
        watch=gpus,
        machines=machines,
        machine=settings.machine,
        forget_s=max(LEASE_FORGET_S, 4 * settings.resync_s),
        clock=clock,
    )
    notebooks = Notebooks(
        db=db,
        engine=engine,
        images=images,
        workspaces=workspaces,
        datasets=datasets,
        models=models,
        store=store,
        telemetry=telemetry,
        router=router,
        vault=secrets,
        settings=settings,
        instance=instance,
        clock=clock,
        hint=reconciler.hint,
        no_room=room.why,
        no_moments=room.no_moments,
        leases=scheduler,
        never=scheduler.never,
        waited_for=scheduler.waited_for,
        booted=_booted(),
    )
    scaler = Scaler(
        db=db,
        engine=engine,
        router=router,
        telemetry=telemetry,
        settings=settings,
        host=this_machine(),
        machines=machines,
        clock=clock,
        hint=reconciler.hint,
    )
    router.on_knock = scaler.woken
    gathering = Gathering(
        db=db,
        engine=engine,
        images=images,
        store=store,
        datasets=datasets,
        telemetry=telemetry,
        vault=secrets,
        instance=instance,
    )
    content = Content(gathering, clock, partial(reconciler.hint, DeploymentController.kind))
    deployments = DeploymentController(
        db=db,
        engine=engine,
        images=images,
        models=models,
        content=content,
        scaler=scaler,
        telemetry=telemetry,
        router=router,
        vault=secrets,
        settings=settings,
        instance=instance,
        clock=clock,
        hint=reconciler.hint,
        no_room=room.why,
        leases=scheduler,
        booted=_booted(),
    )
    runs = RunController(
        db=db,
        engine=engine,
        images=images,
        store=store,
        scratch=Scratch(store),
        datasets=datasets,
        models=models,
        telemetry=telemetry,
        vault=secrets,
        settings=settings,
        instance=instance,
        clock=clock,
        hint=reconciler.hint,
        no_room=room.why,
        leases=scheduler,
        booted=_booted(),
    )
    tell_leaseholders(scheduler, notebooks, deployments, runs, engine, reconciler.hint, grace_s=settings.stop_grace_s)
    triggers = Triggers(db=db, vault=secrets, instance=instance, home=settings.home, clock=clock, hint=reconciler.hint)
    for controller in (notebooks.controller, notebooks.executing, deployments, runs, *triggers.wakers()):
        reconciler.add(controller)
    parts = Parts(
        settings=settings,
        instance=instance,
        token=home.api_token(settings),
        db=db,
        engine=engine,
        datasets=datasets,
        models=models,
        uploads=uploads,
        workspaces=workspaces,
        telemetry=telemetry,
        secrets=secrets,
        registries=registries,
        space=SpaceReports(db, store, room, low=low, clock=clock),
        backups=backups,
        notebooks=notebooks,
        rooms=runs.rooms,
        hint=reconciler.hint,
        clock=clock,
        started=clock(),
        meters=router.meters,
        machines=machines,
        gpus=scheduler,
    )
    watcher = Watcher(db, settings.specs_dir, debounce_s=settings.watch_debounce_s, clock=clock, hint=reconciler.hint)
    reaching = Reaching(
        snapshot=scheduler.snapshot,
        inspect=engine.inspect,
        devices=Devices(),
        on_lost=lambda who, words: scheduler.on_lost(who, words),
        clock=clock,
    )
    sampler = Sampler(
        listing=engine.list,
        inspect=engine.inspect,
        inventory=lambda: gpus.latest,
        store=telemetry.measured,
        asked=lambda: telemetry.metrics_asked,
        clock=clock,
    )
    return House(
        *(parts, store, router, runs, deployments, reconciler, watcher, room, triggers, scaler, gpus, scheduler),
        reaching=reaching,
        sampler=sampler,
    )
