"""What a workflow costs beside the plain ways to run the same containers, all of them in one run of this script.

    python -m tests.bench.bench_workflows --fan 60 --chain 20 --rounds 3
    python -m tests.bench.bench_workflows --fan 1000 --chain 200 --rounds 1
    python -m tests.bench.bench_workflows --scheduler            # no engine: the daemon's own work alone

A fan-out of jobs without needs, `--parallel` at a time, and a chain in which each job needs the one before; every job
is `true` in `appliance/base`. Contenders, in turns within each round, so that a slow moment of the machine meets all:

ours    a real daemon over its socket, from the request to the end of the run; its memory is looked at on the way
loop    `docker run --rm` from xargs -P
alike   the same with what a job's container has: a network of its own kind, an init process and three binds. The
        difference to the loop is the engine's price for them, most of all that of a network apart from the default one
make    GNU make -j with a target a job
luigi   a Python workflow engine with its local scheduler, where `--luigi PYTHON` names an interpreter that has it
        (`uv venv V && uv pip install --python V/bin/python luigi`). Chosen for being alive on PyPI, without a server,
        and the one with the least overhead a step: a heavier one would only flatter us.

Only ratios within one run count. The target is 1.15 x the loop.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.daemon import RunningDaemon, eventually

IMAGE = "appliance/base"
TARGET = 1.15
LIMIT_S = 3600.0
LOOK_S = 0.25
MARKS = (0.1, 0.5, 1.0)
"""Shares of the jobs at which the daemon's memory is written down."""

LUIGI = """
import subprocess, sys, luigi
work, count, shape, parallel = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

class Job(luigi.Task):
    number = luigi.IntParameter()
    def requires(self):
        return [Job(self.number - 1)] if shape == "chain" and self.number else []
    def output(self):
        return luigi.LocalTarget(f"{work}/{self.number}.done")
    def run(self):
        subprocess.run(["docker", "run", "--rm", "IMAGE", "true"], check=True)
        with self.output().open("w") as file:
            file.write("done")

last = [Job(count - 1)] if shape == "chain" else [Job(number) for number in range(count)]
sys.exit(not luigi.build(last, workers=parallel, local_scheduler=True, log_level="ERROR"))
"""


@dataclass
class Shape:
    name: str
    jobs: int
    parallel: int

    def needs(self, number: int) -> list[str]:
        return [f"job{number - 1}"] if self.name == "chain" and number else []


