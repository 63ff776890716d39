"""What programs print, from the engine's file through the database to a reader."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery, LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

SOURCE = LogSource("run", "a.1", "train", "c")
PRINTED = {
    "\x1b[1;31mERR\x1b[0mOR: out of memory\n": "\x1b[1;31mERR\x1b[0mOR: out of memory",
    "\x1b]8;;http://x/\x1b\\a link\x1b]8;;\x1b\\ here\n": "\x1b]8;;http://x/\x1b\\a link\x1b]8;;\x1b\\ here",
    "nul \0 inside\n": "nul \0 inside",
    "dos\r\n": "dos",
    "10%\r20%\r100% done\n": "100% done",
    "\n": "",
    "x" * 1_000_000 + "\n": "x" * 1_000_000,
    "'; DROP TABLE logs; -- % _ \\ \"\n": "'; DROP TABLE logs; -- % _ \\ \"",
    "grün 日本 \U0001f600 \u2028 \ufffd\n": "grün 日本 \U0001f600 \u2028 \ufffd",
}


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.05, memory_mb=256)
    await telemetry.start()
    log = EngineLog(tmp_path / "c" / "c-json.log")
    for printed in PRINTED:
        log.print(printed)
    log.close()
    await telemetry.drain(SOURCE, log.path)
    yield telemetry
    await telemetry.stop()


async def test_lines_come_back_as_they_read(telemetry: Telemetry) -> None:
    assert [line.line for line in await telemetry.logs(LogQuery())] == list(PRINTED.values())


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("error: out", 0),
        ("[0mOR", 0),
        ("A LINK HERE", 1),
        ("\0 inside", 2),
        ("DONE", 4),
        ("'; drop", 7),
        ("% _ \\", 7),
        ("日本", 8),
        ("\U0001f600 \u2028", 8),
    ],
)
async def test_what_is_read_is_found(telemetry: Telemetry, wanted: str, found: int) -> None:
    """Colours are not in the way; nothing in the text has a meaning."""
    lines = await telemetry.logs(LogQuery(contains=wanted))
    assert [line.line for line in lines] == [list(PRINTED.values())[found]]


async def test_what_a_terminal_would_not_show_is_not_found(telemetry: Telemetry) -> None:
    assert await telemetry.logs(LogQuery(contains="20%")) == []
    assert await telemetry.logs(LogQuery(contains="no such text")) == []
