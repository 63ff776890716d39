"""Rollouts, scalings and ends of the daemon, one after the other, while a load goes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.daemon import RunningDaemon
from tests.support.load import Load
from tests.support.serving import apply, ready, served

AFTER = 50
"""Requests that are answered between one step and the next."""


@dataclass(frozen=True)
class Storm:
    rollouts: int
    kills: int
    """So many of the rollouts are met half way by `kill -9` of the daemon."""
    restarts: int
    """And so many by an orderly restart."""
    scales: int

    def words(self) -> str:
        return (
            f"{self.rollouts} rollouts ({self.kills} of them met by kill -9 of the daemon, {self.restarts} by a restart"
            f" of it), {self.scales} scalings"
        )


def rage(daemon: RunningDaemon, load: Load, name: str, storm: Storm, *, told: Callable[[str], None] = print) -> None:
    """Each step is waited for. The load must have met every version in the end."""
    ends = [*["kill"] * storm.kills, *["restart"] * storm.restarts]
    every = max(1, storm.rollouts // max(1, len(ends)))
    replicas = itertools.cycle((3, 1, 2))
    now = 2
    for number in range(1, storm.rollouts + 1):
        end = ends.pop() if ends and number % every == 0 else ""
        load.doing = f"rollout {number}" + (f" with a {end} of the daemon" if end else "")
        version = f"v{number}"
        apply(daemon, served(name, version, replicas=now))
        if end:
            time.sleep(0.5 * len(ends))  # another instant of the rollout each time
        if end == "kill":
            daemon.kill()
            daemon.start()
        elif end:
            daemon.stop()
            daemon.start()
        ready(daemon, name, replicas=now)
        load.more(AFTER)
        told(f"{load.doing}: {load.found.words()}")
        if storm.scales * number // storm.rollouts > storm.scales * (number - 1) // storm.rollouts:
            before, now = now, next(replicas)
            load.doing = f"scaling from {before} to {now}"
            apply(daemon, served(name, version, replicas=now))
            ready(daemon, name, replicas=now)
            load.more(AFTER)
            told(f"{load.doing}: {load.found.words()}")
    load.doing = ""
