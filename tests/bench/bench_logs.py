"""How many log lines a second telemetry stores, beside `docker logs` counting the same ones, in one run.

    python -m tests.bench.bench_logs [LINES]

First a container prints that many at full speed through several rotations of its log, once each for a `docker logs -f`,
for a bare tail of the engine's file that only counts newlines, and for telemetry: from its start until each has all,
and how many lines each has missed.

Then one container prints the lines (default 500,000). Both read the finished log from its beginning to its end:
`docker logs ID | wc -l`, which stores nothing, and a drain into an empty database, which returns when every line is
committed. They take turns, so that a slow moment of the machine meets both. A third figure has telemetry follow while
the container prints. Needs a Docker engine, and the image named by BENCH_IMAGE (default: appliance/base).
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from appliance.telemetry.tail import Tail
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogSource

ROUNDS = 3
REST_S = 20.0
SILENT = 10
IMAGE = os.environ.get("BENCH_IMAGE", "appliance/base")
ROTATED = ("--log-opt", "max-size=20m", "--log-opt", "max-file=3")
PRINTER = "import sys; sys.stdout.writelines(f'step {n} loss=0.1234 ' + 'x' * 60 + chr(10) for n in range(%d))"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500_000
    live(count)
    container = start(PRINTER % count)
    try:
        path = Path(docker("inspect", "-f", "{{.LogPath}}", container))
        _, used = asyncio.run(store(path, count, follow=container))
        print(f"{count} lines, {path.stat().st_size / 1e6:.0f} MB of records")
        print(f"while it prints: CPU {used:.2f} s, {count / used:,.0f} lines per second of CPU")
        counting, storing = [], []
        for _ in range(ROUNDS):
            counting.append(count_lines(container, count))
            storing.append(asyncio.run(store(path, count))[0])
        report("docker logs | wc -l", count, counting)
        report("telemetry, stored", count, storing)
        print(f"ratio of lines/s {statistics.median(counting) / statistics.median(storing):.2f}")
    finally:
        docker("rm", "-f", container)
    asyncio.run(rest())


async def store(path: Path, count: int, follow: str = "") -> tuple[float, float]:
    """Drain this log into an empty database: seconds, and CPU seconds of this process."""
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(Path(folder) / "telemetry.duckdb", flush_s=0.5, memory_mb=512)
        await telemetry.start()
        source = LogSource("run", "bench.1", "print", "c" * 64)
        begun, before = time.monotonic(), cpu_s()
        if follow:
            telemetry.attach(source, path)
            await asyncio.to_thread(docker, "wait", follow)
        await telemetry.drain(source, path, timeout_s=600)
        took, used = time.monotonic() - begun, cpu_s() - before
        _, [[stored]] = await telemetry.sql("SELECT count(DISTINCT line) FROM logs", timeout_s=120)
        await telemetry.stop()
    assert stored == count, f"{stored} of {count} lines"
    return took, used


def live(count: int) -> None:
    """Lines per second while a container prints as fast as it can."""
    ways = {"docker logs -f": follow_logs, "bare tail": follow_bare, "telemetry, stored": follow_stored}
    took: dict[str, list[float]] = {name: [] for name in ways}
    missed = dict.fromkeys(ways, 0)
    rotations = 0
    for _ in range(ROUNDS):
        for name, follow in ways.items():
            container = start(PRINTER % count, *ROTATED)
            begun = time.monotonic()
            try:
                path = Path(docker("inspect", "-f", "{{.LogPath}}", container))
                missed[name] += count - follow(container, path, count)
                took[name].append(time.monotonic() - begun)
                rotations = len(list(path.parent.glob(f"{path.name}.*")))
            finally:
                docker("rm", "-f", container)
    print(f"while a container prints {count} lines, {rotations} older files kept ({' '.join(ROTATED)}):")
    for name, times in took.items():
        report(name, count, times)
        print(f"{'':<20} missed {missed[name]} of {ROUNDS * count} lines")
    bare, stored = (statistics.median(took[name]) for name in ("bare tail", "telemetry, stored"))
    print(f"telemetry beside the bare tail: {bare / stored:.2f}")


def follow_logs(container: str, _path: Path, _count: int) -> int:
    with subprocess.Popen(["docker", "logs", "-f", container], stdout=subprocess.PIPE) as logs:
        counted = subprocess.run(["wc", "-l"], stdin=logs.stdout, capture_output=True, check=True).stdout
    return int(counted)


def follow_bare(container: str, path: Path, _count: int) -> int:
    """As little as one can do and still see every line."""
    tail = Tail(path)
    seen = 0
    with subprocess.Popen(["docker", "wait", container], stdout=subprocess.DEVNULL) as waiting:
        ended = False
        while True:
            while tail.poll() and (block := tail.read()):
                seen += block.count(b"\n")
            if ended:
                break
            ended = waiting.poll() is not None
            if not ended:
                time.sleep(0.01)
    tail.close()
    return seen


def follow_stored(container: str, path: Path, _count: int) -> int:
    return asyncio.run(_follow_stored(container, path))


async def _follow_stored(container: str, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(Path(folder) / "telemetry.duckdb", flush_s=0.5, memory_mb=512)
        await telemetry.start()
        source = LogSource("run", "bench.1", "print", container)
        telemetry.attach(source, path)
        await asyncio.to_thread(docker, "wait", container)
        await telemetry.drain(source, path, timeout_s=600)
        _, [[stored]] = await telemetry.sql("SELECT count(DISTINCT line) FROM logs", timeout_s=120)
        await telemetry.stop()
    return int(stored)


async def rest() -> None:
    """The cost of silent containers."""
    with tempfile.TemporaryDirectory() as folder:
        telemetry = Telemetry(Path(folder) / "telemetry.duckdb", flush_s=0.5, memory_mb=512)
        await telemetry.start()
        for number in range(SILENT):
            path = Path(folder) / f"{number}-json.log"
            path.touch()
            telemetry.attach(LogSource("notebook", f"n{number}", "", f"c{number}"), path)
        await asyncio.sleep(6)
        before = cpu_s()
        await asyncio.sleep(REST_S)
        print(f"{SILENT} silent containers: {100 * (cpu_s() - before) / REST_S:.2f} % of a core over {REST_S:.0f} s")
        await telemetry.stop()


def count_lines(container: str, count: int) -> float:
    begun = time.monotonic()
    with subprocess.Popen(["docker", "logs", container], stdout=subprocess.PIPE) as logs:
        counted = subprocess.run(["wc", "-l"], stdin=logs.stdout, capture_output=True, check=True).stdout
    assert int(counted) == count
    return time.monotonic() - begun


def report(name: str, count: int, times: list[float]) -> None:
    rates = ", ".join(f"{count / took:,.0f}" for took in times)
    print(f"{name:<20} median {count / statistics.median(times):,.0f} lines/s ({rates})")


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def start(program: str, *rotation: str) -> str:
    options = ("--network", "none", "--log-driver", "json-file", *(rotation or ("--log-opt", "max-size=1g")))
    return docker(
        "run", "-d", *options, "--label", "appliance.bench=logs", "--entrypoint", "python3", IMAGE, "-c", program
    )


def docker(*argv: str) -> str:
    return subprocess.run(["docker", *argv], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
