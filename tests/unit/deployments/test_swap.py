"""Two revisions that have no room side by side: the old one leaves first, and requests wait."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from appliance.router.table import Hold, Route
from appliance.state import rollouts
from tests.unit.deployments.house import House, short, spec
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.scheduler.fakes import FakeLeases

pytestmark = pytest.mark.anyio

SWAP = {"strategy": "swap", "hold": 60, "drain": 120}


def phase(house: House, generation: int) -> str:
    row = rollouts.find(house.db.read, house.row.uid, generation)
    return row.phase if row else ""


def swapped(image: str, **more: object) -> dict[str, object]:
    return spec(image, **{"rollout": SWAP, **more})  # type: ignore[arg-type]


async def apart(house: House) -> None:
    """Never two revisions at once, looked at before each container begins."""
    start = house.engine.start

    async def begin(container_id: str) -> None:
        running = {one.image for one in house.running()} | {house.engine.containers[container_id].image}
        assert len(running) == 1, f"side by side: {running}"
        await start(container_id)

    house.engine.start = begin  # type: ignore[method-assign]


async def test_the_old_one_leaves_first_while_requests_wait(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    await apart(house)
    old = house.running("one")
    house.images.gate.clear()
    house.declare(swapped("two"))
    await house.until(lambda: "pulling two" in house.row.message)
    assert house.served == short(old), "all that is needed is fetched while it serves"
    house.images.gate.set()
    house.router.gate.clear()
    await house.until(lambda: phase(house, 2) == "Swapping" and not house.served)
    assert house.running("one") == old, "their requests are not done"
    assert house.router.routes["/deployments/web"].hold == Hold(60.0, house.settings.hold_most)
    assert "requests wait" in house.row.message
    house.router.gate.set()
    await house.settle()
    assert house.served == short(house.running("two"))
    assert (phase(house, 1), phase(house, 2)) == ("Superseded", "Serving")


async def test_a_swap_leaves_the_successor_half_of_the_patience(house: House) -> None:
    house.declare(swapped("one", replicas=1))
    await house.settle()
    house.declare(swapped("two", replicas=1))
    await house.settle()
    assert house.router.deadlines == [30.0]
    house.declare(spec("three", replicas=1, rollout={"strategy": "surge"}))
    await house.settle()
    assert house.router.deadlines == [30.0, house.settings.drain_s]


async def test_one_that_fails_makes_way_for_the_old_one_within_the_patience(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    await apart(house)
    house.engine.exit_codes["bad"] = 1
    house.declare(swapped("bad"))
    await house.until(lambda: len(house.running("bad")) == 2)
    began = house.clock()
    assert house.served == set()
    house.clock.now += 40
    await house.until(lambda: phase(house, 2) == "Undone")
    await house.until(lambda: len(house.served) == 2)
    assert house.clock() - began < 60
    assert house.served == short(house.running("one"))
    row = await house.until(lambda: house.row.phase == "Degraded")
    assert "it was not ready after 48 s" in row.message


async def test_what_fits_is_made_beside_the_old_and_what_does_not_is_swapped(house: House) -> None:
    big = {"instanceType": "A4000", "replicas": 1}
    house.leases = leases = FakeLeases(2, machines={"A4000": 1})
    house.controller = house.another()
    house.declare(spec("one", resources=big))
    await house.settle()
    house.router.history.clear()
    house.declare(spec("two", resources=big))
    await house.settle()
    assert all(targets for _, targets in house.router.history), "there was room for both"
    leases.take()
    house.router.history.clear()
    await apart(house)
    house.declare(spec("three", resources=big))
    await house.settle()
    assert any(not targets for _, targets in house.router.history)
    assert house.served == short(house.running("three"))


async def test_nobody_leaves_where_that_would_not_be_enough(house: House) -> None:
    house.leases = FakeLeases(1, machines={"A4000": 1})
    house.controller = house.another()
    house.declare(spec("one", resources={"instanceType": "A4000", "replicas": 1}))
    await house.settle()
    house.declare(spec("two", resources={"instanceType": "A4000", "replicas": 2}))
    row = await house.until(lambda: "waits for 1 GPU" in house.row.message)
    assert row.phase == "Updating"
    assert house.served == short(house.running("one"))


async def test_a_kill_at_any_instant_of_a_swap_is_healed_by_the_next_daemon(house: House) -> None:
    rooms: tuple[tuple[object, tuple[str, ...]], ...] = (
        (house.engine, ("create", "start", "stop", "remove")),
        (house.router, ("set_route", "drain")),
        (house.telemetry, ("drain",)),
    )
    house.declare(swapped("image-0"))
    await house.settle()
    for instant in itertools.count():
        assert instant < 200, "the swap never ended"
        await apart(house)
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        image = f"image-{instant + 1}"
        house.declare(swapped(image))
        survived = False

        def over(mortality: Mortality = mortality, image: str = image) -> bool:
            return mortality.dead or (len(house.engine.containers) == 2 == len(house.running(image)))

        try:
            await house.until(over)
            survived = not mortality.dead
        except Killed:
            pass
        await house.controller.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        await apart(house)
        house.controller = house.another()
        await house.settle()
        del house.engine.start
        assert house.served == short(house.running(image))
        assert len(house.engine.containers) == 2
        if survived:
            assert instant > 20
            return


async def test_a_kill_after_a_swap_has_failed_leads_back_to_the_old_one(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    await apart(house)
    house.engine.exit_codes["bad"] = 1
    house.declare(swapped("bad"))
    await house.until(lambda: len(house.running("bad")) == 2)
    house.clock.now += 48
    house.router.gate.clear()
    await house.until(lambda: phase(house, 2) == "Undone")
    await house.controller.close()
    house.router.gate.set()
    house.controller = house.another()
    await house.until(lambda: len(house.engine.containers) == 2 == len(house.served))
    assert house.served == short(house.running("one"))


async def test_while_the_front_door_is_down_no_swap_begins(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    old = house.running("one")
    house.router.down = True
    house.declare(swapped("two"))
    await house.until(lambda: "front door" in house.row.message)
    for _ in range(5):
        await house.controller.reconcile(house.row.uid)
    assert house.running("one") == old, "requests still come to them"
    house.router.down = False
    await house.settle()
    assert house.served == short(house.running("two"))


async def test_to_scale_in_the_middle_of_a_swap_brings_nobody_back_beside_it(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    await apart(house)
    house.engine.exit_codes["two"] = 1
    house.declare(swapped("two"))
    await house.until(lambda: len(house.running("two")) == 2)
    house.declare(swapped("two", resources={"instanceType": "C4", "replicas": 3}))
    await house.until(lambda: len(house.running("two")) == 3)
    house.engine.exit_codes["two"] = 0
    await house.settle()
    assert len(house.served) == 3
    assert phase(house, 3) == "Serving"


async def test_another_revision_in_the_middle_of_a_swap_waits_for_both_to_leave(house: House) -> None:
    house.declare(swapped("one"))
    await house.settle()
    await apart(house)
    house.engine.exit_codes["two"] = 1
    house.declare(swapped("two"))
    await house.until(lambda: len(house.running("two")) == 2)
    house.images.gate.clear()
    house.declare(swapped("three"))
    await house.until(lambda: len(house.served) == 2)
    assert house.served == short(house.running("one")), "the first is back until the third is here"
    house.images.gate.set()
    await house.settle()
    assert house.served == short(house.running("three"))


@pytest.mark.parametrize("keep", [False, True])
async def test_a_swap_that_is_late_stays_a_swap(house: House, keep: bool) -> None:
    """Also where the daemon was away: never do both run where there is room for one."""
    manner = {"rollout": {**SWAP, **({"onFailure": "keep"} if keep else {})}}
    house.declare(spec("one", replicas=1, **manner))
    await house.settle()
    await apart(house)
    house.engine.exit_codes["slow"] = 1
    house.declare(spec("slow", replicas=1, **manner))
    await house.until(lambda: phase(house, 2) == "Swapping" and house.running("slow"))
    if not keep:
        await house.controller.close()
        house.clock.now += 40
        house.controller = house.another()
    until = house.clock.now + 70
    held = set()
    while house.clock.now < until:
        await house.controller.reconcile(house.row.uid)
        held.add(house.router.routes["/deployments/web"].hold)
        assert phase(house, 2) in ("Swapping", "Undone")
        house.clock.now += 1
        await asyncio.sleep(0.005)
    if keep:
        assert phase(house, 2) == "Swapping"
    else:
        assert held == {Hold(60.0, house.settings.hold_most)}, "the one before comes back: requests wait on"
        await house.until(lambda: house.served == short(house.running("one")) != set())


async def test_requests_wait_on_while_a_swap_is_undone(house: House) -> None:
    house.declare(swapped("one", replicas=1))
    await house.settle()
    house.declare(swapped("bad", replicas=1))
    held, set_route = set(), house.router.set_route

    async def tell(route: Route) -> None:
        if phase(house, 2) in ("Swapping", "Undone"):
            held.add(route.hold)
        await set_route(route)

    house.router.set_route = tell  # type: ignore[method-assign]

    def looked() -> bool:
        for container in house.running("bad"):
            house.engine.end(container.id, 1)
        house.clock.now += 0.5
        return phase(house, 2) == "Undone" and house.served == short(house.running("one")) != set()

    await house.until(looked)
    assert held == {Hold(60.0, house.settings.hold_most)}
    assert "Failed" not in house.reasons, "what is said of who was given up is said by its undoing"


async def test_where_the_spec_says_how_long_requests_wait_the_new_one_has_a_part_of_that(house: House) -> None:
    house.declare(swapped("one", replicas=1))
    await house.settle()
    house.engine.exit_codes["slow"] = 1
    house.declare(swapped("slow", replicas=1))
    await house.until(lambda: house.running("slow"))
    house.clock.now += 49
    await house.until(lambda: phase(house, 2) == "Undone")
    undone = next(event for event in house.events if event.reason == "Undone")
    assert "not ready after 48 s of the 60 s that requests wait (rollout.hold)" in undone.message


@pytest.mark.parametrize(("setting", "hold"), [(60, 0), (0, 0), (0, 1)])
async def test_where_nobody_said_how_long_a_swap_has_its_whole_time(house: House, setting: float, hold: int) -> None:
    house.settings = replace(house.settings, hold_s=setting)
    house.controller = house.another()
    manner = {"rollout": {"strategy": "swap", **({"hold": hold} if hold else {})}}
    house.declare(spec("one", replicas=1, **manner))
    await house.settle()
    house.engine.exit_codes["slow"] = 1
    house.declare(spec("slow", replicas=1, **manner))
    await house.until(lambda: house.running("slow"))
    house.clock.now += 60
    await house.controller.reconcile(house.row.uid)
    assert phase(house, 2) == "Swapping"
    house.engine.exit_codes["slow"] = 0
    await house.settle()
