"""A copy of the database while lines come in and are read: whole, and nothing is lost beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from appliance.errors import TelemetryError
from appliance.telemetry import reader
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery, LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

BOX = LogSource("notebook", "nb", "", "container")


@pytest.fixture
async def telemetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Telemetry]:
    monkeypatch.setattr(reader, "POLL_BUSY_S", 0.01)
    monkeypatch.setattr(reader, "POLL_QUIET_S", 0.01)
    running = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await running.start()
    yield running
    await running.stop()


async def until(telemetry: Telemetry, count: int) -> list[LogLine]:
    with anyio.fail_after(120):
        while len(lines := await telemetry.logs(LogQuery(name="nb", limit=100_000))) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return lines


async def test_a_copy_holds_what_was_stored_and_the_original_goes_on(telemetry: Telemetry, tmp_path: Path) -> None:
    log = EngineLog(tmp_path / "box" / "json.log")
    telemetry.attach(BOX, log.path)
    written = 0
    for number in range(4):
        for _ in range(500):
            log.print(f"line {written}\n")
            written += 1
        stored = len(await until(telemetry, written - 400))
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        async with aclosing(telemetry.follow(LogQuery(name="nb", limit=1))) as following:
            await anext(following)
            await telemetry.copy(copy)
        again = Telemetry(copy / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
        await again.start()
        lines = [line.line for line in await again.logs(LogQuery(name="nb", limit=100_000))]
        await again.stop()
        assert again.warnings == []
        assert len(lines) >= stored
        assert lines == [f"line {index}" for index in range(len(lines))]
    assert [line.line for line in await until(telemetry, written)] == [f"line {index}" for index in range(written)]
    log.close()


async def test_a_copy_that_cannot_be_made_is_told(telemetry: Telemetry, tmp_path: Path) -> None:
    with pytest.raises(TelemetryError, match="could not be copied"):
        await telemetry.copy(tmp_path / "nowhere")
    await telemetry.stop()
    with pytest.raises(TelemetryError):
        await telemetry.copy(tmp_path)
