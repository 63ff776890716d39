"""The screen of one run: its jobs, all that is known of one of them, and what the keys ask for."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from textual.widgets import Input

from appliance.client import Client
from tests.unit.tui.fakes import HOSTILE, SIZE, FakeClient, at_rest, item, on, shows, text_of, top, until
from tui.app import ApplianceApp
from tui.dialogs import AskScreen, DetailScreen, LogScreen, TextScreen
from tui.feed import Feed
from tui.run import RunScreen, about, cells, head

pytestmark = pytest.mark.anyio

COMMIT = "70e9910c536045294b6d26702eeefdc0fdab77af"


def job(name: str, phase: str = "Succeeded", message: str = "", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "phase": phase, "message": message, "exit_code": 0, "started": 1000.0, "finished": 1060.0,
        "inputs": {}, "outputs": {}, "needs": [], "attempt": 1, "next_try": None, "reused": "", "image": "",
        "commit_id": "", "matrix": {}, "capsule": False, **more,
    }  # fmt: skip


def run(*jobs: dict[str, Any], phase: str = "Failed", **more: Any) -> dict[str, Any]:
    return {
        "kind": "run", "name": "train.1", "phase": phase, "message": f"b: {HOSTILE}", "created": 990.0,
        "started": 1000.0, "finished": None if phase == "Running" else 1100.0, "cause": "git", "parent": "",
        "source": "main at 70e9910c5360 of code", "jobs": list(jobs), **more,
    }  # fmt: skip


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    times = {"started": time.time() - 50, "finished": time.time()}
    client.rows["runs"] = [{**item("train.1", "Failed"), **times, "cause": "git", "parent": ""}]
    clone = job("clone", message=f"branch main at {COMMIT} is in /outputs/repo", commit_id=COMMIT)
    client.run = run(clone, job("b", "Failed", HOSTILE, needs=["clone"], capsule=True))
    return client


@pytest.fixture
def app(client: FakeClient) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


async def test_its_jobs_are_shown_and_the_one_under_the_cursor_in_full(app: ApplianceApp, client: FakeClient) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "runs")
        await pilot.press("enter")
        await top(pilot, app, RunScreen)
        await shows(pilot, app, f"commit  {COMMIT}")
        shown = text_of(app)
        assert "main at 70e9910c5360 of code" in shown
        assert f"b: {HOSTILE}" in shown
        assert "x cancel" not in shown, "it is over"
        assert "n notebook" not in shown, "the checkout has not failed"
        await pilot.press("j")
        await shows(pilot, app, "n notebook")
        client.run = run(job("clone"), job("b", "Running", finished=None), phase="Running", message="")
        await shows(pilot, app, "x cancel")
        assert "e resume" not in text_of(app)
        client.down = True
        await shows(pilot, app, "the daemon does not answer: asking again")
        assert "Running" in text_of(app)
        client.down = False
        await shows(pilot, app, "started by: git")


async def test_all_its_keys_fit_into_the_footer_of_a_small_screen(app: ApplianceApp, client: FakeClient) -> None:
    many = [job(f"b{number}", "Failed", "long " * 60, capsule=True) for number in range(30)]
    client.run = run(*many)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "runs")
        await pilot.press("enter")
        await shows(pilot, app, "n notebook")
        last = text_of(app).splitlines()[-1]
        for key in ("esc back", "l logs", "e resume", "y replay", "n notebook", "d document", "? help"):
            assert key in last


async def test_its_keys_do_what_they_say(app: ApplianceApp, client: FakeClient) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "runs")
        await pilot.press("enter")
        await shows(pilot, app, COMMIT)
        await pilot.press("question_mark")
        await top(pilot, app, TextScreen)
        assert "notebook of the job" in text_of(app)
        await pilot.press("escape", "j", "enter")
        await top(pilot, app, LogScreen)
        await until(pilot, lambda: client.followed == [{"kind": "run", "name": "train.1", "part": "b"}])
        assert "logs of run/train.1/b" in text_of(app)
        await pilot.press("escape", "d")
        await top(pilot, app, DetailScreen)
        await pilot.press("escape")
        await shows(pilot, app, "n notebook")
        await pilot.press("n")
        await top(pilot, app, AskScreen)
        app.screen.query_one(Input).value = "look"
        await pilot.press("enter")
        await shows(pilot, app, f"not there: {HOSTILE}")
        await pilot.press("escape", "e")
        await shows(pilot, app, "resume of train.1: run train.2 has started")
        await at_rest(pilot, app)
    assert client.asked == [("notebook", "train.1", "b", "look"), ("resume", "runs", "train.1")]


def test_what_is_told_of_a_run_and_its_jobs() -> None:
    assert head(run(phase="Running", message="", source="", parent=""), 1090.0) == (
        "run train.1   Running   90s   started by: git"
    )
    begun = head(run(message="failed", source="", cause="resume", parent="train.0"), 0.0)
    assert begun == "run train.1   Failed   100s   started by: resume train.0"
    needs = [f"a-{number}" for number in range(1, 6)]
    waits = job("b", "Pending", "", needs=needs, started=None, finished=None, matrix={"lr": "0.1"})
    assert cells(waits, 0.0) == ("b", "Pending", "-", "a-1 a-2 a-3 and 2 more", "lr=0.1")
    assert about(waits) == "b       Pending\nvalues  lr=0.1"
    dataset = {"type": "dataset", "ref": "data", "id": "data:v1", "committed": True}
    made = job(
        "c", "Failed", f"{HOSTILE}\x1b[2J\nsecond line", attempt=2, image=f"sha256:{'a' * 64}", inputs={"in": dataset},
        outputs={"word": {"type": "string", "value": "x\x07"}, "tree": {"type": "volume", "run": "1", "job": "c"}},
    )  # fmt: skip
    assert about(made).splitlines() == [
        f"c            {HOSTILE}\N{REPLACEMENT CHARACTER}[2J",
        "second line",
        "attempt      2",
        "image        sha256:aaaaaaaaaaaa",
        "input in     data:v1",
        "output word  x\N{REPLACEMENT CHARACTER}",
    ]
