"""What a container uses, read from the kernel while it uses it."""

from __future__ import annotations

import asyncio

import pytest

from appliance.engine import cgroups
from appliance.engine.cgroups import Usage
from appliance.engine.docker import Engine
from appliance.engine.labels import Owner
from appliance.engine.types import ContainerSpec

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

BUSY = "held = bytearray(b'x' * (64 << 20))\nprint('here', flush=True)\nwhile True: pass"


async def test_processor_and_memory_of_a_busy_container(engine: Engine, base_image: str) -> None:
    owner = Owner(engine.instance, "run", "busy", "uid", "", 1, "")
    made = await engine.create(
        ContainerSpec("busy-" + engine.instance, base_image, owner.to_labels(), entrypoint=["python3", "-c", BUSY])
    )
    await engine.start(made.id)

    async def usage() -> Usage:
        found = await engine.inspect(made.id)
        assert found is not None
        assert found.pid is not None
        used = cgroups.read(found.pid, made.id)
        assert used is not None
        assert cgroups.read(found.pid, "0" * 64) is None
        return used

    async with asyncio.timeout(120):
        while (first := await usage()).memory < 64 << 20:  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)
        while (await usage()).cpu_s < first.cpu_s + 0.2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert first.memory < 1 << 30
    await engine.remove(made.id)
    assert await engine.inspect(made.id) is None
