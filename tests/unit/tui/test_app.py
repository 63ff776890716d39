"""The TUI against a stand-in client: each state of a list, hostile names, and what the keys do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from appliance.client import Client
from appliance.errors import Conflict, DaemonDown
from tui.app import ApplianceApp
from tui.dialogs import AskScreen, LogScreen, TextScreen
from tui.feed import Feed
from tui.history import HistoryScreen
from tui.home import Home
from tui.kinds import KINDS, matches

pytestmark = pytest.mark.anyio

HOSTILE = "[bold red]x[/"
SIZE = (120, 40)


class FakeClient:
    """Answers from `rows`, remembers what was asked, and goes down when told."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Any]] = {kind.name: [] for kind in KINDS}
        self.asked: list[tuple[Any, ...]] = []
        self.down = False
        self.refuse = False
        self.closed = False

    def items(self, kind: str) -> list[Any]:
        self._alive()
        return self.rows[kind]

    def status(self) -> Any:
        self._alive()
        now = time.time()
        part = {"name": "engine", "ok": False, "message": f"Docker is away {HOSTILE}"}
        active = [{"kind": "run", "name": "a.1", "phase": "Running", "message": HOSTILE, "since": now, "url": ""}]
        broken = [{"name": "b.yaml", "problem": HOSTILE, "declares": [], "updated": now}]
        return {
            "version": "1", "url": "http://x", "home": "/h", "started": now - 5, "now": now, "parts": [part],
            "counts": {"runs": {"Running": 1}}, "active": active, "failed": active, "broken_specs": broken,
        }  # fmt: skip

    def get(self, kind: str, name: str) -> Any:
        self._alive()
        return {"name": name, "note": HOSTILE}

    def act(self, kind: str, name: str, verb: str) -> Any:
        self.asked.append((verb, kind, name))
        if self.refuse:
            raise Conflict(f"no {HOSTILE}", hint="wait")
        return {"name": "train.2"} if verb in ("resume", "replay") else {}

    def history(self, name: str) -> Any:
        return []

    def start_run(self, name: str) -> Any:
        self.asked.append(("run", name))
        return {"name": f"{name}.1"}

    def access(self, name: str) -> Any:
        return {"url": "http://x/notebooks/nb/lab?token=t"}

    def delete(self, kind: str, name: str, *, confirm: str) -> None:
        self.asked.append(("delete", kind, name, confirm))

    def apply(self, text: str, file: str) -> Any:
        self.asked.append(("apply", text))
        return [{"kind": "notebook", "name": "nb", "change": "created"}]

    def follow_logs(self, **query: Any) -> Iterator[Any]:
        yield {"seq": 1, "part": "", "line": HOSTILE}
        yield {"seq": 2, "part": "job", "line": "two\x1b[2J"}

    def close(self) -> None:
        self.closed = True

    def _alive(self) -> None:
        if self.down:
            raise DaemonDown("the daemon does not answer")


def item(name: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "name": name, "phase": phase, "created": time.time() - 60, "source": "cli", "problem": "", "message": "",
        "url": "http://x/y", "status": {}, "id": name,
    }  # fmt: skip


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def app(client: FakeClient) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


async def at_rest(pilot: Pilot[None], app: ApplianceApp) -> None:
    """Until no worker runs; one that another replaced counts as ended."""
    deadline = time.monotonic() + 10
    while any(worker.is_running for worker in app.workers):
        assert time.monotonic() < deadline, f"still at work: {list(app.workers)}"
        await pilot.pause(0.01)
    await pilot.pause()


async def settled(pilot: Pilot[None], app: ApplianceApp) -> None:
    app.pulse()
    await at_rest(pilot, app)


async def shows(pilot: Pilot[None], app: ApplianceApp, text: str) -> None:
    """Toasts take a moment to appear."""
    deadline = time.monotonic() + 5
    while text not in text_of(app):
        assert time.monotonic() < deadline, f"{text!r} is not in\n{text_of(app)}"
        await pilot.pause(0.02)


async def on(pilot: Pilot[None], app: ApplianceApp, kind: str) -> None:
    await pilot.press(str([found.name for found in KINDS].index(kind) + 2))
    await settled(pilot, app)


def text_of(app: ApplianceApp) -> str:
    """Everything on the screen, as plain text."""
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    assert len(lines) <= height or width
    return "\n".join(strip.text for strip in lines)


async def test_home_shows_parts_and_what_runs_and_markup_stays_text(app: ApplianceApp) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await settled(pilot, app)
        assert app.query_one(Home).display
        shown = text_of(app)
    assert "DEGRADED" in shown
    assert HOSTILE in shown
    assert "run/a.1" in shown
    assert "b.yaml is not in force" in shown


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_an_empty_list_says_how_to_make_the_first_one(app: ApplianceApp, kind: Any) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, kind.name)
        assert kind.empty[:40] in text_of(app)


async def test_rows_with_hostile_text_are_shown_as_they_are(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item(HOSTILE)]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        assert HOSTILE in text_of(app)


