"""When is looked at what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from appliance.engine.labels import Owner
from appliance.engine.types import Container
from appliance.engine.usage.counters import Counters
from appliance.errors import EngineDown
from appliance.gpu.types import Device, Inventory, Process
from appliance.sampling import sampler as module
from appliance.sampling.sampler import Sampler
from appliance.scheduler import programs
from appliance.telemetry.metrics.types import Sample

pytestmark = pytest.mark.anyio


class FakeMeter:
    def __init__(self, counters: Counters | None) -> None:
        self.counters = counters
        self.closed = 0
        self.reading: Callable[[], None] = lambda: None

    def read(self) -> Counters | None:
        assert not self.closed, "read after it was closed"
        self.reading()
        assert not self.closed, "closed while it was read"
        return self.counters

    def close(self) -> None:
        self.closed += 1


class World:
    """An engine, its containers and two clocks."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = float("-inf")
        self.down = False
        self.containers: dict[str, Container] = {}
        self.meters: list[FakeMeter] = []
        self.listings = 0
        self.stored: list[list[Sample]] = []
        self.inventory = Inventory(0.0)
        self.sampler = Sampler(
            listing=self.listed,
            inspect=self.inspect,
            inventory=lambda: self.inventory,
            store=self.stored.append,
            asked=lambda: self.asked,
            clock=lambda: self.now + 1_800_000_000,
            counter=lambda: self.now,
            open_meter=self.open,  # type: ignore[arg-type]
        )

    def add(self, name: str, kind: str = "run", state: str = "running") -> None:
        labels = Owner("i", kind, name, "uid", "part").to_labels()
        self.containers[name] = Container(name, name, "image", "", labels, state, pid=7)

    async def listed(self) -> Sequence[Container]:
        self.listings += 1
        if self.down:
            raise EngineDown("gone")
        return list(self.containers.values())

    async def inspect(self, container: str) -> Container | None:
        return self.containers.get(container)

    def open(self, pid: int, container: str) -> FakeMeter | None:
        if container == "opaque":
            return None
        self.meters.append(FakeMeter(Counters(0.0, 5)))
        return self.meters[-1]

    async def after(self, seconds: float) -> list[Sample] | None:
        """A tick so much later; what was stored, None: nobody looked."""
        self.now += seconds
        before = len(self.stored)
        await self.sampler.tick()
        return self.stored[-1] if len(self.stored) > before else None


@pytest.fixture
def world() -> World:
    return World()


def whose(found: list[Sample] | None) -> set[str]:
    assert found is not None
    return {one.subject.name or one.subject.kind for one in found}


async def test_a_run_is_looked_at_each_second(world: World) -> None:
    world.add("train")
    assert whose(await world.after(0)) == {"train", "machine"}
    world.meters[0].counters = Counters(1.5, 5)
    found = await world.after(1)
    assert found is not None
    [cpu] = [one for one in found if one.metric == "container_cpu_percent"]
    assert cpu.value == 150
    assert cpu.at == world.now + 1_800_000_000
    assert (cpu.subject.kind, cpu.subject.part, cpu.subject.container) == ("run", "part", "train")


async def test_a_notebook_is_looked_at_seldom_until_somebody_looks(world: World) -> None:
    world.add("lab", kind="notebook")
    assert whose(await world.after(0)) == {"lab", "machine"}
    assert await world.after(1) is None
    assert await world.after(8) is not None
    world.asked = world.now
    assert await world.after(1) is not None
    assert await world.after(1) is not None
    assert await world.after(module.LOOKED_S) is not None
    assert await world.after(1) is None


async def test_one_that_starts_is_looked_at_at_once(world: World) -> None:
    await world.after(0)
    world.add("quick", kind="notebook")
    assert await world.after(1) is None
    world.sampler.noticed("quick", "start")
    assert whose(await world.after(0)) == {"quick", "machine"}
    world.sampler.noticed("quick", "die")
    assert await world.after(1) is None


async def test_one_that_starts_anew_has_another_meter(world: World) -> None:
    world.add("again")
    await world.after(0)
    world.sampler.noticed("again", "start")
    assert whose(await world.after(0.5)) == {"again", "machine"}
    assert [meter.closed for meter in world.meters] == [1, 0]


async def test_one_that_has_ended_is_let_go(world: World) -> None:
    world.add("train")
    world.add("other")
    await world.after(0)
    world.meters[0].counters = None
    assert len(whose(await world.after(1))) == 2
    assert sorted(meter.closed for meter in world.meters) == [0, 1]
    del world.containers["train"], world.containers["other"]
    await world.after(module.LISTING_S)
    assert [meter.closed for meter in world.meters] == [1, 1]


async def test_strangers_and_those_that_do_not_run_are_left_alone(world: World) -> None:
    world.add("made", state="created")
    world.add("opaque")
    world.containers["foreign"] = Container("foreign", "foreign", "image", "", {}, "running", pid=8)
    assert whose(await world.after(0)) == {"machine"}


async def test_while_the_engine_is_away_those_known_are_looked_at(world: World) -> None:
    world.add("train")
    await world.after(0)
    world.down = True
    assert whose(await world.after(module.LISTING_S)) == {"train", "machine"}
    listings = world.listings
    await world.after(module.RETRY_S)
    assert world.listings == listings + 1, "it is asked again soon"


async def test_an_engine_that_is_back_is_asked_at_once(world: World) -> None:
    world.down = True
    assert whose(await world.after(0)) == {"machine"}
    world.down = False
    world.add("train")
    assert await world.after(1) is None
    world.sampler.look_anew()
    assert whose(await world.after(0)) == {"train", "machine"}


async def test_a_meter_is_not_closed_while_it_is_read(world: World) -> None:
    world.add("train")
    await world.after(0)
    loop = asyncio.get_running_loop()

    def restart() -> None:
        done = asyncio.run_coroutine_threadsafe(started(), loop)
        done.result(60)

    async def started() -> None:
        world.sampler.noticed("train", "start")

    world.meters[0].reading = restart
    assert whose(await world.after(1)) == {"train", "machine"}
    assert world.meters[0].closed == 1


async def test_what_the_programs_of_a_container_have_of_a_card(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(inventory: Inventory, known: Any) -> programs.Programs:
        return programs.Programs({5: "train"} if "train" in known else {})

    monkeypatch.setattr(programs, "look", look)
    world.add("train")
    at = world.now + 1_800_000_000
    world.inventory = Inventory(at, (Device("GPU-1", 0, processes=(Process(5, 77, 3),)),))
    found = await world.after(0)
    assert found is not None
    assert {(one.metric, one.value) for one in found if "gpu" in one.metric} == {
        ("container_gpu_memory_bytes", 77.0),
        ("container_gpu_percent", 3.0),
    }
    later = await world.after(module.GPUS_S)
    assert later is not None
    assert [one for one in later if "gpu" in one.metric] == [], "what was seen long ago is not told as of now"


async def test_it_goes_on_by_itself_and_closes_what_it_opened(world: World) -> None:
    world.add("train")
    running = asyncio.create_task(world.sampler.run())
    with anyio.fail_after(60):
        while not world.stored:  # noqa: ASYNC110 -- nobody tells
            await anyio.sleep(0.01)
        world.add("late")
        world.sampler.noticed("late", "start")
        while "late" not in whose(world.stored[-1]):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [meter.closed for meter in world.meters] == [1, 1]
