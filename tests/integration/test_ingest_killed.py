"""Killed again and again while lines and metrics come in: what was acknowledged is there, once, and the file opens.

INGEST_KILLS=30 python -m pytest -s tests/integration/test_ingest_killed.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

KILLS = int(os.environ.get("INGEST_KILLS", "8"))
SOURCE = LogSource("run", "a.1", "train", "c")
DAEMON = """
import asyncio, itertools, os, sys, time
from pathlib import Path
from appliance.telemetry.database import LINES
from appliance.telemetry.metrics.types import Sample, Subject
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

class Told(Telemetry):
    def _committed(self, batches):
        super()._committed(batches)
        lines = [row[4] for batch in batches for row in batch.rows.get(LINES, ())]
        if lines:
            os.write(1, f"{lines[-1]}\\n".encode())

async def main() -> None:
    telemetry = Told(Path(sys.argv[1]), flush_s=0.02, memory_mb=128)
    await telemetry.start()
    telemetry.attach(LogSource("run", "a.1", "train", "c"), Path(sys.argv[2]))
    whose = Subject("run", "a.1", "train", "c")
    for number in itertools.count(int(sys.argv[3])):
        await telemetry.record([Sample(whose, "loss", float(number), time.time(), step=number)])
        os.write(1, f"metric {number}\\n".encode())

asyncio.run(main())
"""


class Printing(threading.Thread):
    """A container that prints on and on, into files that all stay."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.count = 0
        self.log = EngineLog(path, max_size=4_000_000, max_file=200)
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            for _ in range(200):
                self.log.record(f"line {self.count}\n")
                self.count += 1
        self.log.close()


async def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    dice = random.Random(5)
    file, path = tmp_path / "telemetry.duckdb", tmp_path / "c" / "c-json.log"
    printing = Printing(path)
    printing.start()
    line, metric, landed, unsaid = -1, -1, 0, 0
    try:
        for _ in range(KILLS):
            said = killed(file, path, metric + 1, dice)
            line = max([line, *(int(one.split()[1]) for one in said if one.startswith("line"))])
            metric = max([metric, *(int(one.split()[1]) for one in said if one.startswith("metric"))])
            telemetry = Telemetry(file, flush_s=0.1, memory_mb=256)
            await telemetry.start()
            try:
                assert telemetry.warnings == []
                # what was committed and not acknowledged is not sent again here: it would be there twice
                lines, steps = await check(telemetry, line, metric)
                landed += lines > line + 1
                unsaid += steps > metric + 1
                metric = steps - 1
            finally:
                await telemetry.stop()
    finally:
        printing.ended.set()
        printing.join()
    telemetry = Telemetry(file, flush_s=0.1, memory_mb=256)
    await telemetry.start()
    try:
        await telemetry.drain(SOURCE, path, timeout_s=300)
        assert (await check(telemetry, line, metric))[0] == printing.count
        assert telemetry.warnings == []
    finally:
        await telemetry.stop()
    assert line > 0
    assert metric > 0
    print(
        f"{KILLS} kills, {printing.count} lines, {metric + 1} metrics; committed and not yet acknowledged:"
        f" lines {landed} times, metrics {unsaid} times"
    )


def killed(file: Path, path: Path, metric: int, dice: random.Random) -> list[str]:
    """What the process acknowledged, line by line."""
    command = [sys.executable, "-c", DAEMON, str(file), str(path), str(metric)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(dice.uniform(0, 0.4))  # anywhere in its work: that is what is tried
        process.send_signal(signal.SIGKILL)
        said = (first + process.stdout.read()).split("\n")
    assert first, "the process ended by itself"
    return said[:-1]


async def check(telemetry: Telemetry, line: int, metric: int) -> tuple[int, int]:
    """How many lines and metrics are there: each once, in order, and at least those up to these numbers."""

    def look() -> tuple[int, bool, int, int]:
        with telemetry._store.reading() as connection:
            [[count, ordered]] = connection.execute(
                "SELECT count(*), coalesce(bool_and(line = 'line ' || n), true) FROM"
                " (SELECT line, row_number() OVER (ORDER BY seq) - 1 AS n FROM logs)"
            ).fetchall()
            [[steps, different]] = connection.execute(
                "SELECT count(step), count(DISTINCT step) FROM metrics"
            ).fetchall()
        return count, ordered, steps, different

    count, ordered, steps, different = look()
    assert ordered
    assert count > line
    assert steps == different > metric
    return count, steps
