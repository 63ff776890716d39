"""Telemetry with real processes that are killed, and with the logs of a real engine."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
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
    while True:
        await asyncio.sleep(0.2)
        _, [[count]] = await telemetry.sql("SELECT count(*) FROM logs")
        print(count, len(telemetry.warnings), flush=True)

asyncio.run(main())
"""


@contextmanager
def daemon(file: Path, path: Path, limit: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that stores this log until it is killed. It may not write files above `limit` bytes."""

    def restrict() -> None:
        if limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    command = [sys.executable, "-c", DAEMON, str(file), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=restrict) as process:
        try:
            yield process
        finally:
            process.kill()


async def say(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> None:
    """Wait until the process prints such a line."""
    assert process.stdout is not None
    with anyio.fail_after(60):
        while not wanted(line := await asyncio.to_thread(process.stdout.readline)):
            assert line, "the process has ended"


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

    def begin_line() -> None:
        expected["stdout"].append(f"stdout {len(expected['stdout'])} begun, ")
        engine.record(expected["stdout"][-1])

    def end_line() -> None:
        expected["stdout"][-1] += "ended"
        engine.record("ended\n")

    def print_some(count: int) -> None:
        for _ in range(count):
            line = f"stderr {len(expected['stderr'])} " + "x" * (
                40_000 if dice.random() < 0.002 else dice.randrange(120)
            )
            expected["stderr"].append(line)
            engine.print(line + "\n", "stderr")

    for _ in range(12):
        with daemon(file, path) as process:
            if dice.random() < 0.8:
                await say(process, lambda line: line == "ready\n")
            until = time.monotonic() + dice.uniform(0.05, 0.6)
            while time.monotonic() < until:
                begin_line()
                print_some(40)
                await asyncio.sleep(dice.uniform(0, 0.1))
                end_line()
        assert process.returncode == -signal.SIGKILL
    begin_line()  # and never ended
    engine.close()
    lines, warnings = await stored(file, path)
    for stream in expected:
        assert [line.line for line in lines if line.stream == stream] == expected[stream]
    assert len({line.seq for line in lines}) == len(lines)
    assert warnings == []
    assert engine.rotations > 0


async def test_a_full_disk_holds_lines_back_until_there_is_room(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    file, path = tmp_path / "telemetry.duckdb", tmp_path / "c" / "c-json.log"
    engine = EngineLog(path)
    noise = random.Random(1)
    expected = [f"{number} {noise.randbytes(200).hex()}" for number in range(20_000)]
    for line in expected:
        engine.record(line + "\n")
    engine.close()
    with daemon(file, path, limit=2_000_000) as process:
        await say(process, lambda line: line.endswith(" 1\n"))  # one warning
        assert file.with_name(f"{file.name}.wal").stat().st_size <= 2_000_000
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await say(process, lambda line: line == f"{len(expected)} 1\n")
    lines, warnings = await stored(file, path)
    assert [line.line for line in lines] == expected
    assert warnings == []


PRINTER = """
import sys, time
for number in range(200_000):
    print(f"line {number} " + "x" * 90)
sys.stdout.flush()
print("y" * 50_000, flush=True)
print("trouble", file=sys.stderr)
print("10%\\r20%\\r30%", file=sys.stderr, flush=True)
sys.stdout.buffer.write(b"bad \\xff\\xfe bytes\\n")
sys.stdout.buffer.write("\\x1b[32mgreen\\x1b[0m grün\\n".encode())
sys.stdout.buffer.flush()
print("no newline at the end", end="", flush=True)
"""


class Container:
    def __init__(self, image: str, program: str, *options: str) -> None:
        run = ["run", "-d", "--network", "none", "--label", "appliance.test=telemetry", *options]
        self.id = docker(*run, "--entrypoint", "python3", image, "-c", program)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *args: object) -> None:
        docker("rm", "-f", self.id)

    @property
    def path(self) -> Path:
        return Path(docker("inspect", "-f", "{{.LogPath}}", self.id))

    @property
    def source(self) -> LogSource:
        return LogSource("run", "digits.1", "train", self.id)


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True, timeout=120).stdout.strip()


@pytest.mark.docker
async def test_a_real_container_that_outruns_its_log_files(tmp_path: Path, base_image: str) -> None:
    """200,000 lines are 42 MB of records; the engine keeps 30 MB of them."""
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.5, memory_mb=256)
    await telemetry.start()
    try:
        options = ("--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=3")
        with Container(base_image, PRINTER, *options) as container:
            telemetry.attach(container.source, container.path)
            docker("wait", container.id)
            await telemetry.drain(container.source, container.path, timeout_s=120)
        lines: list[LogLine] = []
        after = 1
        while page := await telemetry.logs(LogQuery(after=after, limit=50_000)):
            lines += page
            after = page[-1].seq
    finally:
        await telemetry.stop()
    out = [line.line for line in lines if line.stream == "stdout"]
    assert telemetry.warnings == []
    assert out[:200_000] == [f"line {number} " + "x" * 90 for number in range(200_000)]
    assert out[200_000:] == [
        "y" * 50_000,
        "bad \ufffd\ufffd bytes",
        "\x1b[32mgreen\x1b[0m grün",
        "no newline at the end",
    ]
    assert [line.line for line in lines if line.stream == "stderr"] == ["trouble", "30%"]
    assert all(abs(line.at - time.time()) < 600 for line in lines)


@pytest.mark.docker
async def test_a_real_container_is_followed_live_and_restarted(tmp_path: Path, base_image: str) -> None:
    program = "import time\nprint('begun', flush=True)\ntime.sleep(1)\nprint('ended', end='', flush=True)"
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.1, memory_mb=128)
    await telemetry.start()
    try:
        with Container(base_image, program, "--log-driver", "json-file") as container:
            telemetry.attach(container.source, container.path)
            async with aclosing(telemetry.follow(LogQuery(name="digits.1"))) as batches:
                with anyio.fail_after(60):
                    assert [line.line for line in await anext(batches)] == ["begun"]
                    docker("wait", container.id)
                    await telemetry.drain(container.source, container.path)
                    assert [line.line for line in await anext(batches)] == ["ended"]
                    docker("start", container.id)
                    telemetry.attach(container.source, container.path)
                    assert [line.line for line in await anext(batches)] == ["begun"]
            docker("wait", container.id)
            await telemetry.drain(container.source, container.path)
            await telemetry.drain(container.source, container.path)
        lines = await telemetry.logs(LogQuery())
        assert [line.line for line in lines] == ["begun", "ended", "begun", "ended"]
    finally:
        await telemetry.stop()
