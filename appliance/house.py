"""What runs beside the servers: following the engine, keeping the front door, looking after the rest.

Each loop goes on for ever: what fails is told in the status and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from appliance import wire
from appliance.api.parts import Parts
from appliance.deployments.controller import DeploymentController
from appliance.deployments.scaler import Scaler
from appliance.engine.labels import EXECUTION, Owner, owner_of
from appliance.engine.types import EngineEvent
from appliance.errors import ApplianceError, RouterError
from appliance.gpu.types import Inventory
from appliance.gpu.watch import GpuWatch
from appliance.reconcile import Reconciler
from appliance.router.router import Router
from appliance.sampling.sampler import Sampler
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.reaching import Reaching
from appliance.scheduler.scheduler import Scheduler
from appliance.state import events, runs
from appliance.storage.base import Store
from appliance.storage.room import Room
from appliance.telemetry.retention.policy import Known, Limits
from appliance.telemetry.types import LogSource
from appliance.triggers.triggers import Triggers
from appliance.watch import Watcher
from appliance.workflows.controller import RunController
from appliance.workflows.kept.steady import Steady

log = logging.getLogger(__name__)

CHECK_S = 10.0
"""Between two looks at the disk, the front door and the rest."""
SCALE_S = 1.0
"""Between two looks at deployments that scale or sleep by themselves."""
RETRY_S = 2.0
TEND_S = 60.0
"""Between two looks at the notebooks' histories, and at what old runs have left."""
TEND_LOGS_S = 600.0
"""Between two looks for log lines that are too old or too many: each reads a column of all of them."""
WATCH_S = 1.0
"""Between two looks at the sessions of notebooks, for saves and for whether anybody uses them."""
LOW_CHECK_S = 1.0
"""The same, where the disk may be full soon."""
FORECAST_S = 60.0
FORECAST_DAYS = 7.0
"""A disk that will be full sooner than that is told in the status."""
_SHORT_ID = 12
"""Of a container's id, which names it at the front door."""


