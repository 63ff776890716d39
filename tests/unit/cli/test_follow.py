"""Following a run whose daemon goes away, whose jobs are very many, or that is left with Ctrl-C."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from appliance.cli import follow as following
from appliance.cli import render
from appliance.cli.follow import follow
from appliance.cli.main import INTERRUPTED, main
from appliance.client import Client
from appliance.errors import DaemonDown, Unavailable

DOWN = DaemonDown("the daemon does not answer (refused)")


class Daemon:
    """Answers each question for the run with the next of `answers`, and stays at the last; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self._last: Any = None
        self.asked = 0
        self.lines = [{"seq": 5, "part": "a", "line": "one"}]

    def get(self, kind: str, name: str) -> Any:
        self.asked += 1
        self._last = next(self._answers, self._last)
        if isinstance(self._last, BaseException):
            raise self._last
        return self._last

    def logs(self, *, after: int, **_: Any) -> Any:
        return [line for line in self.lines if cast(int, line["seq"]) > after]


def row(phase: str, **jobs: str) -> dict[str, Any]:
    """Each job as `PHASE` or `PHASE: MESSAGE`."""
    made = []
    for name, told in jobs.items():
        job_phase, _, message = told.partition(": ")
        made.append({"name": name.replace("_", "-"), "phase": job_phase, "message": message, "capsule": False})
    return {"name": "w.1", "phase": phase, "message": phase.lower(), "jobs": made, "finished": 1.0}


def ask(daemon: Daemon) -> int:
    return follow(cast(Client, daemon), "w")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.001)


def test_a_daemon_that_restarts_is_asked_again_and_it_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    going = row("Running", a="Running")
    daemon = Daemon(going, DOWN, DOWN, Unavailable("not yet"), going, row("Succeeded", a="Succeeded"))
    assert ask(daemon) == 0
    captured = capsys.readouterr()
    assert captured.out == "a | one\n"
    assert captured.err.splitlines() == [
        "w.1 a: Running",
        "the daemon does not answer; it is asked again for 30 s",
        "w.1 a: Succeeded",
        "w.1: Succeeded",
    ]


def test_patience_has_an_end_and_a_daemon_that_was_never_there_gets_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = Daemon(DOWN)
    with pytest.raises(DaemonDown):
        ask(daemon)
    assert daemon.asked == 1
    monkeypatch.setattr(following, "PATIENCE_S", 0.05)
    daemon = Daemon(row("Running", a="Running"), DOWN)
    with pytest.raises(DaemonDown):
        ask(daemon)
    assert daemon.asked > 3
    monkeypatch.setattr(render, "client", lambda: Daemon(row("Running", a="Running"), DOWN))
    assert main(["workflow", "follow", "w"]) == 5
    assert "next: " not in capsys.readouterr().out


def test_ctrl_c_says_how_to_follow_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(render, "client", lambda: Daemon(row("Running", a="Running"), KeyboardInterrupt()))
    assert main(["workflow", "follow", "w"]) == INTERRUPTED
    assert "run w.1 goes on: `appliance workflow follow w.1` follows it again" in capsys.readouterr().err


def test_a_phase_is_told_once_and_a_message_only_where_it_says_more(capsys: pytest.CaptureFixture[str]) -> None:
    daemon = Daemon(
        *(row("Running", a=told) for told in ("Pending", "Starting", "Starting: pulling i", "Starting: starting")),
        *(row("Running", a=told) for told in ("Running", "Running", "Running: its outputs are stored")),
        row("Canceled", a="Canceled: canceled"),
    )
    assert ask(daemon) == 1
    assert capsys.readouterr().err.splitlines() == [
        "w.1 a: Starting: pulling i",
        "w.1 a: Running",
        "w.1 a: Running: its outputs are stored",
        "w.1 a: Canceled",
        "w.1: Canceled",
    ]


def test_many_jobs_share_a_line_where_they_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"job_{number}" for number in range(1000)]
    first = row("Running", **dict.fromkeys(names, "Pending"))
    second = row("Running", **{**dict.fromkeys(names, "Pending"), "job_0": "Failed: exit code 1"})
    third = row("Failed", **{**dict.fromkeys(names, "Omitted: job-0 failed"), "job_0": "Failed: exit code 1"})
    half = row("Running", **{name: "Running" if place > 500 else "Succeeded" for place, name in enumerate(names)})
    half["jobs"][0].update(phase="Failed", message="exit code 1")
    assert ask(Daemon(first, second, second, half, third)) == 1
    assert capsys.readouterr().err.splitlines() == [
        "w.1 job-0: Failed: exit code 1",
        "w.1 job-1 ... job-500, 500 jobs: Succeeded",
        "w.1 job-501 ... job-999, 499 jobs: Running",
        "w.1: 501 of 1000 jobs are over",
        "w.1 job-1 ... job-999, 999 jobs: Omitted: job-0 failed",
        "w.1: 1000 of 1000 jobs are over",
        "w.1: Failed",
    ]


def test_less_is_asked_of_a_daemon_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    now = [0.0]
    daemon = Daemon(row("Running", a="Running"), row("Succeeded", a="Succeeded"))
    answer = daemon.get

    def slow(kind: str, name: str) -> Any:
        now[0] += 0.2
        return answer(kind, name)

    monkeypatch.setattr(daemon, "get", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", slept.append)
    assert ask(daemon) == 0
    assert slept == [pytest.approx(0.8)]
