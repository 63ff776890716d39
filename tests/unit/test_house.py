"""What runs beside the servers survives what nobody foresaw."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance import house
from appliance.errors import NoSpace
from appliance.workflows.kept.steady import JUMP_S, SETTLED_S, Steady

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


async def test_runs_are_let_go_by_age_only_while_the_clock_is_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, ahead = 0.0, 1_800_000_000.0
    told: list[bool] = []

    class Enough(Exception):
        pass

    async def tend(now: float, *, by_age: bool) -> None:
        nonlocal passed, ahead
        assert now == passed + ahead
        told.append(by_age)
        passed += SETTLED_S
        if len(told) == 2:
            ahead += 2 * JUMP_S
        if len(told) == 4:
            raise Enough

    parts = SimpleNamespace(clock=lambda: passed + ahead)
    stand_in: Any = SimpleNamespace(parts=parts, runs=SimpleNamespace(tend=tend), steady=Steady())
    monkeypatch.setattr(house, "TEND_S", 0.0)
    monkeypatch.setattr("appliance.house.time", SimpleNamespace(monotonic=lambda: passed))
    with pytest.raises(Enough):
        await house.House._tend_runs(cast(house.House, stand_in))
    assert told == [False, True, False, True]
