"""Every line of many containers, once and in order, while the daemon is killed and the engine restarts.

    TRUTH_CONTAINERS=50 TRUTH_LINES=200000 python -m pytest -s tests/integration/test_log_truth.py

runs it at any size. A container counts its own lines and goes on where it was when the engine has ended it, so what it
printed is known to the line; all it prints fits into the files that the engine keeps of it, as long as nobody reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery, LogSource
from tests.support.restarting_engine import RestartingEngine, restarting_engine

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

CONTAINERS = int(os.environ.get("TRUTH_CONTAINERS", "5"))
LINES = int(os.environ.get("TRUTH_LINES", "6000"))
RESTARTS = int(os.environ.get("TRUTH_RESTARTS", "1"))
KILLS = int(os.environ.get("TRUTH_KILLS", "6"))
FILES = 8
"""That the engine keeps of a container; together they hold all its lines."""
RECORD = 230
"""Bytes of one, at the most: most lines have 70 characters, one in 500 has 20,000."""
LONG = 20_000

PRINTER = """
n=$(cat /state/n 2>/dev/null || echo 0); stop=
trap 'stop=1' TERM
while [ "$n" -lt LINES ] && [ -z "$stop" ]; do
    if [ $((n % 500)) = 7 ]; then printf 'line %d %0LONGd\\n' "$n" 0
    elif [ $((n % 7)) = 3 ]; then echo "line $n on stderr, with some more text in it, so that it is of usual length" >&2
    else echo "line $n on stdout, with some more text in it, so that it is of the usual length"
    fi
    n=$((n + 1))
done
echo "$n" >/state/n
"""
DAEMON = """
import asyncio, json, sys
from pathlib import Path
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

async def main() -> None:
    telemetry = Telemetry(Path(sys.argv[1]), flush_s=0.1, memory_mb=256)
    await telemetry.start()
    for name, container, path in json.loads(sys.argv[2]):
        telemetry.attach(LogSource("run", name, "", container), Path(path))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def line(number: int) -> tuple[str, str]:
    """Stream and text."""
    if number % 500 == 7:
        return "stdout", f"line {number} {'0' * LONG}"
    if number % 7 == 3:
        return "stderr", f"line {number} on stderr, with some more text in it, so that it is of usual length"
    return "stdout", f"line {number} on stdout, with some more text in it, so that it is of the usual length"


async def test_every_line_once_and_in_order(tmp_path: Path) -> None:
    dice = random.Random(11)
    begun = time.monotonic()
    with restarting_engine() as engine:
        logs = [start(engine, number) for number in range(CONTAINERS)]
        file = tmp_path / "telemetry.duckdb"
        restarts, kills = 0, 0
        while running(engine) or restarts < RESTARTS or kills < KILLS:
            with daemon(file, logs) as process:
                if dice.random() < 0.7:
                    assert process.stdout is not None
                    await asyncio.to_thread(process.stdout.readline)
                await asyncio.sleep(dice.uniform(0, 1.0))  # anywhere in its work: that is what is tried
                if restarts < RESTARTS and kills >= restarts * max(1, KILLS // (RESTARTS + 1)):
                    engine.stop()
                    engine.start()
                    restarts += 1
                    engine.docker("start", *(container for _, container, _ in logs))
            kills += 1
        rotated = sum(Path(f"{path}.{FILES - 1}").exists() for _, _, path in logs)
        some = sum(Path(f"{path}.1").exists() for _, _, path in logs)
        telemetry = Telemetry(file, flush_s=0.1, memory_mb=512)
        await telemetry.start()
        try:
            for name, container, path in logs:
                await telemetry.drain(source(name, container), Path(path), timeout_s=600)
            for name, _, _ in logs:
                await check(telemetry, name)
            warnings = telemetry.warnings
        finally:
            await telemetry.stop()
    assert warnings == []
    assert some == CONTAINERS
    assert rotated == 0, "lines may have gone before anybody could read them: the files were too small"
    print(f"{CONTAINERS} x {LINES} lines, {kills} kills, {restarts} restarts: {time.monotonic() - begun:.0f} s")


async def check(telemetry: Telemetry, name: str) -> None:
    """Each stream by itself: the engine does not promise more."""
    expected = {"stdout": 0, "stderr": 0}
    numbers = {stream: iter_numbers(stream) for stream in expected}
    after = 1
    while page := await telemetry.logs(LogQuery(name=name, after=after, limit=20_000)):
        after = page[-1].seq
        for one in page:
            number = next(numbers[one.stream], None)
            assert number is not None, f"{name}: {one.stream} has a line too many: {one.line[:80]}"
            assert (one.stream, one.line) == line(number), f"{name}: line {number} is missing or comes again"
    for stream, rest in numbers.items():
        assert next(rest, None) is None, f"{name}: {stream} ends too early"


def iter_numbers(stream: str) -> Iterator[int]:
    return (number for number in range(LINES) if line(number)[0] == stream)


def start(engine: RestartingEngine, number: int) -> tuple[str, str, str]:
    """Name, container and path of the log."""
    state = engine.folder / f"state-{number}"
    state.mkdir()
    size = max(20_000, LINES * RECORD // (FILES - 3))
    options = ("--log-driver", "json-file", "--log-opt", f"max-size={size}", "--log-opt", f"max-file={FILES}")
    script = PRINTER.replace("LINES", str(LINES)).replace("LONG", str(LONG))
    container = engine.run(script, *options, "-v", f"{state}:/state")
    return f"w.{number}", container, engine.docker("inspect", "-f", "{{.LogPath}}", container)


def running(engine: RestartingEngine) -> bool:
    return bool(engine.docker("ps", "-q"))


def source(name: str, container: str) -> LogSource:
    return LogSource("run", name, "", container)


@contextmanager
def daemon(file: Path, logs: list[tuple[str, str, str]]) -> Iterator[subprocess.Popen[str]]:
    """A process that stores these logs until it is killed."""
    command = [sys.executable, "-c", DAEMON, str(file), json.dumps(logs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
