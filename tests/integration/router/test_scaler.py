"""The scaler with a real front door and a real telemetry database; the controller's part is the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance import revisions
from appliance.deployments.load import this_machine
from appliance.deployments.scaler import Scaler
from appliance.engine.docker import Engine
from appliance.router.router import Router
from appliance.router.table import Hold, Route, Target
from appliance.settings import load as load_settings
from appliance.state import events, resources, rollouts
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.telemetry.telemetry import Telemetry
from tests.integration.router.door import DEADLINE_S, NEEDS, Backend, Door, X, get, until, watched, word

pytestmark = NEEDS

SPEC: dict[str, Any] = {"image": "i", "port": 80, "resources": {"instanceType": "C4", "scaleToZero": {"after": 1}}}


class Sleeper:
    """One deployment that may sleep, `x`."""

    def __init__(self, router: Router, telemetry: Telemetry, home: Path) -> None:
        self.db = Database(home / "state.db")
        self.hints = asyncio.Event()
        self.telemetry = telemetry
        self.scaler = Scaler(
            db=self.db,
            engine=Engine(instance="00000000"),
            router=router,
            telemetry=telemetry,
            settings=load_settings({}, home=home),
            host=this_machine(),
            clock=time.time,
            hint=lambda kind, uid: self.hints.set(),
        )
        router.on_knock = self.scaler.woken
        with self.db.write() as db:
            resources.put(db, "deployment", "x", SPEC, source="cli", now=time.time())
            revisions.declare(db, self.row, now=time.time())
            rollouts.set_phase(db, self.row.uid, 1, "Serving", now=time.time())
        self.settle("Ready")

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "deployment", "x")

    @property
    def asleep(self) -> bool:
        return self.scaler.replicas(self.row, revisions.parse_spec("x", self.row.spec)).asleep

    def settle(self, phase: str) -> None:
        status: dict[str, Any] = {"generation_ready": 1, "replicas": []}
        with self.db.write() as db:
            resources.set_status(db, self.row.uid, generation=1, phase=phase, status=status)

    def told(self, reason: str) -> str:
        found = events.last(self.db.read, "deployment", "x", reason)
        return found.message if found else ""

    async def tend(self) -> None:
        while True:
            await self.scaler.tend()
            await asyncio.sleep(0.1)


@pytest.fixture
async def sleeper(router: Router, tmp_path: Path) -> AsyncIterator[Sleeper]:
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await telemetry.start()
    sleeper = Sleeper(router, telemetry, tmp_path)
    tasks = [asyncio.create_task(sleeper.tend()), asyncio.create_task(sleeper.scaler.listen())]
    try:
        async with watched(router):
            yield sleeper
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await telemetry.stop()
        sleeper.db.close()


def route(*backends: Backend) -> Route:
    targets = tuple(Target(backend.name, backend.port) for backend in backends)
    return Route(X, targets, strip=True, hold=Hold(DEADLINE_S, 100))


async def test_it_falls_asleep_and_the_first_requests_wake_it(door: Door, router: Router, sleeper: Sleeper) -> None:
    backend = await door.backend("a")
    await router.set_route(route(backend))
    assert word(await get(door.port, X)) == "a"

    async def sleeps() -> bool:
        return sleeper.asleep

    await until(sleeps)
    await router.set_route(route())
    sleeper.settle("Asleep")
    sleeper.hints.clear()
    asking = [asyncio.create_task(get(door.port, X)) for _ in range(5)]
    async with asyncio.timeout(DEADLINE_S):
        await sleeper.hints.wait()
        assert not sleeper.asleep
        await until(lambda: _held(router, 5))
        sleeper.settle("Starting")
        await router.set_route(route(backend))
        assert {word(answer) for answer in await asyncio.gather(*asking)} == {"a"}
    sleeper.settle("Ready")

    async def told() -> bool:
        return bool(sleeper.told("Woken"))

    await until(told)
    assert sleeper.told("Woken").startswith("by a request; 5 waited, the longest for ")
    await until(lambda: _counted(sleeper, 6))
    now = time.time()
    traffic = await sleeper.telemetry.traffic(X, since=now - 120, until=now + 1)
    assert (traffic.requests, traffic.errors, traffic.held, traffic.targets) == (6, 0, 5, {"a": (6, 0)})
    assert traffic.longest_held_s > 0


async def test_a_request_in_a_haproxy_that_was_replaced_keeps_it_awake(
    door: Door, router: Router, sleeper: Sleeper
) -> None:
    backend = await door.backend("a")
    await router.set_route(route(backend))
    asking = asyncio.create_task(get(door.port, f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    await router.set_binds([f"127.0.0.93:{door.port}"])
    until_s = time.monotonic() + 4 * SPEC["resources"]["scaleToZero"]["after"]
    while time.monotonic() < until_s:
        assert not sleeper.asleep
        await asyncio.sleep(0.05)
    backend.release.set()
    assert word(await asking) == "a"

    async def sleeps() -> bool:
        return sleeper.asleep

    await until(sleeps)


async def _held(router: Router, number: int) -> bool:
    return (await router.meters())[X].held == number


async def _counted(sleeper: Sleeper, number: int) -> bool:
    _, rows = await sleeper.telemetry.sql("SELECT sum(requests) FROM requests WHERE name = 'x'")
    return bool(rows == [(number,)])
