"""Telemetry with real processes that are killed, and with the logs of a real engine."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery, LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

SOURCE = LogSource("run", "digits.1", "train", "c" * 64)
DAEMON = """
import asyncio, sys
from pathlib import Path
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

async def main() -> None:
    telemetry = Telemetry(Path(sys.argv[1]), flush_s=0.02, memory_mb=128)
    await telemetry.start()
    telemetry.attach(LogSource("run", "digits.1", "train", "c" * 64), Path(sys.argv[2]))
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def start_daemon(file: Path, path: Path, limit: int = 0) -> subprocess.Popen[str]:
    def restrict() -> None:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(file), str(path)], stdout=subprocess.PIPE, text=True, preexec_fn=restrict
    )


async def stored(file: Path, path: Path) -> tuple[list[LogLine], list[str]]:
    """All lines, after everything that is left was drained."""
    telemetry = Telemetry(file, flush_s=0.1, memory_mb=256)
    await telemetry.start()
    try:
        await telemetry.drain(SOURCE, path, timeout_s=60)
        lines: list[LogLine] = []
        after = 1
        while page := await telemetry.logs(LogQuery(after=after, limit=50_000)):
            lines += page
            after = page[-1].seq
        return lines, telemetry.warnings
    finally:
        await telemetry.stop()


async def test_kill_at_any_instant_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Long lines in pieces, both streams and rotation, while the reader is killed again and again."""
    dice = random.Random(20250102)
    file, path = tmp_path / "telemetry.duckdb", tmp_path / "c" / "c-json.log"
    engine = EngineLog(path, max_size=400_000, max_file=3)
    expected: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def print_some(count: int) -> None:
        for _ in range(count):
            stream = "stderr" if dice.random() < 0.3 else "stdout"
            number = len(expected[stream])
            line = f"{stream} {number} " + "x" * (40_000 if dice.random() < 0.002 else dice.randrange(120))
            expected[stream].append(line)
            engine.print(line + "\n", stream)

    kills = 12
    for _ in range(kills):
        daemon = start_daemon(file, path)
        try:
            assert daemon.stdout is not None
            if dice.random() < 0.7:
                await asyncio.to_thread(daemon.stdout.readline)
            until = time.monotonic() + dice.uniform(0.05, 0.6)
            while time.monotonic() < until:
                print_some(40)
                await asyncio.sleep(0.01)
        finally:
            daemon.kill()
            daemon.wait()
            assert daemon.stdout is not None
            daemon.stdout.close()
        assert daemon.returncode == -signal.SIGKILL
    engine.print("the end, without a newline")
    expected["stdout"].append("the end, without a newline")
    engine.close()
    lines, warnings = await stored(file, path)
    for stream in expected:
        assert [line.line for line in lines if line.stream == stream] == expected[stream]
    assert len({line.seq for line in lines}) == len(lines)
    assert warnings == []
    assert engine.rotations > 0


async def test_a_full_disk_holds_lines_back_until_there_is_room(tmp_path: Path) -> None:
    """A process that may not write files above 2 MB stands for the full disk; the next one has room again."""
    file, path = tmp_path / "telemetry.duckdb", tmp_path / "c" / "c-json.log"
    engine = EngineLog(path)
    noise = random.Random(1)
    expected = [f"{number} {noise.randbytes(200).hex()}" for number in range(20_000)]
    for line in expected:
        engine.record(line + "\n")
    engine.close()
    daemon = start_daemon(file, path, limit=2_000_000)
    try:
        assert daemon.stdout is not None
        assert await asyncio.to_thread(daemon.stdout.readline) == "ready\n"
        wal = Path(f"{file}.wal")
        await eventually(lambda: wal.exists() and wal.stat().st_size > 500_000)
        await asyncio.sleep(0.5)
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.wait()
        assert daemon.stdout is not None
        daemon.stdout.close()
    lines, warnings = await stored(file, path)
    assert [line.line for line in lines] == expected
    assert warnings == []


async def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.02)
