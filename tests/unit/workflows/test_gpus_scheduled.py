"""Jobs and the scheduler itself, on one database: the one does what the other expects."""

from __future__ import annotations

import asyncio

import pytest

from appliance.gpu.types import Device, Inventory
from appliance.scheduler.scheduler import Scheduler
from appliance.scheduler.types import Who
from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.workflows.submit import cancel_run
from tests.unit.scheduler.house import Watch
from tests.unit.workflows.bodies import events_of, forever
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio

GIB = 2**30
GPU = {"resources": {"instance-type": "P4000"}}
RETRIED = {"limit": 1, "delay": 10}


class Machine:
    """A bench whose scheduler is the real one; `kill` makes both anew."""

    def __init__(self, bench: Bench, cards: int = 1, *, known: bool = True) -> None:
        self.bench = bench
        self.cards = tuple(
            Device(f"GPU-{number}", number, "Quadro P4000", memory=8 * GIB, processes=(), utilisation=0)
            for number in range(cards)
        )
        self.watch = Watch(self.inventory() if known else Inventory(0.0))
        self.watch.known = known
        self.kill()

    def inventory(self) -> Inventory:
        present = bool(self.cards)
        return Inventory(self.bench.clock(), self.cards, "580", "13.0", "found" if present else "none", present=present)

    def kill(self) -> None:
        bench = self.bench
        self.watch.on_inventory.clear()
        self.watch.on_fault.clear()
        self.scheduler = Scheduler(
            db=bench.db, containers=bench.engine.list, watch=self.watch, clock=bench.clock, counter=bench.clock
        )
        bench.leases = self.scheduler
        bench.kill()
        news = bench.controller.gpu_news
        self.scheduler.on_change = bench.controller.lease_changed
        self.scheduler.on_preempt = lambda who, words: news.preempt(who.uid, words, who.part)

    async def passes(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.bench.wait(1)
            self.watch.latest = self.inventory()
            for told in self.watch.on_inventory:
                told(self.watch.latest)
            await self.scheduler.tick()
            await self.bench.settle()

    def holders(self) -> list[str]:
        found = self.scheduler.snapshot().leases
        return sorted(f"{one.held.request.who.name}/{one.held.request.who.part}" for one in found)


def owner(run: runs.Run, job: str) -> Who:
    return Who("run", f"{run.workflow}.{run.number}", run.id, job)


async def test_one_after_the_other_on_one_card(bench: Bench) -> None:
    machine = Machine(bench)
    run = bench.submit(flow(a=script(**GPU), b=script(**GPU)), body={"a": forever, "b": forever})
    await machine.passes(3)
    assert bench.engine.running() == ["a"]
    assert machine.holders() == ["flow.1/a"]
    message = bench.jobs(run)["b"].message
    assert "job a of run flow.1" in message
    machine.kill()
    await machine.passes(3)
    assert machine.holders() == ["flow.1/a"]
    assert bench.engine.running() == ["a"]
    bench.engine.exit("a", 0)
    await bench.settle()
    await machine.passes(3)
    assert bench.engine.running() == ["b"]
    bench.engine.exit("b", 0)
    await bench.settle()
    await machine.passes(3)
    assert bench.run(run).phase == "Succeeded"
    assert machine.holders() == []
    assert [event.reason for event in events_of(bench, "Granted")] == ["Granted"] * 2


async def test_one_that_waits_and_is_canceled_is_in_no_queue(bench: Bench) -> None:
    machine = Machine(bench)
    bench.submit(flow(a=script(**GPU)), body={"a": forever})
    await machine.passes()
    run = bench.submit(flow(b=script(**GPU)), name="other")
    await machine.passes()
    assert len(machine.scheduler.snapshot().waiting) == 1
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    await machine.passes()
    assert machine.scheduler.snapshot().waiting == ()
    assert machine.scheduler.peek(owner(run, "b")).state == "none"


async def test_what_is_more_urgent_takes_its_card_and_it_begins_again_later(bench: Bench) -> None:
    machine = Machine(bench)
    low = bench.submit(
        flow(low=script(**GPU, retry=RETRIED, preemptible=True, priority=-50)), body={"low": forever, "high": forever}
    )
    await machine.passes(2)
    high = bench.submit(flow(high=script(**GPU, priority=50)), name="urgent")
    await machine.passes(100)
    assert bench.engine.running() == ["high"]
    job = bench.jobs(low)["low"]
    assert (job.phase, job.attempt, job.tries) == ("Starting", 2, 1)
    assert "job high of run urgent.1" in job.message
    bench.engine.exit("high", 0)
    await bench.settle()
    await machine.passes(3)
    assert bench.run(high).phase == "Succeeded"
    assert bench.engine.running() == ["low"]


@pytest.mark.parametrize("cards", [0, 1])
async def test_before_the_driver_has_answered_it_waits_and_then_it_gets_on(bench: Bench, cards: int) -> None:
    machine = Machine(bench, cards, known=False)
    await machine.scheduler.begin()
    run = bench.submit(flow(a=script(**GPU)), body={"a": forever})
    await bench.settle()
    assert bench.phases(run) == {"a": "Starting"}
    assert "looked at" in bench.jobs(run)["a"].message
    machine.watch.known = True
    await machine.passes(3)
    assert bench.engine.running() == ["a"]
    (made,) = bench.engine.specs.values()
    assert len(made.gpus) == cards
    assert len(events_of(bench, "Ignored")) == 1 - cards


async def test_a_preparation_that_takes_long_keeps_what_it_was_given(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has cards and does not ask for minutes has them no more."""
    machine = Machine(bench)
    monkeypatch.setattr("appliance.workflows.leasing.KEEP_S", 0.0)

    run = bench.submit(flow(a=script(**GPU)), body={"a": forever})
    await machine.scheduler.begin()
    assert machine.scheduler.ask(owner(run, "a"), machine="P4000", ready=True).state == "granted"
    async with bench.controller._leases.kept(run, "a"):
        for _ in range(400):
            bench.clock.now += 1
            await asyncio.sleep(0)
            machine.watch.latest = machine.inventory()
            await machine.scheduler.tick()
    assert machine.scheduler.peek(owner(run, "a")).state == "granted"


async def test_a_slot_comes_before_the_gpu(bench: Bench) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "1"}, home=bench.settings.home)
    machine = Machine(bench, cards=2)
    body = {"a": forever, "b": forever, "c": forever}
    bench.submit(flow(a=script(**GPU), b=script(**GPU), c=script(**GPU)), body=body)
    await machine.passes(2)
    assert bench.engine.running() == ["a"], "a slot comes first"
    bench.engine.exit("a", 0)
    await bench.settle()
    await machine.passes(3)
    assert bench.engine.running() == ["b"]