async def test_the_cursor_stays_on_its_row_when_others_come_and_go(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("b"), item("c")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("j")
        client.rows["notebooks"] = [item("a"), item("b", "Stopped"), item("c", "Failed"), item("d")]
        await settled(pilot, app)
        assert app.listing is not None
        assert app.listing.current is not None
        assert app.listing.current["name"] == "c"
        assert "Failed" in text_of(app)


async def test_a_filter_hides_rows_and_says_when_none_is_left(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("apple"), item("pear")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("slash", *"pea")
        await settled(pilot, app)
        assert "apple" not in text_of(app)
        await pilot.press(*"xx")
        await settled(pilot, app)
        assert "0 of 2 match" in text_of(app)
        await pilot.press("escape")
        await settled(pilot, app)
        assert "apple" in text_of(app)


async def test_a_lost_daemon_keeps_the_last_data_and_comes_back(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("kept")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        client.down = True
        await settled(pilot, app)
        assert app.query_one("#banner", Static).display
        assert "kept" in text_of(app)
        client.down = False
        await settled(pilot, app)
        assert not app.query_one("#banner", Static).display


async def test_start_and_stop_act_on_the_row_and_a_refusal_is_told(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("s", "x")
        await settled(pilot, app)
        assert client.asked == [("start", "notebooks", "nb"), ("stop", "notebooks", "nb")]
        client.refuse = True
        await pilot.press("s")
        await shows(pilot, app, HOSTILE)


async def test_a_run_is_resumed_and_replayed_and_the_new_one_is_named(app: ApplianceApp, client: FakeClient) -> None:
    ended = {"started": time.time() - 50, "finished": time.time()}
    client.rows["runs"] = [
        {**item("train.1", "Failed"), **ended, "message": "a: exit code 1"},
        {**item("train.0", "Canceled"), **ended, "message": "canceled"},
    ]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "runs")
        shown = text_of(app)
        assert "a: exit code 1" in shown
        assert "canceled" not in shown, "the phase says it"
        assert "e resume" in shown
        assert "y replay" in shown
        await pilot.press("e")
        await shows(pilot, app, "resume of train.1: run train.2 has started")
        await pilot.press("y")
        await shows(pilot, app, "replay of train.1: run train.2 has started")
        assert client.asked == [("resume", "runs", "train.1"), ("replay", "runs", "train.1")]
        client.refuse = True
        await pilot.press("e")
        await shows(pilot, app, HOSTILE)
        await pilot.press("question_mark")
        await at_rest(pilot, app)
        assert isinstance(app.screen, TextScreen)
        assert "replay" in text_of(app)


async def test_an_action_of_another_screen_does_nothing_here(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["models"] = [{"id": "mo1", "name": "m", "type": "Custom", "dataset": "d", "version": "v", "created": 1}]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "models")
        await pilot.press("s", "x", "D", "r")
        await settled(pilot, app)
    assert client.asked == []


async def test_deleting_data_takes_the_typed_name(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("D")
        await pilot.pause()
        assert isinstance(app.screen, AskScreen)
        await pilot.press(*"wrong", "enter")
        assert client.asked == []
        app.screen.query_one(Input).value = "nb"
        await pilot.press("enter")
        await at_rest(pilot, app)
    assert client.asked == [("delete", "notebooks", "nb", "nb")]


async def test_logs_are_followed_and_cannot_move_the_cursor(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("l")
        await pilot.pause()
        assert isinstance(app.screen, LogScreen)
        await at_rest(pilot, app)
        shown = text_of(app)
        assert HOSTILE in shown
        assert "job | two [2J" in shown
        await pilot.press("escape")
        await at_rest(pilot, app)
        assert client.closed


async def test_opening_shows_the_address_with_its_token(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("o")
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, TextScreen)
        assert "lab?token=t" in text_of(app)


async def test_a_spec_file_is_applied_and_a_missing_one_told(
    app: ApplianceApp, client: FakeClient, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("kind: notebook\nname: nb\n")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        for path in (tmp_path / "none.yaml", tmp_path / "a.yaml"):
            await pilot.press("a")
            await pilot.pause()
            app.screen.query_one(Input).value = str(path)
            await pilot.press("enter")
            await at_rest(pilot, app)
        await shows(pilot, app, "cannot be read")
    assert client.asked == [("apply", "kind: notebook\nname: nb\n")]


async def test_every_screen_fits_a_small_terminal(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb" * 50)]
    async with app.run_test(size=(80, 24)) as pilot:
        for number in range(1, len(KINDS) + 2):
            await pilot.press(str(number))
            await settled(pilot, app)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, TextScreen)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("", True), ("PEAR", True), ("pear run", True), ("!run", False), ("!x pear", True), ("z", False)],
)
def test_a_filter_is_words_and_words_it_must_not_have(wanted: str, found: bool) -> None:
    assert matches(("pear", "Running"), wanted) is found


async def test_a_screen_on_top_takes_no_keys_of_the_list_below(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("h")
        await at_rest(pilot, app)
        assert isinstance(app.screen, HistoryScreen)
        await pilot.press("x", "a", "3")
        await at_rest(pilot, app)
        assert isinstance(app.screen, HistoryScreen)
        assert not [asked for asked in client.asked if asked[0] == "stop"]
