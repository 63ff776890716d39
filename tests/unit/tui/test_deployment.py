"""The screen of one deployment: its replicas, its revisions, and what the keys ask for."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input

from appliance.client import Client
from appliance.errors import Unavailable
from tests.unit.tui.fakes import HOSTILE, SIZE, FakeClient, at_rest, item, on, shows, text_of, top, until
from tui.app import ApplianceApp
from tui.deployed import BARS, bars, compared, difference, head, replica_page, revision_page, way_back
from tui.deployment import DeploymentScreen
from tui.dialogs import AskScreen, DetailScreen, LogScreen, PageScreen
from tui.feed import Feed

pytestmark = pytest.mark.anyio


def revision(generation: int, phase: str, **more: Any) -> dict[str, Any]:
    return {
        "generation": generation, "phase": phase, "cause": "applied", "copies": None, "source": "cli", "message": "",
        "words": "", "image": "registry.example/team/some/quite/long/image:1.2.3", "image_id": "sha256:1", "models": [],
        "created": time.time() - 600, "ready": None, "ended": None, "serving": phase == "Serving", **more,
    }  # fmt: skip


def replica(part: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "id": part, "state": state, "port": 1, "generation": int(part[0]), "message": "", "restarts": 0,
        "container": f"c{part}", "ready": state == "ready", "started": 1.0, "in_flight": 3, **more,
    }  # fmt: skip


class Deployed(FakeClient):
    """One deployment, web, whose newest revision does not get there."""

    def __init__(self) -> None:
        super().__init__()
        now = time.time()
        self.history_of = [
            revision(3, "Rolling", message=HOSTILE),
            revision(2, "Serving", cause="rolled back", copies=1, models=[f"digits (d:1) at {HOSTILE}"]),
            revision(1, "Superseded"),
        ]
        rollout = {
            "generation": 3, "phase": "Rolling", "message": "", "cause": "applied", "copies": None, "since": now - 30,
            "serving": 2,
        }  # fmt: skip
        scale = {"replicas": 2, "reason": f"cpu {HOSTILE}", "since": now - 60, "last_request": now}
        broken = replica("3-0", "ended", restart_at=now + 3600, message=f"exit code 1 {HOSTILE}", in_flight=None)
        status = {
            "ready": 2, "replicas": [replica("2-0"), replica("2-1"), broken], "rollout": rollout, "scale": scale,
            "asleep": False, "held": 14,
        }  # fmt: skip
        self.web = {**item("web", "Updating"), "message": f"0 of 2 ready {HOSTILE}", "status": status}
        self.rows["deployments"] = [self.web]
        self.no_traffic = False

    def get(self, kind: str, name: str) -> Any:
        self._alive()
        return self.web

    def revisions(self, name: str) -> Any:
        return self.history_of

    def traffic(self, name: str) -> Any:
        if self.no_traffic:
            raise Unavailable("the telemetry is away")
        steps = [{"at": 0.0, "requests": count, "errors": 0} for count in (0, 1, 8)]
        return {
            "since": 0.0, "until": 300.0, "requests": 900, "errors": 1, "p50_s": 0.02, "p95_s": 0.05, "p99_s": 1.5,
            "held": 14, "longest_held_s": 2.5, "replicas": [], "steps": steps,
        }  # fmt: skip

    def revision_diff(self, name: str, older: int, newer: int) -> Any:
        self.asked.append(("diff", older, newer))
        return {"older": older, "newer": newer, "made_of": ["image a -> b"], "spec": [f"-x: {HOSTILE}", "+x: \x1b[2J"]}

    def roll_back(self, name: str, to: int) -> Any:
        self.asked.append(("rollback", name, to))
        return {"generation": 4}

    def restart(self, name: str) -> Any:
        self.asked.append(("restart", name))
        return {"generation": 5}

    def scale(self, name: str, replicas: int) -> Any:
        self.asked.append(("scale", name, replicas))
        return {"generation": 6}


@pytest.fixture
def client() -> Deployed:
    return Deployed()


@pytest.fixture
def app(client: Deployed) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


async def test_all_of_it_fits_a_small_screen(app: ApplianceApp, client: Deployed) -> None:
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await shows(pilot, app, "14 requests wait")
        await pilot.press("enter")
        await top(pilot, app, DeploymentScreen)
        await shows(pilot, app, "▁█")
        shown = text_of(app)
        for told in (
            "generation 3 rolls out for", "generation 2 serves", "the load asks for 2 replicas", f"cpu {HOSTILE}",
            "14 requests wait", "3 a second over 5m, p50 20 ms", "3-0", "exit code 1", "rolled back to 1", "Superseded",
        ):  # fmt: skip
            assert told in shown, told
        last = shown.splitlines()[-1]
        for key in ("esc back", "l logs", "c scale", "R roll back", "t restart", "d diff", "v document"):
            assert key in last
        client.down = True
        await shows(pilot, app, "the daemon does not answer: asking again")
        assert "Superseded" in text_of(app)


async def test_traffic_that_is_not_known_is_said(app: ApplianceApp, client: Deployed) -> None:
    client.no_traffic = True
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await shows(pilot, app, "requests: not known: the telemetry is away")


async def test_its_keys_do_what_they_say(app: ApplianceApp, client: Deployed) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await shows(pilot, app, "Superseded")
        await pilot.press("j", "j", "R")
        await top(pilot, app, AskScreen)
        await shows(pilot, app, "Roll web back to generation 1")
        assert "generation 3 is Rolling, and generation 2 serves" in text_of(app)
        await pilot.press("enter")
        await shows(pilot, app, "nothing is done")
        await pilot.press("escape")
        await top(pilot, app, DeploymentScreen)
        assert client.asked == []
        await pilot.press("R")
        await top(pilot, app, AskScreen)
        app.screen.query_one(Input).value = "yes"
        await pilot.press("enter")
        await shows(pilot, app, "generation 4 brings back generation 1")
        await pilot.press("t")
        await shows(pilot, app, "generation 5 begins afresh")
        await pilot.press("c")
        await top(pilot, app, AskScreen)
        app.screen.query_one(Input).value = "many"
        await pilot.press("enter")
        await shows(pilot, app, "not a number of replicas: many")
        await pilot.press("c")
        await top(pilot, app, AskScreen)
        app.screen.query_one(Input).value = "1"
        await pilot.press("enter")
        await shows(pilot, app, "1 replica in generation 6")
        await pilot.press("d")
        await top(pilot, app, PageScreen)
        assert f"-x: {HOSTILE}" in text_of(app)
        assert "\x1b" not in text_of(app)
        await pilot.press("escape", "v")
        await top(pilot, app, DetailScreen)
        await pilot.press("escape")
        await at_rest(pilot, app)
    assert client.asked == [("rollback", "web", 1), ("restart", "web"), ("scale", "web", 1), ("diff", 1, 3)]


async def test_logs_are_those_of_the_replica_that_the_cursor_is_on(app: ApplianceApp, client: Deployed) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await shows(pilot, app, "Superseded")
        await pilot.press("l")
        await top(pilot, app, LogScreen)
        await until(pilot, lambda: client.followed[-1:] == [{"kind": "deployment", "name": "web", "part": ""}])
        await pilot.press("escape")
        await top(pilot, app, DeploymentScreen)
        await pilot.press("shift+tab", "j", "l")
        await top(pilot, app, LogScreen)
        await until(pilot, lambda: client.followed[-1:] == [{"kind": "deployment", "name": "web", "part": "2-1"}])


async def test_one_revision_has_nothing_to_go_back_to(app: ApplianceApp, client: Deployed) -> None:
    client.history_of = client.history_of[:1]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await shows(pilot, app, "c scale")
        await until(pilot, lambda: "R roll back" not in text_of(app))
        await pilot.press("R", "d", "enter")
        await at_rest(pilot, app)
    assert client.asked == []


async def test_why_it_failed_can_be_read_on_a_small_screen(app: ApplianceApp, client: Deployed) -> None:
    """What is above the tables is wrapped and told once, a cell that is cut has a mark, and Enter shows all of it."""
    why = f"it could not begin within 25 s: {' '.join(f'reason-{number}' for number in range(12))}"
    rollout = {
        "generation": 3, "phase": "Undone", "message": why, "cause": "applied", "copies": None,
        "since": time.time() - 30, "serving": 2,
    }  # fmt: skip
    client.web["message"] = f"generation 3 was undone: {why}; generation 2 serves"
    client.web["status"] = {"ready": 2, "replicas": [replica("2-0", message=f"GET /: {why}")], "rollout": rollout}
    client.history_of[0] = revision(3, "Undone", message=why, words=f"Traceback\n  \x1b[31mboom\x1b[0m {HOSTILE}")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await top(pilot, app, DeploymentScreen)
        await shows(pilot, app, "▁█")
        await shows(pilot, app, "reason-11")
        above, table = text_of(app).split("REPLICA", 1)
        assert above.count("reason-11") == 1
        assert re.search(r"generation 3 was undone \d+[sm] ago; generation 2 serves", above)
        cut = next(line for line in table.splitlines() if "2-0" in line)
        assert cut.rstrip().endswith("…")
        await pilot.press("enter")
        await top(pilot, app, PageScreen)
        shown = text_of(app)
        for told in (
            "generation 3: Undone, applied by cli",
            "image:1.2.3",
            "reason-11",
            "Traceback",
            f"boom {HOSTILE}",
        ):
            assert told in shown, told
        await pilot.press("enter")
        await top(pilot, app, DeploymentScreen)
        await pilot.press("shift+tab", "enter")
        await top(pilot, app, PageScreen)
        assert "replica 2-0 of generation 2: ready, 3 in flight" in text_of(app)
        assert "reason-11" in text_of(app)
        await pilot.press("escape")
        await at_rest(pilot, app)


async def test_a_replica_that_leaves_is_shown(app: ApplianceApp, client: Deployed) -> None:
    client.web["status"]["replicas"] = [replica("2-0", "leaving", leaving_s=39.2, in_flight=1, ready=False)]
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "deployments")
        await pilot.press("enter")
        await shows(pilot, app, "at most 40 s more")
        row = next(line for line in text_of(app).splitlines() if "2-0" in line)
        assert row.split()[:5] == ["2-0", "2", "leaving", "1", "0"]


def test_the_way_back_is_asked_with_what_speaks_against_it() -> None:
    rows = [revision(3, "Undone", message="it crashed\nlast"), revision(2, "Serving", ready=1.0), revision(1, "Undone")]
    asked = way_back("web", rows, rows[2], time.time())
    assert "Roll web back to generation 1, declared 10m ago, registry.example/team/some" in asked
    assert "Now generation 3 is Undone, and generation 2 serves." in asked
    assert "Mind: generation 1 was undone." in asked
    assert "Mind" not in way_back("web", rows, rows[1], time.time())
    assert "Now generation 2 serves." in way_back("web", rows[1:], rows[2], time.time())
    assert "Now generation 3 is Undone, and none serves." in way_back("web", rows[:1], rows[0], time.time())


def test_foreign_text_moves_no_cursor_on_a_page() -> None:
    hostile = "a\x1b[2J\rb"
    row = revision(3, "Undone", message=hostile, words=hostile, image=hostile, models=[hostile], source=hostile)
    assert "\x1b" not in revision_page(row, 1.0) + replica_page(replica("2-0", message=hostile), 1.0)
    assert "\r" not in revision_page(row, 1.0) + replica_page(replica("2-0", message=hostile), 1.0)


def test_a_problem_is_told_in_place_of_the_message() -> None:
    told = head({**item("web", "Failed"), "problem": "no such field", "message": "all is well"}, 1.0)
    assert "no such field" in told
    assert "all is well" not in told


def test_the_newest_is_compared_with_the_one_before_it() -> None:
    rows = [{"generation": generation} for generation in (9, 7, 4)]
    assert compared(rows, rows[0]) == (7, 9)
    assert compared(rows, rows[2]) == (4, 9)
    assert compared(rows[:1], rows[0]) is None
    assert compared(rows, None) is None


def test_what_is_the_same_is_said() -> None:
    assert difference({"older": 1, "newer": 2, "made_of": [], "spec": []}).endswith("the same spec, image and models")


@given(st.lists(st.integers(0, 10**9), max_size=50))
def test_bars_show_every_request(counts: Sequence[int]) -> None:
    drawn = bars(counts)
    assert len(drawn) == len(counts)
    assert [bar == " " for bar in drawn] == [count == 0 for count in counts]
    if any(counts):
        assert drawn[counts.index(max(counts))] == BARS[-1]
    for one, other, low, high in zip(counts, counts[1:], drawn, drawn[1:], strict=False):
        if one and other and one <= other:
            assert BARS.index(low) <= BARS.index(high)
