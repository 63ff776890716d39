"""`appliance space`: words for figures, and nothing promised that is not known."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from appliance.cli import render, space

GB = 10**9


def answer(**more: Any) -> dict[str, Any]:
    return {
        "places": [{"name": "the volumes", "where": "/v", "total": 100 * GB, "free": 20 * GB, "low": False}],
        "reserved": GB,
        "reserve": GB,
        "low_mark": 2 * GB,
        "waiting": "",
        "growth": growth(GB, full=20.0, low=18.0),
        "owners": [
            {"kind": "notebook", "name": "lab", "live": 5 * GB, "history": GB, "unique": 6 * GB, "disk": 6 * GB}
        ],
        "holders": [],
        "problems": [],
        "measured": 1.0,
        "took_s": 0.1,
        "measuring": None,
        **more,
    }


def growth(per_day: float | None, *, full: float | None = None, low: float | None = None, why: str = "") -> Any:
    return {"per_day": per_day, "days": 7.0, "why": why, "low_in_days": low, "full_in_days": full}


class FakeClient:
    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[bool] = []

    def space(self, *, fresh: bool = False, wait_s: float = 0.0) -> dict[str, Any]:
        self.asked.append(fresh)
        return self.answers.pop(0)


def shown(monkeypatch: pytest.MonkeyPatch, client: FakeClient, *arguments: str) -> int:
    monkeypatch.setattr(render, "client", lambda: client)
    parser = argparse.ArgumentParser()
    space.configure_space(parser)
    parsed = parser.parse_args(arguments)
    return int(parsed.run(parsed))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (growth(None, why="there is less than a day of history"), "no forecast: there is less than a day"),
        (growth(0.0), "nothing was added, seen over 7 days"),
        (growth(GB, full=20.0, low=18.0), "grows by 1.0 GB a day, seen over 7 days: full in 20 days where nothing is"),
        (growth(1.0, full=1e6, low=1e6), "more than ten years"),
        (growth(GB, full=0.5, low=0.0, why="3 moments of unknown size"), "full in 12 hours"),
        (growth(GB, full=0.5, low=0.0, why="3 moments of unknown size"), "3 moments of unknown size"),
    ],
)
def test_the_forecast_in_words(given: dict[str, Any], words: str) -> None:
    assert words in space.forecast(given)


def test_a_table_with_the_snapshots_that_hold_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = {
        "kind": "notebook",
        "name": "lab",
        "snapshots": ["aaaa", "bbbb", "cccc"],
        "bytes": 3 * GB,
        "exact": False,
        "created": 1.0,
        "cause": "",
        "message": "3 snapshots \x1b[2Jtogether",
        "held": True,
    }
    owners = [
        {"kind": "run", "name": f"w.{number}", "live": 1, "history": 0, "unique": 1, "disk": 1} for number in range(30)
    ]
    full = answer(holders=[holder], owners=owners, problems=["a volume"], waiting="waits for disk space: x")
    assert shown(monkeypatch, FakeClient(full)) == 0
    captured = capsys.readouterr()
    for words in ("20.0 GB of 100.0 GB free", "3.0 GB or more", "aaaa .. cccc", "and 10 more", "new work waits for"):
        assert words in captured.out
    assert "\x1b" not in captured.out
    assert "not counted: a volume" in captured.err


def test_it_waits_for_a_count_and_asks_for_a_fresh_one_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    going = answer(measuring={"done": 1, "total": 4}, measured=None)
    client = FakeClient(going, going, answer())
    assert shown(monkeypatch, client, "--fresh", "-o", "json") == 0
    assert client.asked == [True, False, False]
    assert '"measured": 1.0' in capsys.readouterr().out
