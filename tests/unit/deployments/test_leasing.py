"""Replicas on GPUs: one lease for each place, waited for in words, kept over restarts, handed on in a swap."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from appliance.errors import GpuRefused
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.types import Answer, Who
from appliance.state import events, resources, rollouts
from tests.unit.deployments.house import House, short, spec
from tests.unit.scheduler.fakes import FakeLeases

pytestmark = pytest.mark.anyio

ON_GPU = {"instanceType": "A4000"}


@pytest.fixture
def leases(house: House) -> FakeLeases:
    house.leases = leases = FakeLeases(2, machines={"A4000": 1})
    leases.clock = house.clock
    house.controller = house.another()
    return leases


def on_gpu(image: str, replicas: int, **more: Any) -> dict[str, Any]:
    return spec(image, resources={**ON_GPU, "replicas": replicas}, **more)


def phase(house: House, generation: int) -> str:
    row = rollouts.find(house.db.read, house.row.uid, generation)
    return row.phase if row else ""


def cards(house: House) -> list[str]:
    return sorted(card for one in house.running() for card in house.engine.specs[one.id].gpus)


async def test_each_replica_has_a_card_of_its_own(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 2))
    await house.settle()
    assert cards(house) == ["GPU-0", "GPU-1"]
    marked = {one.labels[LEASE]: one.id for one in house.running()}
    assert marked == {one.lease: one.container for one in leases.asked.values()}


async def test_who_has_none_waits_in_words_and_is_made_when_there_is_one(house: House, leases: FakeLeases) -> None:
    stranger = leases.take()
    house.declare(on_gpu("one", 2))
    await house.until(lambda: len(house.running()) == 1)
    await house.until(lambda: "waits for 1 GPU, behind" in house.row.message)
    house.clock.now += 10 * house.settings.deploy_deadline_s
    row = await house.until(lambda: True)
    assert (row.phase, phase(house, 1)) == ("Pending", "Rolling"), "its time does not run"
    leases.release(stranger)
    await house.settle()
    assert cards(house) == ["GPU-0", "GPU-1"]


async def test_a_new_revision_that_waits_is_not_undone_and_has_its_time_afterwards(
    house: House, leases: FakeLeases
) -> None:
    surge = {"strategy": "surge"}
    house.declare(on_gpu("one", 1, rollout=surge))
    await house.settle()
    stranger = leases.take()
    house.declare(on_gpu("two", 1, rollout=surge))
    await house.until(lambda: "waits for 1 GPU" in house.row.message)
    house.clock.now += 10 * house.settings.deploy_deadline_s
    await house.until(lambda: True)
    assert house.served == short(house.running("one"))
    house.engine.exit_codes["two"] = 1
    leases.release(stranger)
    await house.until(lambda: house.running("two"))
    house.clock.now += house.settings.deploy_deadline_s / 2
    row = await house.until(lambda: True)
    assert (row.phase, phase(house, 2)) == ("Updating", "Rolling")
    house.engine.exit_codes["two"] = 0
    await house.settle()
    assert house.served == short(house.running("two"))
    assert (phase(house, 1), phase(house, 2)) == ("Superseded", "Serving")


async def test_a_replica_that_is_made_again_keeps_its_card(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 1))
    await house.settle()
    (one,) = house.running()
    waiting = leases.take("impatient", gpus=2)
    house.engine.end(one.id, 1)
    await house.until(lambda: len(house.running()) == 1 and house.running()[0].id != one.id)
    assert cards(house) == ["GPU-0"]
    assert leases.peek(waiting).state == "waits"
    (asked,) = (one for one in leases.asked.values() if one.who.kind == "deployment")
    assert asked.container == house.running()[0].id


async def test_what_leaves_gives_its_card_back(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 2))
    await house.settle()
    house.declare(on_gpu("one", 1))
    await house.settle()
    assert len(leases.left) == 1
    with house.db.write() as db:
        resources.set_deleting(db, house.row.uid, now=house.clock())
    uid = house.row.uid
    async with asyncio.timeout(20):
        while resources.find_uid(house.db.read, uid):
            await house.controller.reconcile(uid)
            await asyncio.sleep(0.005)
    await house.controller.reconcile(uid)
    assert len(leases.left) == 2
    assert not leases.asked


async def test_who_is_not_wanted_any_more_waits_no_more(house: House, leases: FakeLeases) -> None:
    leases.take(gpus=2)
    house.declare(on_gpu("one", 1))
    await house.until(lambda: "waits for 1 GPU" in house.row.message)
    house.declare(spec("one", replicas=1))
    await house.settle()
    assert not [one for one in leases.asked.values() if one.who.kind == "deployment"]


async def test_in_a_swap_the_successor_gets_the_cards_though_others_wait(house: House, leases: FakeLeases) -> None:
    swap = {"strategy": "swap", "hold": 60}
    house.declare(on_gpu("one", 2, rollout=swap))
    await house.settle()
    stranger = leases.take("stranger", gpus=1)
    assert leases.peek(stranger).state == "waits"
    house.declare(on_gpu("two", 2, rollout=swap))
    await house.settle()
    assert house.served == short(house.running("two"))
    assert cards(house) == ["GPU-0", "GPU-1"]
    assert leases.peek(stranger).state == "waits"


async def test_each_one_that_leaves_has_a_successor_of_its_own(house: House, leases: FakeLeases) -> None:
    swap = {"strategy": "swap", "hold": 60}
    leases.lingering = True
    house.declare(on_gpu("one", 2, rollout=swap))
    await house.settle()
    stranger = leases.take("stranger", gpus=1)
    house.declare(on_gpu("two", 2, rollout=swap))
    await house.until(lambda: not house.running("one"))
    await house.until(lambda: not house.controller._acting.leaving(house.row.uid))
    assert leases.peek(stranger).state == "waits"
    leases.arrive()
    await house.settle()
    assert house.served == short(house.running("two"))
    assert leases.peek(stranger).state == "waits"


async def test_what_one_that_is_wanted_no_more_was_to_get_goes_to_the_next(house: House, leases: FakeLeases) -> None:
    swap = {"strategy": "swap", "hold": 60}
    leases.lingering = True
    house.declare(on_gpu("one", 2, rollout=swap))
    await house.settle()
    stranger = leases.take("stranger", gpus=1)
    house.declare(on_gpu("two", 2, rollout=swap))
    await house.until(lambda: not house.running("one") and not house.controller._acting.leaving(house.row.uid))
    house.declare(on_gpu("three", 2, rollout=swap))
    await house.until(lambda: "three" in str(house.row.spec) and len(leases.asked) == 3)
    leases.arrive()
    await house.settle()
    assert house.served == short(house.running("three"))
    assert leases.peek(stranger).state == "waits"


async def test_a_daemon_that_begins_anew_knows_whose_cards_are_whose(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 2))
    await house.settle()
    await house.controller.close()
    house.controller = house.another()
    house.declare(on_gpu("one", 1))
    await house.settle()
    assert len(leases.left) == 1


async def test_a_cpu_type_and_no_type_ask_for_nothing(house: House, leases: FakeLeases) -> None:
    house.declare(spec("one", resources={"instanceType": "C5", "replicas": 1}))
    await house.settle()
    house.declare(spec("two", replicas=1))
    await house.settle()
    assert not leases.asked


async def test_gpus_that_the_engine_refuses_are_no_fault_of_the_replica(
    house: House, leases: FakeLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(container_id: str) -> None:
        raise GpuRefused("the driver was exchanged", hint="reboot")

    house.declare(on_gpu("one", 1))
    with monkeypatch.context() as patch:
        patch.setattr(house.engine, "start", refuse)
        for _ in range(6):
            with suppress(GpuRefused):
                await house.controller.reconcile(house.row.uid)
            house.clock.now += 5
        assert "the driver was exchanged" in house.row.message
        assert len(house.engine.containers) == 1
    await house.settle()
    assert cards(house) == ["GPU-0"]


async def test_a_replica_that_has_lost_its_card_is_made_again_on_the_same(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 1))
    await house.settle()
    (one,) = house.running()
    (asked,) = leases.asked.values()
    house.controller.gpu_lost(house.row.uid, asked.who.part, "its GPU was taken away by a reload of systemd")
    await house.until(lambda: house.running() and house.running()[0].id != one.id)
    await house.settle()
    assert cards(house) == ["GPU-0"]
    told = [event.message for event in events.newest(house.db.read) if event.reason == "Unhealthy"]
    assert len(told) == 1
    assert "taken away by a reload" in told[0]


async def test_what_comes_back_while_the_old_one_leaves_has_a_card_of_its_own(house: House, leases: FakeLeases) -> None:
    house.declare(on_gpu("one", 1))
    await house.settle()
    house.router.gate.clear()
    house.declare(on_gpu("one", 1, enabled=False))
    await house.until(lambda: house.controller._acting.leaving(house.row.uid))
    house.declare(on_gpu("one", 1))
    await house.until(lambda: len(house.running()) == 2)
    assert cards(house) == ["GPU-0", "GPU-1"]
    house.router.gate.set()
    await house.settle()
    assert cards(house) == ["GPU-1"]
    assert [one.cards for one in leases.asked.values()] == [("GPU-1",)]


async def test_what_was_made_with_cards_that_are_others_by_now_is_not_started(
    house: House, leases: FakeLeases, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(container_id: str) -> None:
        raise GpuRefused("no toolkit", hint="install it")

    house.declare(on_gpu("one", 1))
    with monkeypatch.context() as patch:
        patch.setattr(house.engine, "start", refuse)
        with suppress(GpuRefused):
            await house.until(lambda: len(house.engine.containers) == 1)
            await house.controller.reconcile(house.row.uid)
    await house.controller.close()
    (asked,) = leases.asked.values()
    leases.release(asked.who)  # nobody has asked for it for long
    stranger = leases.take("stranger", gpus=1)
    assert leases.peek(stranger).cards == ("GPU-0",)
    house.controller = house.another()
    await house.settle()
    assert cards(house) == ["GPU-1"]


async def test_a_revision_that_has_some_of_its_cards_and_not_all_keeps_them_no_longer_than_its_deadline(
    house: House, leases: FakeLeases
) -> None:
    house.declare(on_gpu("one", 1))
    await house.settle()
    house.declare(on_gpu("two", 2, rollout={"strategy": "surge"}))
    await house.until(lambda: house.running("two") and "waits for 1 GPU" in house.row.message)
    assert not leases.left
    house.clock.now += house.settings.deploy_deadline_s
    await house.until(lambda: phase(house, 2) == "Undone")
    await house.until(lambda: len(leases.left) == 1)
    assert house.served == short(house.running("one"))
    assert "it waits for 1 GPU" in house.row.message


async def test_who_waits_for_what_its_own_predecessor_has_takes_its_place(house: House, leases: FakeLeases) -> None:
    """There was a free card when it was decided that both have room, and a stranger was faster."""
    house.declare(on_gpu("one", 1))
    await house.settle()
    ask = leases.ask

    def faster(who: Who, **more: Any) -> Answer:
        if who.kind == "deployment" and not leases.of("stranger"):
            leases.take()
        return ask(who, **more)

    leases.ask = faster  # type: ignore[method-assign]
    house.declare(on_gpu("two", 1))
    await house.settle()
    assert house.served == short(house.running("two"))
    assert cards(house) == ["GPU-0"]
    told = [event.message for event in events.newest(house.db.read) if event.reason == "Swapping"]
    assert len(told) == 1
    assert "GPUs are free for 0 of its 1 replicas" in told[0]
