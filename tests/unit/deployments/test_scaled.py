"""The scaler and the controller together: a deployment that follows its load, sleeps and wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from appliance.deployments.scaler import Scaler
from appliance.deployments.serving import WAKE_S
from appliance.engine import cgroups
from appliance.engine.cgroups import Usage
from appliance.router.meters import Meter, ServerMeter
from appliance.spec.catalogue import Machine
from appliance.state import rollouts
from tests.unit.deployments.house import READY, House

pytestmark = pytest.mark.anyio

WEB = "/deployments/web"
CPU = {"maxReplicas": 3, "metrics": [{"metric": "cpu", "summary": "average", "value": 50}]}


def spec(image: str = "one", **resources: Any) -> dict[str, Any]:
    return {
        "image": image,
        "port": 80,
        "resources": {"instanceType": "C4", "replicas": 1, **resources},
        "healthChecks": READY,
    }


class Driven:
    """A house whose scaler is the real one."""

    can_hold = True

    def __init__(self, house: House) -> None:
        self.house = house
        self.held = 0
        self.busy = False
        parts: dict[str, Any] = {"router": self, "engine": self, "telemetry": None}
        self.scaler = Scaler(
            db=house.db,
            settings=house.settings,
            host=Machine(8, 16 * 10**9),
            clock=house.clock,
            hint=lambda kind, uid: None,
            counter=house.clock,
            **parts,
        )
        house.load = self.scaler  # type: ignore[assignment]
        house.controller = house.another()

    async def meters(self) -> dict[str, Meter]:
        route = self.house.router.routes.get(WEB)
        targets = route.targets if route else ()
        return {WEB: Meter(self.held, {target.id: ServerMeter(int(self.busy), 0, 0) for target in targets})}

    async def inspect(self, container: str) -> Any:
        return replace(self.house.engine.containers[container], pid=7)

    def read(self, pid: int, container: str) -> Usage:
        return Usage(2.0 * self.house.clock() if self.busy else 0.0, 10**9)

    async def until(self, condition: Callable[[], object]) -> list[str]:
        """The phases on the way."""
        phases: list[str] = []
        for _ in range(2000):
            await self.scaler.tend()
            await self.house.controller.reconcile(self.house.row.uid)
            if self.house.row.phase not in phases[-1:]:
                phases.append(self.house.row.phase)
            if condition():
                return phases
            await asyncio.sleep(0.005)  # the probes' turn
            self.house.clock.now += 0.5
        raise AssertionError(f"{self.house.row.phase}: {self.house.row.message}, after {phases}")

    async def asleep(self) -> list[str]:
        return await self.until(lambda: self.house.row.phase == "Asleep" and not self.house.engine.containers)


@pytest.fixture
async def driven(house: House, monkeypatch: pytest.MonkeyPatch) -> Driven:
    await house.controller.close()
    driven = Driven(house)
    monkeypatch.setattr(cgroups, "read", driven.read)
    return driven


async def test_who_wakes_it_waits_as_long_as_its_sleep_says_and_never_not_at_all(house: House, driven: Driven) -> None:
    """However long requests wait in a swap, and where nobody waits for anything else."""
    house.settings = replace(house.settings, hold_s=0.0)
    house.controller = house.another()
    for sleep, hold_s in (({"after": 30}, WAKE_S), ({"after": 30, "hold": 20}, 20)):
        house.declare({**spec(scaleToZero=sleep), "rollout": {"hold": 600}})
        await driven.asleep()
        holds: set[float | None] = set()

        def served(holds: set[float | None] = holds) -> bool:
            hold = house.router.routes[WEB].hold
            holds.add(hold.seconds if hold else None)
            return len(house.served) == 1

        driven.held = 1
        await driven.until(served)
        driven.held = 0
        assert holds == {hold_s}, "its slot, and whoever waits there, is lost without"


async def test_it_sleeps_wakes_and_is_never_called_ill(house: House, driven: Driven) -> None:
    house.declare(spec(scaleToZero={"after": 30, "hold": 90}))
    await driven.asleep()
    route = house.router.routes[WEB]
    assert not route.targets
    assert route.hold is not None
    assert route.hold.seconds == 90
    house.controller = house.another()  # the daemon begins anew meanwhile
    await driven.asleep()
    driven.held = 3
    phases = await driven.until(lambda: len(house.served) == 1)
    driven.held = 0
    phases += await driven.until(lambda: house.row.phase == "Ready")
    assert set(phases) <= {"Asleep", "Starting", "Updating", "Ready"}
    await driven.until(lambda: "Woken" in house.reasons)
    await driven.asleep()
    assert not {"Degraded", "Failed", "Problem"} & set(house.reasons)
    assert [(row.generation, row.phase) for row in rollouts.every(house.db.read, house.row.uid)] == [(1, "Serving")]


async def test_more_replicas_come_without_being_called_a_fault(house: House, driven: Driven) -> None:
    house.declare(spec(autoscaling=CPU))
    await driven.until(lambda: house.row.phase == "Ready")
    driven.busy = True
    phases = await driven.until(lambda: len(house.served) == 3 and house.row.phase == "Ready")
    assert set(phases) == {"Ready", "Updating"}
    driven.busy = False
    await driven.until(lambda: len(house.served) == 1 and len(house.engine.containers) == 1)
    assert "Degraded" not in house.reasons
    assert house.row.generation == 1


async def test_a_replica_that_ends_is_a_fault_all_the_same(house: House, driven: Driven) -> None:
    house.declare(spec(autoscaling=CPU))
    driven.busy = True
    await driven.until(lambda: len(house.served) == 3 and house.row.phase == "Ready")
    house.engine.end(house.running()[0].id, 1)
    await driven.until(lambda: house.row.phase == "Degraded")


async def test_a_new_revision_shows_that_it_runs_and_sleeps_then(house: House, driven: Driven) -> None:
    house.declare(spec(scaleToZero={"after": 30}))
    await driven.asleep()
    house.declare(spec("two", scaleToZero={"after": 30}))
    await driven.until(lambda: house.row.phase == "Ready" and house.row.observed == 2)
    assert house.running("two")
    await driven.asleep()


async def test_the_load_of_what_serves_is_carried_through_a_rollout(house: House, driven: Driven) -> None:
    house.declare(spec(autoscaling=CPU))
    driven.busy = True
    await driven.until(lambda: len(house.served) == 3 and house.row.phase == "Ready")
    house.declare(spec("two", autoscaling=CPU))
    least = 3

    def done() -> bool:
        nonlocal least
        least = min(least, len(house.served))
        return house.row.phase == "Ready" and house.row.observed == 2 and len(house.engine.containers) == 3

    await driven.until(done)
    assert least == 3
    assert len(house.running("two")) == 3


async def undone(house: House, driven: Driven, **resources: Any) -> None:
    """The first revision goes on, because the second was undone."""
    house.declare(spec(**resources))
    await driven.until(lambda: house.row.phase == "Ready")
    house.images.missing.add("bad")
    house.declare(spec("bad", **resources))
    await driven.until(lambda: "undone" in house.row.status and len(house.served) == 1)


async def test_what_goes_on_because_another_was_undone_sleeps_and_wakes_too(house: House, driven: Driven) -> None:
    await undone(house, driven, scaleToZero={"after": 30})
    await driven.asleep()
    assert "generation 2 was undone" in house.row.message
    house.controller = house.another()
    await driven.asleep()
    driven.held = 1
    phases = await driven.until(lambda: len(house.served) == 1)
    driven.held = 0
    assert "Failed" not in phases
    assert house.running("one")
    await driven.until(lambda: house.row.phase == "Degraded")
    await driven.asleep()
    assert {row.generation: row.phase for row in rollouts.every(house.db.read, house.row.uid)} == {
        1: "Serving",
        2: "Undone",
    }


async def test_what_is_begun_again_after_it_was_undone_has_to_show_that_it_runs(house: House, driven: Driven) -> None:
    await undone(house, driven, scaleToZero={"after": 30})
    await driven.asleep()
    house.images.missing.clear()
    house.declare(spec("two", scaleToZero={"after": 30}))
    await driven.until(lambda: house.row.phase == "Ready" and house.row.observed == 3)
    assert house.running("two")
    await driven.asleep()


async def test_what_goes_on_because_another_was_undone_follows_its_load(house: House, driven: Driven) -> None:
    await undone(house, driven, autoscaling=CPU)
    driven.busy = True
    await driven.until(lambda: len(house.served) == 3)
    driven.busy = False
    await driven.until(lambda: len(house.served) == 1 and len(house.engine.containers) == 1)


async def test_one_that_is_not_whole_does_not_fall_asleep_though_another_was_undone(
    house: House, driven: Driven
) -> None:
    await undone(house, driven, scaleToZero={"after": 30})
    house.engine.exit_codes["one"] = 1
    await driven.until(lambda: not house.served)
    began = house.clock()
    await driven.until(lambda: house.clock() > began + 60)
    assert house.row.phase == "Degraded"
