"""20 rollouts, 10 scalings, 5 kills and 5 restarts of the daemon under 64 connections: how many requests fail, how long
the longest waits; then what a rollout, a swap and a wake cost.

    python -m tests.bench.bench_rollouts

Needs a Docker engine, `haproxy` and `wrk`, and some six minutes.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.daemon import RunningDaemon, eventually
from tests.support.load import Load, Wrk
from tests.support.serving import apply, ready, served
from tests.support.storm import Storm, rage

STORM = Storm(rollouts=20, kills=5, restarts=5, scales=10)
TIMES = 5
HOLD_S = 60.0
SWAP = {"strategy": "swap", "hold": HOLD_S}
ASLEEP_S = 1.0


def main() -> int:
    if not (shutil.which("wrk") and shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")):
        print("skipped: wrk or haproxy is not installed", file=sys.stderr)
        return 0
    home = Path(tempfile.mkdtemp(prefix="appliance-", dir="/tmp"))  # a socket's path must be short
    daemon = RunningDaemon(home)
    try:
        daemon.start()
        failed = storm(daemon) + changes(daemon) + wakes(daemon)
    finally:
        daemon.stop()
        daemon.cli("stop", "--all")
        daemon.remove_containers()
        shutil.rmtree(home, ignore_errors=True)
    return 1 if failed else 0


def storm(daemon: RunningDaemon) -> int:
    apply(daemon, served("web", "v0"))
    ready(daemon, "web", replicas=2, within_s=600)
    path = "/deployments/web/predict?ms=20"
    with Load(daemon.port, path) as load, Wrk(f"{daemon.url}{path}", connections=4, most_s=3600) as witness:
        load.more(200)
        began = time.monotonic()
        rage(daemon, load, "web", STORM, told=lambda words: print(words, flush=True))
        took = time.monotonic() - began
        answered, lost, _ = witness.finish()
    print(f"\n{STORM.words()} in {took:.0f} s\nload: {load.found.words()}\nwrk:  {answered} requests, {lost} failed\n")
    for failure in load.found.failures[:20]:
        print(failure)
    return len(load.found.failures) + lost


def changes(daemon: RunningDaemon) -> int:
    """A rollout beside and a swap of one replica, from the apply to the first answer of the new one."""
    failed = 0
    ways: Mapping[str, Mapping[str, Any]] = {"beside": {}, "swap": {"rollout": SWAP}}
    for way, more in ways.items():
        failed += _change(daemon, way, lambda version, more=more, way=way: served(way, version, replicas=1, **more))  # type: ignore[misc]
    return failed


def _change(daemon: RunningDaemon, way: str, made: Callable[[str], dict[str, Any]]) -> int:
    apply(daemon, made("v0"))
    ready(daemon, way, replicas=1)
    took = []
    with Load(daemon.port, f"/deployments/{way}/predict?ms=20") as load:
        load.more(200)
        for number in range(1, TIMES + 1):
            began = time.monotonic()
            load.doing = str(number)
            apply(daemon, made(f"v{number}"))
            eventually(lambda: f"v{number}" in load.found.bodies, within_s=60, what="the new one")  # noqa: B023
            took.append(time.monotonic() - began)
            ready(daemon, way, replicas=1)
            load.more(100)
    waits = [load.found.longest(str(number)) for number in range(1, TIMES + 1)]
    print(
        f"{way}: new after {statistics.median(took):.2f} s, longest wait {statistics.median(waits):.2f} s"
        f" (median of {TIMES}, most {max(waits):.2f} s): {load.found.words()}"
    )
    return len(load.found.failures)


def wakes(daemon: RunningDaemon) -> int:
    sleep = {"scaleToZero": {"after": ASLEEP_S, "hold": HOLD_S}}
    apply(daemon, served("nap", "v0", replicas=1, resources=sleep))
    ready(daemon, "nap", replicas=1)
    longest, failed = [], 0
    for _ in range(TIMES):
        eventually(lambda: not daemon.running_containers("nap") or None, within_s=60, what="nap asleep")
        with Load(daemon.port, "/deployments/nap/predict?ms=20") as load:
            load.more(200)
        longest.append(load.found.longest())
        failed += len(load.found.failures)
    print(f"wake: longest wait {statistics.median(longest):.2f} s (median of {TIMES}, most {max(longest):.2f} s)")
    return failed


if __name__ == "__main__":
    sys.exit(main())
