"""A house per test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.deployments import prober
from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.deployments.house import House


@pytest.fixture
async def house(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async def until(at: float, clock: Callable[[], float]) -> None:
        while clock() < at:  # noqa: ASYNC110 -- a clock that a test moves tells nobody
            await asyncio.sleep(0.005)

    monkeypatch.setattr(prober, "_until", until)
    settings.home.mkdir(parents=True)
    house = House(settings, clock)
    try:
        yield house
    finally:
        await house.controller.close()
        house.db.close()
