"""A deployment in a terminal, with a stand-in for the daemon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.cli import deployment, render
from appliance.cli.main import main
from appliance.client import Client
from appliance.errors import NotFound
from tui.feed import Feed


def item(phase: str, generation: int, observed: int, message: str = "") -> dict[str, Any]:
    return {
        "name": "web", "phase": phase, "generation": generation, "observed": observed, "message": message,
        "url": "http://x/deployments/web/", "source": "cli", "problem": "", "status": {},
    }  # fmt: skip


class FakeClient:
    """Answers each `get` with the next of `found`, with the last one again and again."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.names = {"deployments": ["web", "api"], "notebooks": ["web", "lab"], "runs": []}

    def get(self, kind: str, name: str) -> Any:
        if not self.found:
            raise NotFound(f"no {kind} {name}")
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def items(self, kind: str) -> Any:
        return [{"name": name} for name in self.names[kind]]

    def roll_back(self, name: str, to: int | None) -> Any:
        return {**self.found[0], "status": {"rollout": {"copies": 1}}}

    def revisions(self, name: str) -> Any:
        return []

    def traffic(self, name: str) -> Any:
        return {"since": 0.0, "until": 300.0, "requests": 0, "longest_held_s": 0.0}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient()
    monkeypatch.setattr(render, "client", lambda: made)
    monkeypatch.setattr(deployment, "POLL_S", 0.0)
    return made


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_what_was_there_before_is_not_told_of_what_is_waited_for(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    old = item("Ready", 5, 4, "2 of 2 replicas ready")
    client.found = [old, old, old, item("Updating", 5, 5, "0 of 2"), item("Ready", 5, 5, "2 of 2")]
    assert main(["deployment", "rollback", "web", "--wait"]) == 0
    assert told(capsys) == [
        "deployment web: generation 5 brings back generation 1",
        "deployment web: Updating: 0 of 2",
        "deployment web: Ready: 2 of 2",
    ]


def test_a_wait_is_for_the_generation_that_was_asked_for(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another one that serves is no success of this one; which it is comes in words."""
    client.found = [item("Ready", 5, 4), item("Updating", 5, 5, "0 of 2"), item("Ready", 6, 6, "2 of 2")]
    assert main(["deployment", "rollback", "web", "--wait"]) == 1
    assert told(capsys)[-1] == "deployment web: generation 6 was declared meanwhile, and generation 5 is not waited for"
    client.found = [item("Ready", 6, 6, "2 of 2")]
    assert main(["deployment", "wait", "web"]) == 0


def test_a_wait_that_is_over_says_so(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.found = [item("Updating", 5, 5, "0 of 2")]
    assert not deployment.wait_ready(client, "web", deadline_s=0.05)  # type: ignore[arg-type]
    assert told(capsys) == [
        "deployment web: Updating: 0 of 2",
        "deployment web: not ready after 0 s; it goes on by itself, `appliance deployment wait web` waits again",
    ]


def test_a_replica_that_leaves_is_shown_with_what_it_has_under_way(
    client: FakeClient, capsys: pytest.CaptureFixture[str]
) -> None:
    leaving = {
        "id": "4-0", "generation": 4, "state": "leaving", "in_flight": 1, "restarts": 0, "message": "",
        "container": "c", "leaving_s": 39.2,
    }  # fmt: skip
    client.found = [{**item("Updating", 5, 5), "status": {"replicas": [leaving]}}]
    assert main(["deployment", "show", "web"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split(maxsplit=5) == ["4-0", "4", "leaving", "1", "0", "at most 40 s more"]


def test_why_it_was_undone_is_told_once(client: FakeClient, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = {
        "generation": 5, "phase": "Undone", "message": "it crashed", "cause": "applied", "copies": None,
        "since": time.time() - 30, "serving": 4,
    }  # fmt: skip
    client.found = [{**item("Degraded", 5, 5, "generation 5 was undone: it crashed"), "status": {"rollout": rollout}}]
    assert main(["deployment", "show", "web"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("it crashed") == 1
    assert "generation 4 serves" in shown


@pytest.mark.parametrize(
    ("given", "hint"),
    [("wbe", "did you mean notebook/web or deployment/web?"), ("apis", "did you mean deployment/api?"), ("q", "KIND/")],
)
def test_a_mistyped_name_without_its_kind_is_guessed(
    client: FakeClient, capsys: pytest.CaptureFixture[str], given: str, hint: str
) -> None:
    assert main(["logs", given]) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(("connect", "way"), [(render.client, "cli"), (lambda: Feed.of_home(Path("/nowhere")), "tui")])
def test_each_face_says_by_which_way_is_asked(
    monkeypatch: pytest.MonkeyPatch, connect: Callable[[], object], way: str
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Client, "from_environment", lambda home, *, via: asked.append(via))
    connect()
    assert asked == [way]
