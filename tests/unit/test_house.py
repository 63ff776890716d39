"""What runs beside the servers survives what nobody foresaw."""

from __future__ import annotations

import asyncio

import pytest

from appliance import house
from appliance.errors import NoSpace

pytestmark = pytest.mark.anyio


async def test_a_part_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "RETRY_S", 0.0)
    ends: list[Exception] = [NoSpace("the disk is full"), RuntimeError("a defect")]
    begun = asyncio.Semaphore(0)

    async def work() -> None:
        begun.release()
        if ends:
            raise ends.pop(0)
        await asyncio.Event().wait()

    task = asyncio.create_task(house._keep("part", work))
    async with asyncio.timeout(60):
        for _ in range(3):
            await begun.acquire()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
