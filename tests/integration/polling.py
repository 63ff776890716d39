"""One repository `site` over real git, polled by hand."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance import apply
from appliance.spec.load import load_text
from appliance.state import events, resources, runs
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.triggers import git as git_module
from appliance.triggers.git import Git
from appliance.triggers.repositories import Repositories
from appliance.vault.secrets import Secrets
from tests.conftest import Clock
from tests.support.git import GitServer, serve_git

FOLDER = ".gradient/workflows"
JOBS = "jobs: {a: {uses: script@v1, with: {image: appliance/base, script: 'true'}}}\n"


def on(text: str, jobs: str = JOBS) -> str:
    return f"on: {{github: {text}}}\n{jobs}"


MAIN = on("{branches: {only: main}}")


class Bench:
    """One repository `site`, polled by hand."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(home / "state.db")
        self.vault = Secrets(self.db, home / "key", clock)
        self.hints: list[tuple[str, str]] = []
        self.instance = secrets.token_hex(4)
        self.restart()

    def restart(self) -> None:
        self.repositories = Repositories(
            self.db, self.vault, Git(self.instance), clock=self.clock, hint=lambda *key: self.hints.append(key)
        )

    def declare(self, url: str, **more: str) -> None:
        lines = "".join(f"{key}: {value}\n" for key, value in more.items())
        text = f"kind: repository\nname: site\nurl: {url}\n{lines}"
        apply.apply(self.db, load_text(text, file="site.yaml"), source="cli", now=self.clock())

    @property
    def resource(self) -> resources.Resource:
        return resources.get(self.db.read, "repository", "site")

    async def look(self) -> list[Run]:
        """The runs that one look has made, oldest first. Raises what the look raises."""
        self.clock.now += 60
        before = {run.id for run in runs.newest(self.db.read, limit=1000)}
        await self.repositories.look(self.resource.uid)
        return [run for run in reversed(runs.newest(self.db.read, limit=1000)) if run.id not in before]

    async def turn(self) -> resources.Resource:
        """One look as the loop begins it, with its failure written down."""
        self.repositories.soon(self.resource.uid)
        self.repositories._turns[self.resource.uid].due = 0.0
        self.repositories.begin([self.resource.uid])
        task = self.repositories._turns[self.resource.uid].task
        assert task is not None
        async with asyncio.timeout(60):
            await task
        return self.resource

    def told(self, reason: str) -> list[str]:
        return [event.message for event in events.newest(self.db.read, limit=1000) if event.reason == reason]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with serve_git(tmp_path / "repositories") as made:
        yield made


@pytest.fixture
async def bench(tmp_path: Path, clock: Clock) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, clock)
    yield made
    await made.repositories.close()
    left = list(git_module._parent().glob(f"appliance-git-{made.instance}-*"))
    made.db.close()
    assert left == []


def event_of(run: Run) -> dict[str, str]:
    found: dict[str, str] = run.spec["context"]["event"]["github"]
    return found