@dataclass
class House:
    """The parts and what runs in the background between them."""

    parts: Parts
    store: Store
    router: Router
    runs: RunController
    deployments: DeploymentController
    reconciler: Reconciler
    watcher: Watcher
    room: Room
    triggers: Triggers
    scaler: Scaler
    gpus: GpuWatch
    scheduler: Scheduler
    reaching: Reaching
    sampler: Sampler
    steady: Steady = field(default_factory=Steady)
    """Whether the clock is to be believed by what lets go of old things."""
    answered: bool = False
    """Whether the engine has answered since the start."""

    def background(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        works = {
            "reconcile": self.reconciler.run,
            "watched folder": self.watcher.run,
            "engine": self._follow_engine,
            "front door": self._keep_router,
            "gpu watch": self._watch_gpus,
            "leases": self.scheduler.run,
            "reach of GPUs": self.reaching.run,
            "checks": self._check,
            "disk space": self._watch_space,
            "history": self._tend,
            "sessions": self._watch_sessions,
            "kept runs": self._tend_runs,
            "metrics": self.sampler.run,
            "kept metrics": self._tend_metrics,
            "kept logs": self._tend_logs,
            "triggers": self.triggers.run,
            "scaling": self._scale,
            "requests": self.scaler.listen,
        }
        return [(name, _keep(name, work)) for name, work in works.items()]

    async def close(self) -> None:
        parts = self.parts
        for close in (
            parts.backups.close,
            parts.space.close,
            parts.notebooks.close,
            self.deployments.close,
            self.gpus.close,
            self.scheduler.close,
            parts.telemetry.stop,
            parts.engine.close,
        ):
            try:
                await close()
            except Exception:
                log.exception("%s did not end well", close)
        self.parts.db.close()

    # -- engine

    async def _follow_engine(self) -> None:
        """Connect, catch up with what happened meanwhile, then turn events into hints; for ever."""
        while True:
            try:
                await self._greet_engine()
                async for event in self.parts.engine.events():
                    await self._on_event(event)
            except ApplianceError as error:
                self._tell("engine", False, str(error))
            except Exception as error:
                log.exception("the engine's events ended")
                self._tell("engine", False, f"events ended: {error}")
            await asyncio.sleep(RETRY_S)

    async def _greet_engine(self) -> None:
        """At its first answer, and at each one after it was away."""
        info = await self.parts.engine.connect()
        self.answered = True  # whoever comes second of this and the front door, finds the routes and the engine
        await self._leave_ended()
        gateway = await self.parts.engine.ensure_network()
        ports = (self.parts.settings.port, self.parts.settings.push_port)
        await self.router.set_binds([f"{gateway}:{port}" for port in ports if port])
        self._tell("engine", True, f"Docker {info.version}, {info.storage_driver}, cgroup v{info.cgroup_version}")
        self.sampler.look_anew()
        await self._catch_up()
        for sweep in (self.runs.sweep, self.deployments.sweep):
            try:
                await sweep()
            except ApplianceError as error:
                log.warning("what old runs and deployments have left stays for now: %s", error)

    async def _leave_ended(self) -> None:
        """What ended while nobody looked takes no more requests: an engine that was away may give its port away."""
        found = {one.id[:_SHORT_ID]: one for one in await self.parts.engine.list()}
        for short_id, one in found.items():
            if one.state == "running":
                self._back(short_id, owner_of(one.labels))
        for route in (await self.router.status()).routes:
            for target in route.targets:
                container = found.get(target.id)
                if container is None or container.state in ("created", "exited", "dead"):
                    await self._lost(target.id, owner_of(container.labels) if container else None)

    async def _lost(self, target: str, owner: Owner | None) -> None:
        try:
            await self.router.lost(target)
        except RouterError as error:
            log.warning("%s has ended and the front door may still lead there: %s", target, error)
        self._retell(owner)

    def _back(self, target: str, owner: Owner | None) -> None:
        """One that ended runs anew: the front door may lead there again, where it is told to."""
        if self.router.back(target):
            self._retell(owner)

    def _retell(self, owner: Owner | None) -> None:
        for served in (self.deployments, self.parts.notebooks):
            if owner and owner.kind == served.kind:
                served.retell(owner.uid)

    async def _catch_up(self) -> None:
        for container in await self.parts.engine.list():
            if container.state == "running":
                await self._follow_logs(container.id)
        self.reconciler.hint_all()

    async def _on_event(self, event: EngineEvent) -> None:
        if event.action == "lost":
            self.runs.engine_lost(event.at)
            self.deployments.engine_lost(event.at)
            self.parts.notebooks.engine_lost(event.at)
            self._tell("engine", False, "the Docker engine went away; it is asked again: start it if it stays away")
            return
        if event.action == "resync":
            self.runs.engine_back(event.at)
            self.deployments.engine_back(event.at)
            self.parts.notebooks.engine_back(event.at)
            await self._greet_engine()
            return
        owner = owner_of(event.labels)
        if owner is None or owner.instance != self.parts.instance:
            return
        self.sampler.noticed(event.container_id, event.action)
        if LEASE in event.labels and event.action in ("start", "die", "destroy"):
            self.scheduler.noticed(event.container_id, event.action)
        if owner.kind == self.runs.kind:
            self.runs.noticed(owner, event.action)
            return
        if event.action == "die":  # at once, whatever the next pass meets
            await self._lost(event.container_id[:_SHORT_ID], owner)
        if event.action == "start":
            self._back(event.container_id[:_SHORT_ID], owner)
            await self._follow_logs(event.container_id)
        if event.action in ("start", "die", "destroy", "oom"):
            self.parts.hint(EXECUTION if owner.kind == EXECUTION else owner.shown_kind, owner.uid)

    async def _follow_logs(self, container_id: str) -> None:
        """A listing does not tell where a container's log is, so it is looked at by itself."""
        container = await self.parts.engine.inspect(container_id)
        owner = owner_of(container.labels) if container else None
        if container and owner and container.log_path and container.state == "running":
            source = LogSource(kind=owner.shown_kind, name=owner.name, part=owner.part, container=container.id)
            self.parts.telemetry.attach(source, container.log_path)

    # -- front door and the rest

    async def _keep_router(self) -> None:
        while True:
            try:
                self.router.on_problem = self._record_door
                await self.router.start()
                self._tell("front door", True, self.parts.settings.url)
                if self.answered:
                    with suppress(ApplianceError):  # at its next answer, then
                        await self._leave_ended()
                self.reconciler.hint_all()
                await self.router.watch()
            except ApplianceError as error:
                self._tell("front door", False, str(error))
            except Exception as error:
                log.exception("the front door's watch ended")
                self._tell("front door", False, str(error))
            await asyncio.sleep(RETRY_S)

    async def _check(self) -> None:
        while True:
            if "front door" in self.parts.health:  # told for the first time by whoever starts it
                status = await self.router.status()
                self._tell("front door", status.running, status.message or self.parts.settings.url)
            warnings = self.parts.telemetry.warnings
            self._tell("telemetry", not warnings, "; ".join(warnings) or "logs are stored")
            self._tell("triggers", *self.triggers.health())
            if backup := self.parts.backups.health():
                self._tell("backup", *backup)
            await asyncio.sleep(CHECK_S)

    async def _tend(self) -> None:
        while True:
            now = self.parts.clock()
            await self.parts.notebooks.tend(now, by_age=self.steady.look(now, time.monotonic()))
            await asyncio.sleep(TEND_S)

    async def _watch_sessions(self) -> None:
        while True:
            await self.parts.notebooks.watch()
            await asyncio.sleep(WATCH_S)

    async def _tend_runs(self) -> None:
        while True:
            now = self.parts.clock()
            await self.runs.tend(now, by_age=self.steady.look(now, time.monotonic()))
            await asyncio.sleep(TEND_S)

    async def _tend_metrics(self) -> None:
        while True:
            now, settings = self.parts.clock(), self.parts.settings
            if self.steady.look(now, time.monotonic()):
                hours, days = settings.keep_metrics_hours, settings.keep_metrics_days
                await self.parts.telemetry.tend_metrics(now, keep_hours=hours, keep_days=days)
            await asyncio.sleep(TEND_S)

    async def _tend_logs(self) -> None:
        while True:
            now, settings = self.parts.clock(), self.parts.settings
            limits = Limits(settings.keep_logs_days, settings.keep_logs_gb, settings.keep_failed_logs_days)
            by_age = self.steady.look(now, time.monotonic())
            await self.parts.telemetry.tend_logs(now, limits, self._known, by_age=by_age)
            await asyncio.sleep(TEND_LOGS_S)

    async def _known(self) -> Known:
        """Runs and containers there are, for whoever keeps what they have printed."""
        try:
            containers: set[str] | None = {container.id for container in await self.parts.engine.list()}
        except ApplianceError:
            containers = None
        db = self.parts.db.read
        return Known(set(runs.names(db).values()), set(runs.failed_names(db)), containers)

    async def _scale(self) -> None:
        while True:
            await self.scaler.tend()
            await asyncio.sleep(SCALE_S)

    async def _watch_space(self) -> None:
        """What waits for disk space begins as soon as there is some."""
        soon, asked = "", float("-inf")
        while True:
            try:
                before = self.room.why()
                seen = await self.room.look()
                if self.parts.clock() - asked >= FORECAST_S:
                    soon, asked = self.parts.space.warning(FORECAST_DAYS), self.parts.clock()
                self._tell("storage", seen.ok, "; ".join(filter(None, (seen.message, soon))))
                if bool(before) != bool(self.room.why()):
                    self.reconciler.hint_all()
                    self._record_space(self.room.why())
                pause = LOW_CHECK_S if seen.near else CHECK_S
            except ApplianceError as error:
                self._tell("storage", False, str(error))
                pause = CHECK_S
            await asyncio.sleep(pause)

    def _record_space(self, why: str) -> None:
        level: events.Level = "warning" if why else "info"
        reason = "LowSpace" if why else "SpaceBack"
        message = (
            f"new work {why}; no snapshots are taken by themselves meanwhile"
            if why
            else "there is room for new work again"
        )
        with self.parts.db.write() as db:
            events.record(db, "appliance", "storage", reason, message, now=self.parts.clock(), level=level)

    def _record_door(self, problem: str) -> None:
        with self.parts.db.write() as db:
            now = self.parts.clock()
            events.record(db, "appliance", "front door", "Trouble", problem, now=now, level="warning")

    async def _watch_gpus(self) -> None:
        self.gpus.on_inventory.append(self._tell_gpus)
        try:
            await self.gpus.run()
        finally:
            self.gpus.on_inventory.remove(self._tell_gpus)

    def _tell_gpus(self, _: Inventory) -> None:
        self._tell("gpu", *self.scheduler.health())

    def _tell(self, name: str, ok: bool, message: str) -> None:
        before = self.parts.health.get(name)
        self.parts.health[name] = wire.Part(name=name, ok=ok, message=message)
        if before is None or before["ok"] != ok:
            log.log(logging.INFO if ok else logging.WARNING, "%s: %s", name, message)


async def _keep(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begin again after whatever was not foreseen, a full disk for one: no part ends the daemon."""
    while True:
        try:
            await work()
        except ApplianceError as error:
            log.warning("%s: %s", name, error)
        except Exception:
            log.exception("%s ended and begins again", name)
        await asyncio.sleep(RETRY_S)
