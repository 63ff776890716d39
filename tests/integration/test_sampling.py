"""What containers use, from the kernel's own files, while they use it and when they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.engine.types import ContainerSpec
from appliance.engine.usage.meter import Meter
from appliance.gpu.types import Inventory
from appliance.sampling.sampler import Sampler
from appliance.telemetry.metrics.types import Sample

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

BUSY = """
import socket, sys
held = bytearray(b"x" * (64 << 20))
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("here", flush=True)
while True:
    here.sendto(b"x" * 1000, (sys.argv[1], 9))
"""
MEMORY = 256 << 20


@pytest.fixture
async def made(engine: Engine, base_image: str) -> AsyncIterator[str]:
    owner = Owner(engine.instance, "run", "busy.1", "uid", "fit", 1, "")
    gateway = await engine.ensure_network()
    found = await engine.create(
        ContainerSpec(
            "sampled-" + engine.instance,
            base_image,
            owner.to_labels(),
            entrypoint=["python3", "-c", BUSY, gateway],
            memory_bytes=MEMORY,
        )
    )
    await engine.start(found.id)
    yield found.id
    await engine.remove(found.id)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not look():  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


async def test_a_busy_container_is_measured_to_its_end(engine: Engine, made: str) -> None:
    container = await engine.inspect(made)
    assert container is not None
    assert container.pid is not None
    meter = Meter.open(container.pid, made)
    assert meter is not None
    first = meter.read()
    assert first is not None
    assert first.memory_limit == MEMORY

    def used() -> bool:
        now = meter.read()
        assert now is not None
        assert first is not None
        return now.memory > 64 << 20 and now.cpu_s > first.cpu_s + 0.2 and (now.sent or 0) > 100_000

    await until(used)
    last = meter.read()
    assert last is not None
    assert last.memory < MEMORY
    assert last.pids
    await engine.kill(made)
    await until(lambda: meter.read() is None)
    assert Meter.open(container.pid, made) is None
    await engine.start(made)
    assert meter.read() is None, "it runs anew: that is another process, and files of another group"
    meter.close()


async def test_it_is_sampled_by_the_name_of_its_owner(engine: Engine, made: str) -> None:
    stored: list[Sample] = []
    sampler = Sampler(
        listing=engine.list,
        inspect=engine.inspect,
        inventory=lambda: Inventory(0.0),
        store=stored.extend,
        asked=time.monotonic,
    )
    running = asyncio.create_task(sampler.run())
    try:
        await until(lambda: any(one.metric == "container_cpu_percent" and one.value > 1 for one in stored))
        own = next(one for one in stored if one.metric == "container_cpu_percent")
        assert (own.subject.kind, own.subject.name, own.subject.part) == ("run", "busy.1", "fit")
        assert own.subject.container == made
        assert {one.subject.kind for one in stored} == {"run", "machine"}
        await engine.kill(made)
        await engine.start(made)
        sampler.noticed(made, "start")
        begun = len(stored)
        await until(lambda: any(one.subject.name == "busy.1" for one in stored[begun:]))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
