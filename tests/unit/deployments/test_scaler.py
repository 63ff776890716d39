"""The scaler over a front door and a kernel that say what a test tells them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest

from appliance import revisions
from appliance.deployments.scaler import Scaled, Scaler
from appliance.engine import cgroups
from appliance.engine.cgroups import Usage
from appliance.engine.types import Container
from appliance.errors import EngineDown, RouterError
from appliance.router.meters import Meter, ServerMeter
from appliance.router.requests import Request
from appliance.settings import Settings
from appliance.spec.catalogue import Machine
from appliance.spec.models import Deployment
from appliance.state import events, resources, rollouts, scales
from appliance.state.db import Database
from appliance.state.resources import Resource
from tests.conftest import Clock

pytestmark = pytest.mark.anyio

WEB = "/deployments/web"
DAY_S = 86_400.0
SLEEPY: dict[str, Any] = {"scaleToZero": {"after": 60}}


def scaling(metric: str = "cpu", value: float = 50, most: int = 10) -> dict[str, Any]:
    return {"autoscaling": {"maxReplicas": most, "metrics": [{"metric": metric, "summary": "average", "value": value}]}}


def document(replicas: int = 1, image: str = "one", **more: Any) -> dict[str, Any]:
    return {"image": image, "port": 80, "resources": {"instanceType": "C4", "replicas": replicas, **more}}


class FakeRouter:
    def __init__(self) -> None:
        self.found: dict[str, Meter] = {}
        self.batches: list[list[Request]] = []
        self.down = False
        self.can_hold = True

    async def meters(self) -> dict[str, Meter]:
        if self.down:
            raise RouterError("HAProxy does not answer")
        return self.found

    async def records(self) -> AsyncGenerator[list[Request], None]:
        for batch in self.batches:
            yield batch


class FakeEngine:
    down = False

    async def inspect(self, container: str) -> Container | None:
        if self.down:
            raise EngineDown("gone")
        return Container(container, "", "", "", {}, "running", pid=int(container[:12]))


class FakeTelemetry:
    def __init__(self) -> None:
        self.counted: list[Request] = []

    def count(self, requests: Sequence[Request]) -> None:
        self.counted += requests


class World:
    """One deployment, whose replicas the test declares ready."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.db = Database(settings.state_file)
        self.router, self.engine, self.telemetry = FakeRouter(), FakeEngine(), FakeTelemetry()
        self.passed = 1000.0
        self.cores = 0.0
        """That each replica uses from now on."""
        self.used: dict[int, float] = {}
        self.served: dict[str, int] = {}
        self.held = self.in_flight = 0
        self.hints: list[tuple[str, str]] = []
        self.scaler = self.another()

    def another(self) -> Scaler:
        """As after a restart of the daemon."""
        parts: dict[str, Any] = {"router": self.router, "engine": self.engine, "telemetry": self.telemetry}
        return Scaler(
            db=self.db,
            settings=self.settings,
            host=Machine(8, 16 * 10**9),
            clock=self.clock,
            hint=lambda kind, uid: self.hints.append((kind, uid)),
            counter=lambda: self.passed,
            **parts,
        )

    def read(self, pid: int, container: str) -> Usage:
        return Usage(self.used.get(pid, 0.0), 10**9)

    def apply(self, spec: dict[str, Any]) -> None:
        with self.db.write() as db:
            resources.put(db, "deployment", "web", spec, source="cli", now=self.clock())
            revisions.declare(db, self.row, now=self.clock())

    def run(self, replicas: int | None = None) -> None:
        """The controller has brought about what is wanted, or so many replicas of it."""
        wanted = self.wanted.replicas if replicas is None else replicas
        whole = wanted == self.wanted.replicas
        ids = [f"{number + 1:012d}{0:052d}" for number in range(wanted)]
        rows = [{"container": container, "ready": True} for container in ids]
        row = self.row
        phase = "Asleep" if self.wanted.asleep else "Ready" if whole else "Updating"
        status = {"replicas": rows, "generation_ready": row.generation if whole else 0}
        self.served = {container[:12]: self.served.get(container[:12], 0) for container in ids}
        if (row.phase, row.observed, row.status) == (phase, row.generation, status):
            return
        with self.db.write() as db:
            resources.set_status(db, row.uid, generation=row.generation, phase=phase, status=status)
            for one in list(rollouts.every(db, row.uid)):
                serving = one.generation == row.generation
                if whole:
                    rollouts.set_phase(
                        db, row.uid, one.generation, "Serving" if serving else "Superseded", now=self.clock()
                    )

    async def look(self, seconds: float = 1, *, step_s: float = 1, run: bool = True) -> None:
        """So much time, a look at a time."""
        left = seconds
        while left > 0:
            self.tick(step_s)
            left -= step_s
            servers = {key: ServerMeter(self.in_flight, count, 0) for key, count in self.served.items()}
            self.router.found = {WEB: Meter(self.held, servers)}
            await self.scaler.tend()
            if run:
                self.run()

    def tick(self, seconds: float) -> None:
        self.passed += seconds
        self.clock.now += seconds
        for key in self.served:
            self.used[int(key)] = self.used.get(int(key), 0.0) + self.cores * seconds

    def request(self, count: int = 1) -> None:
        for key in self.served:
            self.served[key] += count

    def answer(self, total_ms: int, **more: Any) -> Request:
        fields: dict[str, Any] = {
            "at": self.clock() - total_ms / 1000,
            "prefix": WEB,
            "target": "one",
            "status": 200,
            "held_ms": 0,
            "wait_ms": 1,
            "total_ms": total_ms,
            "cut": False,
            "received": 1,
            "sent": 1,
            **more,
        }
        return Request(**fields)

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "deployment", "web")

    @property
    def spec(self) -> Deployment:
        return revisions.parse_spec("web", self.row.spec)

    @property
    def wanted(self) -> Scaled:
        return self.scaler.replicas(self.row, self.spec)

    @property
    def asleep(self) -> bool:
        return self.wanted.asleep

    def told(self, reason: str) -> list[str]:
        found = events.newest(self.db.read, kind="deployment", name="web")
        return [event.message for event in found if event.reason == reason]


