"""One deployment controller over an engine in memory, with everything around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.deployments.content import Prepared
from appliance.deployments.controller import DeploymentController
from appliance.deployments.scaler import Scaled
from appliance.engine.types import Container, Mount
from appliance.errors import NotFound
from appliance.scheduler.leasing import Leases, NoGpus
from appliance.settings import Settings
from appliance.spec.models import Deployment
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.events import Event
from appliance.state.resources import Resource
from appliance.storage.directory.store import DirectoryStore
from appliance.vault.secrets import Secrets
from tests.conftest import Clock
from tests.unit.notebooks.rooms import FakeEngine, FakeImages, FakeRouter, FakeTelemetry

READY = {"readiness": {"exec": {"command": ["true"]}, "periodSeconds": 1}}


def spec(image: str = "one", replicas: int = 2, **more: object) -> dict[str, Any]:
    return {
        "image": image,
        "resources": {"instanceType": "C4", "replicas": replicas},
        "healthChecks": READY,
        **more,
    }


class Fetching:
    """Content that is there, but for what a test says of it."""

    def __init__(self) -> None:
        self.prepared = Prepared("ready")
        self.gone = False
        self.ensured: list[str] = []
        self.kept: list[set[str]] = []
        self.looked_up_anew = 0

    def peek(self, deployment: Resource, spec: Deployment) -> Prepared:
        return self.prepared

    async def ensure(self, deployment: Resource, spec: Deployment) -> None:
        self.ensured.append(deployment.name)

    def anew(self, uid: str) -> None:
        self.looked_up_anew += 1

    async def mounts(self, deployment: Resource, content: Mapping[str, Any]) -> list[Mount]:
        if self.gone and content:
            raise NotFound("its content is gone")
        return [Mount(Path("/volumes") / entry["volume"], path, read_only=True) for path, entry in content.items()]

    async def forget(self, uid: str, keep: Collection[str]) -> None:
        self.kept.append(set(keep))

    async def close(self) -> None:
        return None


class Load:
    """As many replicas as the spec says, but for what a test says."""

    def __init__(self) -> None:
        self.replicas_now: int | None = None
        self.asleep = False
        self.said: dict[str, str] = {}

    def silent(self, deployment: Resource) -> Mapping[str, str]:
        return self.said

    def replicas(self, deployment: Resource, spec: Deployment) -> Scaled:
        if self.asleep:
            return Scaled(0, True, "no request for 900 s")
        return Scaled(self.replicas_now or spec.replicas, False, "")


class House:
    """One deployment controller with everything around it."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.db = Database(settings.state_file)
        self.store = DirectoryStore(settings.volumes_dir, "a test")
        self.engine = FakeEngine(clock)
        self.images = FakeImages()
        self.router = FakeRouter()
        self.telemetry = FakeTelemetry()
        self.vault = Secrets(self.db, settings.home / "key", clock)
        self.datasets = Datasets(self.db, self.store, clock)
        self.models = Models(self.db, self.store, clock)
        self.content = Fetching()
        self.load = Load()
        self.memory: int | None = None
        """Bytes that can be had."""
        self.no_room = ""
        self.booted = 0.0
        self.leases: Leases = NoGpus()
        self.counter: Callable[[], float] = clock
        self.controller = self.another()

    def another(self) -> DeploymentController:
        """A controller that knows only what is stored, as after a restart of the daemon."""
        parts: dict[str, Any] = {
            "engine": self.engine,
            "images": self.images,
            "router": self.router,
            "telemetry": self.telemetry,
            "content": self.content,
            "scaler": self.load,
        }

        return DeploymentController(
            db=self.db,
            models=self.models,
            vault=self.vault,
            settings=self.settings,
            instance="cafe0001",
            clock=self.clock,
            hint=lambda kind, key: None,
            no_room=lambda: self.no_room,
            machine=lambda: self.memory,
            leases=self.leases,
            counter=self.counter,
            booted=self.booted,
            **parts,
        )

    def declare(self, document: Mapping[str, Any]) -> Resource:
        self.clock.now += 0.5
        with self.db.write() as db:
            return resources.put(db, "deployment", "web", document, source="cli", now=self.clock())[0]

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "deployment", "web")

    async def until(self, condition: Callable[[], object]) -> Resource:
        """Reconcile until this holds. The clock moves with each pass, so probes and pauses come due."""
        uid = self.row.uid
        async with asyncio.timeout(20):
            while True:
                await self.controller.reconcile(uid)
                if condition():
                    return self.row
                await asyncio.sleep(0.005)
                self.clock.now += 0.05

    async def run(self, *phases: str) -> Resource:
        row = self.row
        return await self.until(lambda: self.row.phase in phases and self.row.observed == row.generation)

    async def settle(self) -> Resource:
        """Ready, and nothing left of what was before."""
        return await self.until(
            lambda: self.row.phase == "Ready" and len(self.engine.containers) == len(self.running()) == len(self.served)
        )

    def running(self, image: str = "") -> list[Container]:
        found = [one for one in self.engine.containers.values() if one.state == "running"]
        return [one for one in found if not image or one.image == image]

    @property
    def served(self) -> set[str]:
        """Short ids of the containers that take traffic."""
        route = self.router.routes.get("/deployments/web")
        return {target.id for target in route.targets} if route else set()

    @property
    def events(self) -> list[Event]:
        return events.newest(self.db.read, kind="deployment", name="web")

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]


def short(containers: list[Container]) -> set[str]:
    return {container.id[:12] for container in containers}