@dataclass
class Memory:
    """Of the daemon, MiB: now and at most, by share of the jobs that are over."""

    seen: dict[float, tuple[float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{share:.0%}: {now:.0f} (peak {peak:.0f})" for share, (now, peak) in self.seen.items())


class Ours:
    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon = daemon
        self._pid = int(daemon.client.status()["pid"])
        self.memory: dict[str, Memory] = {}
        self.cpu_ms: dict[str, float] = {}
        """What the daemon itself computed, per job of the last round."""

    def __call__(self, shape: Shape) -> float:
        """The step cache is off, or the first job would be the only one."""
        client = self._daemon.client
        lines = ["kind: workflow", f"name: {shape.name}", "jobs:"]
        for number in range(shape.jobs):
            lines += [f"  job{number}:", "    uses: container@v1", "    cache: false", "    with:"]
            lines += [f"      image: {IMAGE}", '      command: ["true"]']
            if needs := shape.needs(number):
                lines += [f"    needs: [{', '.join(needs)}]"]
        client.apply("\n".join(lines), f"{shape.name}.yaml")
        begun, before = time.monotonic(), self._cpu_s()
        number = client.start_run(shape.name)["number"]
        took = self._watch(shape, number, begun)
        self.cpu_ms[shape.name] = 1000 * (self._cpu_s() - before) / shape.jobs
        run = client.get("runs", f"{shape.name}.{number}")
        assert run["phase"] == "Succeeded", run["message"]
        return took

    def _watch(self, shape: Shape, number: int, begun: float) -> float:
        """Reads the daemon's state file: a question over the API would be work for what is measured."""
        memory = self.memory[shape.name] = Memory()
        db = sqlite3.connect(f"{(self._daemon.home / 'state.db').as_uri()}?mode=ro", uri=True)
        try:
            (run,) = db.execute(
                "SELECT id FROM runs WHERE workflow = ? AND number = ?", (shape.name, number)
            ).fetchone()
            while time.monotonic() < begun + LIMIT_S:
                (over,) = db.execute(
                    "SELECT count(*) FROM jobs WHERE run = ? AND finished IS NOT NULL", (run,)
                ).fetchone()
                for share in MARKS:
                    if over >= share * shape.jobs and share not in memory.seen:
                        memory.seen[share] = self._memory()
                created, finished = db.execute("SELECT created, finished FROM runs WHERE id = ?", (run,)).fetchone()
                if finished is not None:
                    return float(finished - created)
                time.sleep(LOOK_S)
        finally:
            db.close()
        raise TimeoutError(f"{shape.name} takes longer than {LIMIT_S:.0f} s")

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _memory(self) -> tuple[float, float]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{self._pid}/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024


def loop(shape: Shape) -> float:
    return docker_run(shape)


def docker_run(shape: Shape, *options: str) -> float:
    parallel = str(shape.parallel if shape.name == "fan" else 1)
    numbers = "\n".join(map(str, range(shape.jobs)))
    return timed(["xargs", "-P", parallel, "-I{}", "docker", "run", "--rm", *options, IMAGE, "true"], stdin=numbers)


def alike(shape: Shape) -> float:
    network = f"bench-{os.getpid()}"
    closed = "com.docker.network.bridge.enable_icc=false"
    subprocess.run(["docker", "network", "create", "-o", closed, network], check=True, stdout=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            binds = [part for target in ("inputs", "outputs", "storage") for part in ("-v", f"{folder}:/{target}")]
            return docker_run(shape, "--network", network, "--init", *binds)
    finally:
        subprocess.run(["docker", "network", "rm", network], check=False, stdout=subprocess.DEVNULL)


def make(shape: Shape) -> float:
    lines = [f"all: {' '.join(f'job{number}' for number in range(shape.jobs))}"]
    for number in range(shape.jobs):
        lines += [f"job{number}: {' '.join(shape.needs(number))}", f"\t@docker run --rm {IMAGE} true"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "Makefile")
        file.write_text("\n".join(lines) + "\n")
        return timed(["make", "-s", "-j", str(shape.parallel), "-f", str(file), "all"])


def luigi(interpreter: str) -> Callable[[Shape], float]:
    def run(shape: Shape) -> float:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "jobs.py")
            script.write_text(LUIGI.replace("IMAGE", IMAGE))
            return timed([interpreter, str(script), folder, str(shape.jobs), shape.name, str(shape.parallel)])

    return run


def timed(argv: list[str], stdin: str = "") -> float:
    begun = time.monotonic()
    subprocess.run(argv, input=stdin, text=True, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_S)
    return time.monotonic() - begun


def report(shape: Shape, times: dict[str, list[float]], ours: Ours) -> bool:
    print(f"\n{shape.name} of {shape.jobs}, {shape.parallel} at a time, load {os.getloadavg()[0]:.1f}")
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        rounds = " ".join(f"{took:.1f}" for took in times[name])
        ratio = median / medians["loop"]
        print(
            f"  {name:<6} {median:7.1f} s  {1000 * median / shape.jobs:7.1f} ms a job  {ratio:5.2f} x loop   [{rounds}]"
        )
    print(f"  the daemon itself: {ours.cpu_ms[shape.name]:.1f} ms of CPU a job")
    print(f"  memory of the daemon, MiB, by jobs that are over: {ours.memory[shape.name]}")
    met = medians["ours"] <= TARGET * medians["loop"]
    print(f"  target {TARGET} x the loop: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fan", type=int, default=60)
    options.add_argument("--chain", type=int, default=20)
    options.add_argument("--parallel", type=int, default=4)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", nargs="*", default=[], help="contenders besides ours and loop")
    options.add_argument("--luigi", default="", help="an interpreter that has luigi")
    options.add_argument("--scheduler", action="store_true", help="the daemon's own work alone, on an engine in memory")
    given = options.parse_args()
    if given.scheduler:
        from tests.bench.scheduler import scheduler

        return scheduler()
    shapes = [Shape("fan", given.fan, given.parallel), Shape("chain", given.chain, given.parallel)]
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))
    daemon = RunningDaemon(home)
    daemon.extra = {"APPLIANCE_MAX_PARALLEL_JOBS": str(given.parallel), "APPLIANCE_RESYNC_S": "30"}
    daemon.start()
    try:
        ours = Ours(daemon)
        contenders: dict[str, Callable[[Shape], float]] = {"ours": ours, "loop": loop, "alike": alike, "make": make}
        if given.luigi:
            contenders["luigi"] = luigi(given.luigi)
        if given.only:
            contenders = {name: run for name, run in contenders.items() if name in ("ours", "loop", *given.only)}
        loop(Shape("fan", given.parallel, given.parallel))  # the first container after a while is slower
        met = [report(shape, _rounds(shape, contenders, given.rounds), ours) for shape in shapes if shape.jobs]
        eventually(lambda: not daemon.running_containers("fan.1"), within_s=60, what="nothing is left")
        return 0 if all(met) else 1
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        daemon.remove_containers()
        if kept := os.environ.get("KEEP_DAEMON_LOG"):
            shutil.copy(daemon.log, kept)
        shutil.rmtree(home, ignore_errors=True)


def _rounds(shape: Shape, contenders: dict[str, Callable[[Shape], float]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run(shape))
    return times


if __name__ == "__main__":
    sys.exit(main())
