"""A blocking call of a store, seen from the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from appliance.storage.threads import in_thread

pytestmark = pytest.mark.anyio


async def test_a_cancelled_caller_waits_until_the_call_has_ended() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(30)
        ended.set()

    caller = asyncio.create_task(in_thread(work))
    assert await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0.02)
        assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_caller_that_is_cancelled_before_its_turn_never_calls() -> None:
    called = threading.Event()
    caller = asyncio.create_task(in_thread(called.set))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not called.is_set()


async def test_what_the_call_raises_comes_through() -> None:
    def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_thread(work)
