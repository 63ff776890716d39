"""A log that cannot be stored: the first tries fail, then the container goes on and what is missing is said."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from appliance.errors import TelemetryError
from appliance.telemetry.draining import TRIES, Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

pytestmark = pytest.mark.anyio

SOURCE = LogSource("notebook", "nb", "", "c1")


class FakeTelemetry:
    broken = True

    async def drain(self, source: LogSource, log_path: Path, *, timeout_s: float) -> None:
        if self.broken:
            raise TelemetryError("the disk is full")


async def test_it_gives_up_after_its_tries_and_stays_so_until_a_success(tmp_path: Path) -> None:
    telemetry = FakeTelemetry()
    draining = Draining(cast(Telemetry, telemetry))
    for _ in range(TRIES - 1):
        with pytest.raises(TelemetryError):
            await draining.drain(SOURCE, tmp_path)
    assert await draining.drain(SOURCE, tmp_path) == "the disk is full"
    assert await draining.drain(SOURCE, tmp_path) == "the disk is full"
    telemetry.broken = False
    assert await draining.drain(SOURCE, tmp_path) == ""
    telemetry.broken = True
    with pytest.raises(TelemetryError):
        await draining.drain(SOURCE, tmp_path)