@pytest.fixture
def world(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    settings.home.mkdir(parents=True)
    world = World(settings, clock)
    monkeypatch.setattr(cgroups, "read", world.read)
    yield world
    world.db.close()


async def test_without_either_the_spec_alone_says_it(world: World) -> None:
    world.apply(document(3))
    await world.look(20)
    assert world.wanted == Scaled(3, False, "")
    assert scales.find(world.db.read, world.row.uid) is None


async def test_more_under_load_and_fewer_after_five_minutes(world: World) -> None:
    world.apply(document(1, **scaling("cpu", 50, 4)))
    world.run()
    world.cores = 2.0  # a C4 has two: 100 percent
    await world.look(35)
    assert world.wanted.replicas > 1
    assert world.told("Scaled")[0] == "from 1 to 2 replicas: cpu is 100 % on average, 50 % are aimed at"
    assert ("deployment", world.row.uid) in world.hints
    await world.look(60)
    assert world.wanted.replicas == 4
    world.cores = 0.1
    await world.look(290)
    assert world.wanted.replicas == 4
    await world.look(60)
    assert world.wanted.replicas == 1
    assert "to 1 replicas: cpu is 5 % on average" in world.told("Scaled")[-1]
    assert world.row.generation == 1


async def test_memory_is_followed_too(world: World) -> None:
    world.apply(document(1, **scaling("memory", 10, 4)))  # 1 GB of a C4's 4 GB: 25 percent
    world.run()
    await world.look(35)
    assert world.wanted.replicas == 3


async def test_what_cannot_be_observed_changes_nothing(world: World) -> None:
    world.apply(document(2, **scaling()))
    world.run()
    world.cores = 2.0
    world.engine.down = True
    await world.look(60)
    assert world.wanted.replicas == 2
    world.engine.down = False
    await world.look(60)
    raised = world.wanted.replicas
    assert raised > 2
    world.cores = 0.0
    world.router.down = True
    await world.look(600)
    assert world.wanted.replicas == raised


async def test_the_first_looks_after_a_restart_keep_what_there_is(world: World) -> None:
    world.apply(document(1, **scaling(most=4)))
    world.run()
    world.cores = 2.0
    await world.look(100)
    assert world.wanted.replicas == 4
    world.scaler = world.another()
    world.cores = 0.0
    await world.look(290)
    assert world.wanted.replicas == 4


async def test_a_clock_that_is_set_neither_scales_nor_sends_to_sleep(world: World) -> None:
    world.apply(document(1, **scaling(most=4), scaleToZero={"after": 3600}))
    world.run()
    world.cores = 2.0
    await world.look(100)
    world.cores = 0.0
    for jump in (DAY_S, -3 * DAY_S, DAY_S):
        world.clock.now += jump
        await world.look(40)
        assert world.wanted == Scaled(4, False, world.wanted.why)


async def test_bounds_hold_for_each_revision_by_itself(world: World) -> None:
    world.apply(document(1, **scaling(most=4)))
    world.run()
    world.cores = 2.0
    await world.look(100)
    before = world.spec
    world.apply(document(1, image="two", **scaling(most=3)))
    assert world.wanted.replicas == 3
    assert world.scaler.replicas(world.row, before).replicas == 4
    await world.look(5, run=False)
    assert world.scaler.replicas(world.row, before).replicas == 4
    world.apply(document(2, image="three"))
    await world.look(5, run=False)
    assert world.wanted == Scaled(2, False, "")
    assert world.scaler.replicas(world.row, before).replicas == 4, "what serves is kept until the other one serves"
    await world.look(5)
    assert scales.find(world.db.read, world.row.uid) is None


async def test_long_requests_ask_for_more_and_silence_for_fewer(world: World) -> None:
    world.apply(document(1, **scaling("requestDuration", 0.5, 3)))
    world.run()
    for _ in range(40):
        world.request()
        slow = world.answer(1000)
        held, socket = world.answer(9000, held_ms=8000), world.answer(60_000, status=101)
        refused, gone = world.answer(9000, target=""), world.answer(90_000, status=0)
        remembered = world.answer(90_000, at=world.clock() - DAY_S)
        world.scaler.heard([slow, held, socket, refused, gone, remembered])
        await world.look()
    assert "requests take 1 s on average, 0.5 s are aimed at" in world.told("Scaled")[0]
    assert world.wanted.replicas == 3
    await world.look(900)
    assert world.wanted.replicas == 1


async def test_no_answer_yet_is_not_silence(world: World) -> None:
    world.apply(document(1, **scaling("requestDuration", 0.5, 3)))
    world.run()
    await world.look()
    world.request()
    world.scaler.heard([world.answer(1000)])
    await world.look(16)
    assert world.wanted.replicas == 2
    world.in_flight = 1
    await world.look(1200)
    assert world.wanted.replicas == 2


async def test_without_requests_it_falls_asleep_and_a_knock_wakes_it(world: World) -> None:
    world.apply(document(2, **SLEEPY))
    world.run()
    await world.look(59)
    assert not world.asleep
    await world.look(3)
    assert world.wanted == Scaled(0, True, "no request for 60 s; the next one wakes it")
    assert world.told("Asleep") == ["no request for 60 s; the next one wakes it"]
    world.hints.clear()
    await world.look(600)
    assert world.asleep
    assert not world.hints
    world.scaler.woken(WEB)
    assert world.wanted.replicas == 2
    assert world.hints == [("deployment", world.row.uid)]
    world.scaler.woken(WEB)
    assert len(world.hints) == 1
    world.held = 3
    await world.look(2, run=False)
    world.held = 0
    world.scaler.heard([world.answer(2100, held_ms=2050) for _ in range(4)])
    await world.look(3)
    assert world.told("Woken") == ["by a request; 4 waited, the longest for 2.0 s"]
    await world.look(120)
    assert world.asleep


async def test_work_at_hand_keeps_it_awake(world: World) -> None:
    world.apply(document(1, **SLEEPY))
    world.run()
    world.in_flight = 1  # a websocket that says nothing
    await world.look(300)
    world.in_flight = 0
    for _ in range(6):
        world.request()
        await world.look(50)
    assert not world.asleep


async def test_a_lost_knock_costs_a_second(world: World) -> None:
    world.apply(document(1, **SLEEPY))
    world.run()
    await world.look(65)
    assert world.asleep
    world.held = 1
    await world.look(1)
    assert not world.asleep


async def test_a_daemon_that_comes_back_finds_it_asleep(world: World) -> None:
    world.apply(document(1, **SLEEPY))
    world.run()
    await world.look(65)
    world.scaler = world.another()
    world.router.can_hold, found = False, world.router.found
    world.router.found = {}  # the front door is not started yet
    await world.scaler.tend()
    assert world.asleep
    world.router.can_hold, world.router.found = True, found
    await world.look(10)
    assert world.asleep


async def test_what_is_declared_anew_has_to_show_that_it_runs(world: World) -> None:
    world.apply(document(1, **SLEEPY))
    world.run()
    await world.look(65)
    assert world.asleep
    world.clock.now += 1
    world.apply(document(1, image="two", **SLEEPY))
    assert not world.asleep
    world.run(0)
    await world.look(90, run=False)
    assert not world.asleep
    world.run()
    await world.look(30)
    assert not world.asleep
    await world.look(60)
    assert world.asleep


async def test_started_again_it_is_awake(world: World) -> None:
    world.apply(document(1, **SLEEPY))
    world.run()
    await world.look(65)
    for desired in ("stopped", "running"):
        world.clock.now += 1
        with world.db.write() as db:
            resources.set_desired(db, world.row.uid, desired, now=world.clock())
        await world.look(run=False)
    assert world.wanted == Scaled(1, False, "")


async def test_where_nothing_can_be_held_nothing_sleeps(world: World) -> None:
    world.router.can_hold = False
    world.apply(document(1, **SLEEPY))
    world.run()
    await world.look(200)
    assert not world.asleep
    [warning] = world.told("NotDone")
    assert "cannot hold" in warning
    world.router.can_hold = True
    await world.look(2)
    assert world.asleep
    world.router.can_hold = False
    await world.look(2)
    assert not world.asleep


async def test_scaled_by_load_it_sleeps_and_wakes_with_the_fewest(world: World) -> None:
    world.apply(document(1, **scaling(most=4), **SLEEPY))
    world.run()
    world.cores, world.in_flight = 2.0, 1
    await world.look(100)
    assert world.wanted.replicas == 4
    world.cores, world.in_flight = 0.0, 0
    await world.look(100)
    assert world.asleep
    await world.look(30)
    world.scaler.woken(WEB)
    assert world.wanted.replicas == 1


async def test_disabled_is_disabled(world: World) -> None:
    world.apply(document(0, **scaling(), **SLEEPY))
    await world.look(100)
    assert world.wanted == Scaled(0, False, "")
    world.scaler.woken(WEB)
    world.scaler.woken("/deployments/nobody")
    assert world.wanted == Scaled(0, False, "")


async def test_what_is_deleted_meanwhile_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.apply(document(1, **scaling()))
    world.run()
    world.cores = 2.0
    await world.look()
    inspect = world.engine.inspect

    async def deleted(container: str) -> Container | None:
        with world.db.write() as db:
            resources.remove(db, uid)
        return await inspect(container)

    uid = world.row.uid
    monkeypatch.setattr(world.engine, "inspect", deleted)
    world.tick(20)
    await world.scaler.tend()
    assert scales.find(world.db.read, uid) is None
    await world.scaler.tend()


async def test_every_request_is_counted(world: World) -> None:
    world.router.batches = [[world.answer(1)], [world.answer(2), world.answer(3, target="")]]
    await world.scaler.listen()
    assert world.telemetry.counted == [request for batch in world.router.batches for request in batch]


async def hang(world: World, seconds: int) -> None:
    """A request a second, and none ends."""
    for _ in range(seconds):
        world.in_flight += 1
        world.request()
        await world.look(1)


async def test_a_replica_that_ends_no_request_is_told_once_until_it_does(world: World) -> None:
    world.apply(document())
    world.run()
    for times in (1, 2):
        await hang(world, 50)
        (said,) = world.scaler.silent(world.row).values()
        assert "none has ended for 30 s" in said
        assert len(world.told("NoAnswer")) == times
        assert world.hints == [("deployment", world.row.uid)]
        world.in_flight = 0
        await world.look(2)
        assert world.scaler.silent(world.row) == {}
        world.hints.clear()


async def test_who_has_a_liveness_probe_is_looked_after_by_that(world: World) -> None:
    world.apply({**document(), "healthChecks": {"liveness": {"path": "/live"}}})
    world.run()
    await hang(world, 50)
    assert not world.told("NoAnswer")
    assert not world.scaler.silent(world.row)
