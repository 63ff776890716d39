"""Sessions that were ended with the appliance, the engine or the machine: that is no crash of theirs."""

from __future__ import annotations

from typing import cast

import pytest

from appliance.engine.docker import Engine
from appliance.shutdown import stop_containers
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as house

pytestmark = pytest.mark.anyio


async def comes_back(house: House) -> set[str]:
    """The phases on the way to the next session."""
    before, phases, uid = house.row.status["session"], set(), house.row.uid
    for _ in range(200):
        await house.controller.reconcile(uid)
        phases.add(house.row.phase)
        if house.row.phase == "Running" and house.row.status["session"] > before:
            return phases
    raise AssertionError(f"it stays {house.row.phase}: {house.row.message}")


@pytest.mark.parametrize("code", [0, 137, 143])
async def test_a_stop_of_everything_is_no_crash(house: House, code: int) -> None:
    house.declare()
    await house.run("Running")
    for _ in range(5):
        await house.notebooks.close()
        house.engine.stop_code = code
        await stop_containers(house.db, cast(Engine, house.engine), grace_s=1.0, clock=house.clock)
        house.clock.now += 60
        house.notebooks = house.another()
        assert "Failed" not in await comes_back(house)


async def test_a_restart_of_the_machine_is_no_crash(house: House) -> None:
    house.declare()
    await house.run("Running")
    for _ in range(5):
        await house.notebooks.close()
        house.engine.end(house.row.status["container"], 255)
        house.clock.now += 60
        house.booted = house.clock.now - 20
        house.notebooks = house.another()
        assert "Failed" not in await comes_back(house)


async def test_a_restart_of_the_engine_is_no_crash_and_what_ends_by_itself_is(house: House) -> None:
    house.declare()
    await house.run("Running")
    for _ in range(5):
        house.clock.now += 10
        house.notebooks.engine_lost(house.clock())
        house.engine.end(house.row.status["container"], 137)
        house.clock.now += 10
        house.notebooks.engine_back(house.clock())
        assert "Failed" not in await comes_back(house)
    house.clock.now += 60
    house.engine.end(house.row.status["container"], 137)
    assert (await house.run("Failed")).message.endswith("restart 1 of 3 in 2 s")


async def test_a_mark_of_one_that_was_not_stopped_after_all_excuses_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.declare()
    row = await house.run("Running")

    async def fails(container: str, *, grace_s: float) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(house.engine, "stop", fails)
        with pytest.raises(RuntimeError):
            await stop_containers(house.db, cast(Engine, house.engine), grace_s=1.0, clock=house.clock)
    house.clock.now += 5
    house.engine.end(row.status["container"], 137)
    assert "restart 1 of 3" in (await house.run("Failed")).message


async def test_a_route_that_the_front_door_changed_by_itself_is_told_again(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    told = len(house.router.history)
    await house.controller.reconcile(row.uid)
    assert len(house.router.history) == told
    house.notebooks.retell(row.uid)
    await house.controller.reconcile(row.uid)
    assert house.targets == [house.engine.port]
    assert len(house.router.history) == told + 1
