"""How long `appliance status -o json` takes with 200 stored runs, beside `docker ps`, in one run; and the idle daemon.

    python -m tests.bench.bench_status

Prints medians of whole processes, start of the interpreter included, their ratio, and the daemon's CPU share over
half a minute of rest. The command runs from compiled bytecode, as install.sh installs it. Both commands are timed in
turns, so that a slow moment of the machine meets both.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from appliance.state import resources, runs
from appliance.state.db import Database
from tests.support.daemon import RunningDaemon

RUNS = 200
ROUNDS = 21
REST_S = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))
    fill(home)
    daemon = RunningDaemon(home)
    daemon.start()
    try:
        ours = [sys.executable, "-m", "appliance.cli.main", "status", "-o", "json"]
        installed = shutil.which("appliance", path=str(Path(sys.executable).parent))
        ours = [installed, "status", "-o", "json"] if installed else ours
        environment = {name: value for name, value in daemon.environment.items() if name != "PYTHONDONTWRITEBYTECODE"}
        times: dict[str, list[float]] = {"appliance status": [], "docker ps": []}
        for _ in range(ROUNDS):
            times["appliance status"].append(took(ours, environment))
            times["docker ps"].append(took(["docker", "ps", "--format", "json"], environment))
        medians = {name: statistics.median(values) for name, values in times.items()}
        for name, values in times.items():
            print(f"{name:<17} median {1000 * medians[name]:6.1f} ms, min {1000 * min(values):6.1f} ms")
        print(f"ratio {medians['appliance status'] / medians['docker ps']:.2f}")
        pid = daemon.client.status()["pid"]
        time.sleep(5)
        before = cpu_s(pid)
        time.sleep(REST_S)
        print(f"idle daemon: {100 * (cpu_s(pid) - before) / REST_S:.2f} % of a core over {REST_S:.0f} s")
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        shutil.rmtree(home, ignore_errors=True)


def fill(home: Path) -> None:
    db = Database(home / "state.db")
    spec = {"jobs": {"a": {"uses": "script@v1", "with": {"image": "appliance/base", "script": "true"}}}}
    with db.write() as transaction:
        now = time.time()
        workflow, _ = resources.put(transaction, "workflow", "many", spec, source="bench", now=now)
        for _ in range(RUNS):
            run = runs.create(
                transaction, workflow_uid=workflow.uid, workflow="many", spec=spec, inputs={}, jobs=["a"], now=now
            )
            runs.set_phase(transaction, run.id, "Succeeded", started=now, finished=now)
    db.close()


def took(command: list[str], environment: dict[str, str]) -> float:
    before = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - before


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
