"""Images beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import pytest

from appliance.engine.preparing import RETRY_FIRST_S, Preparing
from appliance.errors import ImageNotFound
from tests.conftest import Clock

pytestmark = pytest.mark.anyio


class Images:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.calls = 0

    async def ensure(
        self, ref: str, progress: Callable[[str], None] = print, *, registries: Collection[str] = ()
    ) -> str:
        self.calls += 1
        progress(f"pulling {ref}")
        await self.gate.wait()
        if self.error:
            raise self.error
        return f"id of {ref}"


async def test_an_image_that_is_here_is_ready_at_once(clock: Clock) -> None:
    images = Images()
    images.gate.set()
    preparing = Preparing(images, clock, lambda owner: None)
    assert preparing.peek("a", "x", asked=0).state == "unknown"
    assert (await preparing.ensure("a", "x", asked=0)).id == "id of x"
    assert preparing.peek("a", "x", asked=0).state == "ready"
    assert preparing.peek("a", "y", asked=0).state == "unknown"


async def test_a_slow_image_tells_its_progress_and_calls_back(clock: Clock) -> None:
    images, done = Images(), asyncio.Queue[str]()
    preparing = Preparing(images, clock, done.put_nowait)
    found = await preparing.ensure("a", "x", asked=0)
    assert (found.state, found.message) == ("busy", "pulling x")
    await preparing.ensure("a", "x", asked=0)
    assert images.calls == 1
    images.gate.set()
    async with asyncio.timeout(60):
        assert await done.get() == "a"
    assert preparing.peek("a", "x", asked=0).id == "id of x"


async def test_a_failure_waits_for_its_pause_or_for_the_user(clock: Clock) -> None:
    images = Images()
    images.gate.set()
    images.error = ImageNotFound("no image x", hint="check the name")
    preparing = Preparing(images, clock, lambda owner: None)
    found = await preparing.ensure("a", "x", asked=0)
    assert (found.state, found.message) == ("failed", "image x: no image x; check the name")
    assert found.retry_at == clock.now + RETRY_FIRST_S
    await preparing.ensure("a", "x", asked=0)
    assert images.calls == 1
    clock.now += RETRY_FIRST_S
    again = await preparing.ensure("a", "x", asked=0)
    assert images.calls == 2
    assert again.retry_at == clock.now + 2 * RETRY_FIRST_S
    assert preparing.peek("a", "x", asked=5).state == "unknown"
    await preparing.ensure("a", "x", asked=5)
    assert images.calls == 3


async def test_another_image_ends_the_work_on_the_first(clock: Clock) -> None:
    images = Images()
    preparing = Preparing(images, clock, lambda owner: None)
    await preparing.ensure("a", "x", asked=0)
    images.gate.set()
    assert (await preparing.ensure("a", "y", asked=0)).id == "id of y"
    await preparing.close()
