"""Following a run: its log lines go to stdout, what becomes of its jobs to stderr, until it has ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from appliance import foreign
from appliance.cli import render
from appliance.cli.jobs import next_steps
from appliance.cli.logs import FIRST
from appliance.client import Client
from appliance.errors import TelemetryError, Unavailable

if TYPE_CHECKING:
    from appliance import wire

FINAL = frozenset({"Succeeded", "Failed", "Error", "Canceled"})
ENDED = FINAL | {"Skipped", "Omitted"}
POLL_S = 0.3
REST = 4.0
"""Times what an answer takes is the least pause after it: of a run with very many jobs less is asked."""
LONGEST_POLL_S = 3.0
PATIENCE_S = 30.0
"""For which a daemon that answered before, and restarts now, is asked again."""
TOGETHER = 4
"""Jobs that changed in the same words since the last look, and are more than these, share a line."""
MANY = 20
"""Jobs of a run from which on it is said how many of them are over."""
TALLIES = 20
"""So often at most."""
LINES = 1000


def follow(client: Client, name: str) -> int:
    """0 if the run succeeded, else 1. Ctrl-C leaves the run alone. Raises DaemonDown once patience is over."""
    follower = Follower(client, name)
    try:
        run = follower.to_end()
    except KeyboardInterrupt:
        name = follower.name
        render.say(f"\nrun {name} goes on: `appliance workflow follow {name}` follows it again")
        raise
    render.say(f"{run['name']}: {render.phase(run)}")
    for step in next_steps(run):
        render.say(step)
    return 0 if run["phase"] == "Succeeded" else 1


class Follower:
    """What has been told of one run. `name` is its full name as soon as the daemon has answered."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client = client
        self._seq = FIRST
        self._told: dict[str, str] = {}
        self._over = 0
        self._pause = POLL_S

    def to_end(self) -> wire.Run:
        """The run, once it has ended and everything of it is told."""
        down_since: float | None = None
        answered = False
        while True:
            try:
                run = self.look()
            except (Unavailable, TelemetryError):
                now = time.monotonic()
                if not answered or (down_since is not None and now - down_since > PATIENCE_S):
                    raise
                if down_since is None:
                    down_since = now
                    render.say(f"the daemon does not answer; it is asked again for {PATIENCE_S:.0f} s")
            else:
                answered, down_since = True, None
                if run["phase"] in FINAL:
                    return run
            time.sleep(self._pause)

    def look(self) -> wire.Run:
        """Tell what is new. The run is read before its log, so that nothing is missing of one that has ended."""
        began = time.monotonic()
        run: wire.Run = self._client.get("runs", self.name)
        self._pause = min(LONGEST_POLL_S, max(POLL_S, REST * (time.monotonic() - began)))
        self.name = run["name"]
        self._print_lines()
        self._tell(run["jobs"])
        return run

    def _print_lines(self) -> None:
        while lines := self._client.logs(kind="run", name=self.name, after=self._seq, limit=LINES):
            for line in lines:
                print(f"{line['part']} | {foreign.line(line['line'])}")
            self._seq = lines[-1]["seq"]
        sys.stdout.flush()

    def _tell(self, jobs: Iterable[wire.Job]) -> None:
        """What changed, in the order of the spec. That a job has begun is told as soon as there is more to say."""
        changed: dict[str, list[str]] = {}
        over = count = 0
        for job in jobs:
            count += 1
            over += job["phase"] in ENDED
            now = render.phase(job)
            if now != "Starting" and now != self._told.get(job["name"], "Pending"):
                self._told[job["name"]] = now
                changed.setdefault(now, []).append(job["name"])
        for text, names in changed.items():
            if len(names) > TOGETHER:
                render.say(f"{self.name} {names[0]} ... {names[-1]}, {len(names)} jobs: {text}")
            else:
                for name in names:
                    render.say(f"{self.name} {name}: {text}")
        if count >= MANY and over > self._over and (over == count or over - self._over >= count / TALLIES):
            self._over = over
            render.say(f"{self.name}: {over} of {count} jobs are over")
