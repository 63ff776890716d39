"""The GPUs of executions, over an engine in memory."""

from __future__ import annotations

import pytest

from appliance.engine.labels import EXECUTION, PREFIX
from appliance.errors import GpuRefused
from appliance.notebooks.leasing import REFUSED_EVERY_S
from appliance.scheduler.leasing import LEASE
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.notebooks.test_controller import house as notebooks
from tests.unit.notebooks.test_executing import Room, room

__all__ = ["notebooks", "room"]
pytestmark = pytest.mark.anyio


async def test_it_has_a_card_of_its_own_and_gives_it_back(room: Room) -> None:
    await room.begin(gpus=1, owner="anna")
    one = await room.settle((await room.start()).id)
    assert one.phase == "Running"
    asked = room.house.leases.of(one.id)
    assert asked
    assert (tuple(room.spec.gpus), room.spec.labels[LEASE]) == (asked.cards, asked.lease)
    assert (asked.who.kind, asked.who.owner, asked.preemptible) == ("execution", "anna", False)
    assert room.house.engine.containers[asked.container].state == "running"
    room.end(0)
    assert (await room.settle(one.id)).phase == "Succeeded"
    assert room.house.leases.left == ("GPU-0",)


async def test_it_waits_for_its_turn_and_does_not_fail(room: Room) -> None:
    stranger = room.house.leases.take("other")
    await room.begin(gpus=1)
    one = await room.settle((await room.start()).id)
    assert (one.phase, one.message) == ("Preparing", "it waits for 1 GPU, behind run other")
    assert not room.house.engine.specs
    room.house.leases.release(stranger)
    assert (await room.settle(one.id)).phase == "Running"


async def test_what_can_never_be_had_waits_too_and_says_so(room: Room) -> None:
    await room.begin(gpus=16)
    one = await room.settle((await room.start()).id)
    assert (one.phase, one.message) == ("Preparing", "it asks for 16 GPUs, this machine has 1")
    room.orders.cancel("nb", author="me")
    assert (await room.settle(one.id)).phase == "Canceled"
    assert room.house.leases.of(one.id) is None


async def test_without_a_gpu_if_it_is_asked_for_so(room: Room) -> None:
    room.house.leases.take("other")
    await room.begin(machine="P4000")
    one = await room.settle((await room.start(gpu=False)).id)
    assert one.phase == "Running"
    assert not room.spec.gpus
    assert room.house.leases.of(one.id) is None


async def test_one_that_is_canceled_while_it_waits_leaves_the_queue(room: Room) -> None:
    room.house.leases.take("other")
    await room.begin(gpus=1)
    one = await room.settle((await room.start()).id)
    assert room.house.leases.of(one.id)
    room.orders.cancel("nb", author="me")
    assert (await room.settle(one.id)).phase == "Canceled"
    assert room.house.leases.of(one.id) is None


async def test_what_the_engine_cannot_give_is_waited_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(container_id: str) -> None:
        raise GpuRefused("no such device", hint="`appliance doctor` tells more")

    await room.begin(gpus=1)
    with monkeypatch.context() as patch:
        patch.setattr(room.house.engine, "start", refuse)
        one = await room.settle((await room.start()).id)
        assert (one.phase, one.message) == ("Preparing", "no such device; `appliance doctor` tells more")
        assert not room.house.engine.containers
        assert room.house.leases.left == ("GPU-0",)
    room.house.clock.now += REFUSED_EVERY_S
    assert (await room.settle(one.id)).phase == "Running"


async def test_a_lost_gpu_is_told_and_ends_nothing(room: Room) -> None:
    await room.begin(gpus=1)
    one = await room.settle((await room.start()).id)
    room.house.notebooks.executing.gpu_lost(one.id, "a reload of systemd took it away")
    room.house.notebooks.executing.gpu_lost("nobody", "a reload of systemd took it away")
    assert room.house.reasons.count("GpuLost") == 1
    assert (await room.settle(one.id)).phase == "Running"


async def test_a_kill_at_any_instant_leaves_one_container_with_the_card(room: Room) -> None:
    house = room.house
    await room.begin(gpus=1)
    for instant in range(100):
        one = await room.start()
        mortality = Mortality(instant)
        engine = {name: getattr(house.engine, name) for name in ("create", "start", "remove")}
        mortality.watch(house.engine, *engine)
        done = False
        try:
            await room.settle(one.id)
            done = True
        except Killed:
            pass
        for name, call in engine.items():
            setattr(house.engine, name, call)
        house.notebooks = house.another()
        assert (await room.settle(one.id)).phase == "Running"
        asked = house.leases.of(one.id)
        assert asked
        (made,) = (found for found in house.engine.containers.values() if found.labels[PREFIX + "kind"] == EXECUTION)
        assert (made.labels[LEASE], made.id) == (asked.lease, asked.container)
        room.end(0)
        assert (await room.settle(one.id)).phase == "Succeeded"
        assert house.leases.left == ("GPU-0",)
        if done:
            break
    else:
        raise AssertionError("there was always another instant")
    assert instant > 2
