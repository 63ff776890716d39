"""A state file, a vault, and a room of triggers over them that is looked at by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance import apply
from appliance.datasets.datasets import Datasets
from appliance.spec.load import load_text
from appliance.state import events, resources, runs
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.storage.directory.store import DirectoryStore
from appliance.triggers.triggers import Triggers
from appliance.vault.secrets import Secrets
from tests.conftest import Clock

JOBS = "jobs: {a: {uses: script@v1, with: {image: i, script: 'true'}}}\n"


async def until(look: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Nothing here can be waited for otherwise."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        if look():
            return
        assert loop.time() < deadline, f"not within {within_s:.0f} s: {what}"
        await asyncio.sleep(0.02)


class Bench:
    """`restart()` begins again on what is stored, as a daemon does after a kill."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.home = home / "home"
        self.db = Database(home / "state.db")
        self.vault = Secrets(self.db, home / "key", clock)
        self.datasets = Datasets(self.db, DirectoryStore(home / "volumes", "a test"), clock)
        self.hints: list[tuple[str, str]] = []
        self.restart()

    def restart(self) -> None:
        self.triggers = Triggers(
            db=self.db,
            vault=self.vault,
            instance="0" * 8,
            home=self.home,
            clock=self.clock,
            hint=lambda kind, uid: self.hints.append((kind, uid)),
        )

    def apply(self, text: str, file: str = "wf.yaml", *, source: str = "") -> resources.Resource:
        """The first of what the text declares, as a file of the watched folder."""
        loaded = load_text(text, file=file)
        apply.apply(self.db, loaded, source=source or f"file:{file}", now=self.clock())
        return resources.get(self.db.read, loaded[0].kind, loaded[0].name)

    def look(self, *, after: float = 0.0) -> list[Run]:
        """The runs that this look has made, oldest first."""
        before = {run.id for run in self.runs()}
        self.clock.now += after
        self.triggers.look()
        return [run for run in self.runs() if run.id not in before]

    def runs(self) -> list[Run]:
        return list(reversed(runs.newest(self.db.read, limit=1000)))

    def told(self, reason: str) -> list[str]:
        return [event.message for event in events.newest(self.db.read, limit=1000) if event.reason == reason]

    def finish(self, run: Run) -> None:
        runs.set_phase(self.db.read, run.id, "Succeeded", finished=self.clock())

    async def version(self, name: str, **more: Any) -> str:
        """A committed version of a dataset that is made where there is none."""
        if resources.find(self.db.read, "dataset", name) is None:
            self.apply(f"kind: dataset\nname: {name}\n", f"{name}.yaml")
        made = await self.datasets.begin(name, **more)
        await self.datasets.commit(made)
        return made.version


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    made = Bench(tmp_path, clock)
    yield made
    made.db.close()
