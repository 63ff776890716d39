"""Replicas that were ended with the appliance, the engine or the machine: nothing of that is their own fault."""

from __future__ import annotations

from typing import cast

import pytest

from appliance.engine.docker import Engine
from appliance.errors import EngineDown
from appliance.shutdown import stop_containers
from appliance.state import rollouts
from tests.unit.deployments.house import House, spec
from tests.unit.deployments.test_rollback import bad, rows

pytestmark = pytest.mark.anyio

CALM = {"Starting", "Updating", "Ready"}


async def stop_all(house: House, code: int = 143) -> None:
    """`appliance stop --all`, then the daemon again, on a machine that was off meanwhile."""
    await house.controller.close()
    house.engine.stop_code = code
    await stop_containers(house.db, cast(Engine, house.engine), grace_s=1.0, clock=house.clock)
    house.clock.now += 60
    house.controller = house.another()


async def comes_back(house: House) -> set[str]:
    """The phases on the way until all is served again."""
    phases: set[str] = set()

    def back() -> bool:
        phases.add(house.row.phase)
        return len(house.served) == len(house.running()) == len(house.engine.containers) == 2

    await house.controller.reconcile(house.row.uid)
    await house.until(back)
    await house.run("Ready")
    return phases


@pytest.mark.parametrize("code", [0, 1, 137, 143])
async def test_a_stop_of_everything_is_no_crash(house: House, code: int) -> None:
    house.declare(spec("one"))
    await house.settle()
    for _ in range(4):  # as often as it likes: no row of crashes comes of it
        before = len(house.events)
        await stop_all(house, code)
        assert await comes_back(house) <= CALM
        assert [event.level for event in house.events[before:] if event.level != "info"] == []
        assert [row["restarts"] for row in house.row.status["replicas"]] == [0, 0]


async def test_nobody_who_comes_meanwhile_is_sent_away(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    for _ in range(2):  # it has failed before
        for container in house.running():
            house.engine.end(container.id, 137)
        await comes_back(house)
    await stop_all(house)
    await house.controller.reconcile(house.row.uid)
    assert house.row.phase == "Starting"
    assert house.router.routes["/deployments/web"].hold is not None
    await comes_back(house)
    assert [row["restarts"] for row in house.row.status["replicas"]] == [2, 2]


async def test_what_fails_after_it_was_started_again_counts(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    await stop_all(house)
    await comes_back(house)
    for container in house.running():
        house.engine.end(container.id, 1)
    await house.run("Degraded", "Failed")
    await comes_back(house)
    assert [row["restarts"] for row in house.row.status["replicas"]] == [1, 1]


async def test_what_had_failed_before_the_stop_had_failed(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    for container in house.running():
        house.engine.end(container.id, 1)
    house.clock.now += 2
    await stop_all(house)
    await house.run("Degraded", "Failed")
    await comes_back(house)
    assert [row["restarts"] for row in house.row.status["replicas"]] == [1, 1]


async def test_a_stop_that_did_not_come_to_pass_is_forgotten(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()

    async def refuse(container_id: str, *, grace_s: float) -> None:
        raise EngineDown("away")

    stop, house.engine.stop = house.engine.stop, refuse  # type: ignore[method-assign]
    with pytest.raises(EngineDown):
        await stop_containers(house.db, cast(Engine, house.engine), grace_s=1.0, clock=house.clock)
    house.engine.stop = stop  # type: ignore[method-assign]
    assert all(row.get("stopped") is None for row in house.row.status["replicas"])
    with house.db.write() as db:  # killed between the word and the deed
        for container in house.running():
            rollouts.mark_stopped(db, house.row.uid, container.id, house.clock())
    house.controller = house.another()
    await house.controller.reconcile(house.row.uid)
    house.clock.now += 5
    for container in house.running():
        house.engine.end(container.id, 143)
    await house.run("Degraded", "Failed")


async def test_a_reboot_is_no_crash(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    await house.controller.close()
    house.clock.now += 1000
    house.booted = house.clock.now - 20
    for container in house.running():
        house.engine.end(container.id, 255)
    house.controller = house.another()
    assert await comes_back(house) <= CALM
    assert [row["restarts"] for row in house.row.status["replicas"]] == [0, 0]
    assert all(event.level == "info" for event in house.events)


async def test_an_engine_that_is_restarted_is_no_crash(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.controller.engine_lost(house.clock())
    house.clock.now += 1
    for container in house.running():
        house.engine.end(container.id, 0)
    house.clock.now += 5
    house.controller.engine_back(house.clock())
    assert await comes_back(house) <= CALM
    assert [row["restarts"] for row in house.row.status["replicas"]] == [0, 0]
    for container in house.running():
        house.engine.end(container.id, 137)
    await house.run("Degraded", "Failed")


async def test_a_revision_that_rolls_out_goes_on_with_that(house: House) -> None:
    await bad(house)
    await stop_all(house)
    house.engine.exit_codes["bad"] = 0
    await comes_back(house)
    assert rows(house)[2].phase == "Serving"
    assert "Undone" not in house.reasons
