"""The TUI against a stand-in client: each state of a list, hostile names, and what the keys do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import pytest
from textual.widgets import Input, Static
from textual.widgets.data_table import ColumnKey

from appliance.client import Client
from tests.unit.tui.fakes import HOSTILE, SIZE, FakeClient, at_rest, item, moment, on, settled, shows, text_of, top
from tui.app import SCREEN_KEYS, ApplianceApp
from tui.dialogs import AskScreen, LogScreen, TextScreen
from tui.feed import Feed
from tui.history import HistoryScreen
from tui.home import Home
from tui.kinds import KINDS, matches
from tui.listing import Listing
from tui.run import RunScreen

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def app(client: FakeClient) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


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
    ended = {"started": time.time() - 50, "finished": time.time(), "cause": "git", "parent": ""}
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
    client.rows["datasets"] = [item("mnist")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "datasets")
        await pilot.press("D")
        await top(pilot, app, AskScreen)
        await pilot.press(*"wrong", "enter")
        assert client.asked == []
        app.screen.query_one(Input).value = "mnist"
        await pilot.press("enter")
        await at_rest(pilot, app)
    assert client.asked == [("delete", "datasets", "mnist", "mnist")]


async def test_a_run_is_deleted_and_the_whole_question_fits(app: ApplianceApp, client: FakeClient) -> None:
    times = {"started": time.time() - 50, "finished": time.time(), "cause": "git", "parent": ""}
    client.rows["runs"] = [{**item("train.1"), **times}]
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "runs")
        await pilot.press("D")
        await top(pilot, app, AskScreen)
        assert "Type its name" in text_of(app)
        app.screen.query_one(Input).value = "train.1"
        await pilot.press("enter")
        await shows(pilot, app, "train.1 is gone")
    assert client.asked == [("delete", "runs", "train.1", "train.1")]


async def test_repositories_and_the_next_run_of_a_workflow_are_shown(app: ApplianceApp, client: FakeClient) -> None:
    soon = time.time() + 3 * 3600 + 60
    client.rows["workflows"] = [{**item("nightly", "Ready"), "next_run": soon}, {**item("other"), "next_run": None}]
    status = {"looked": time.time() - 5, "ref": "refs/heads/main", "commit": "a" * 40, "started": ["code.ci.1"]}
    client.rows["repositories"] = [{**item("code", "Ready"), "status": status}, item("new", "Pending")]
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "workflows")
        assert "in 3h" in text_of(app)
        await on(pilot, app, "repositories")
        shown = text_of(app)
        assert "main aaaaaaaaaaaa" in shown
        assert "code.ci.1" in shown
        assert "9 Repos" in shown
        await pilot.press("question_mark")
        await top(pilot, app, TextScreen)
        assert "9 Repos" in text_of(app)


async def test_a_workflow_is_run_and_its_run_is_shown(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["workflows"] = [{**item("train", "Ready"), "next_run": None}]
    client.run = {
        "name": "train.1", "phase": "Pending", "message": "", "started": None, "finished": None, "cause": "manual",
        "parent": "", "source": "", "jobs": [],
    }  # fmt: skip
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "workflows")
        await pilot.press("r")
        await top(pilot, app, RunScreen)
        await shows(pilot, app, "run train.1   Pending   not begun   started by: manual")
    assert client.asked == [("run", "train")]


async def test_columns_are_as_wide_as_their_cells_at_once(app: ApplianceApp) -> None:
    async with app.run_test(size=SIZE, notifications=True):
        table = app.query_one("#notebooks", Listing).table
        table.show({"a": ("a" * 30, "Running", "1s", "cli", "日本")})
        widths = [table.columns[ColumnKey(name)].content_width for name in KINDS[0].columns]
    assert widths == [30, 7, 3, 6, 6], "and as their headings"


async def test_a_long_name_leaves_room_for_what_happened(app: ApplianceApp, client: FakeClient) -> None:
    event = {"id": 1, "at": 1.0, "kind": "run", "name": "x" * 60, "level": "info", "reason": "Started"}
    client.rows["events"] = [{**event, "message": "the first job starts"}]
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await on(pilot, app, "events")
        assert "the first job starts" in text_of(app)


async def test_enter_on_a_screen_above_opens_nothing_of_the_list_below(app: ApplianceApp, client: FakeClient) -> None:
    client.moments = [moment("aa", "manual", None)]
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("h")
        await shows(pilot, app, "manual")
        await pilot.press("enter")
        await at_rest(pilot, app)
        assert isinstance(app.screen, HistoryScreen)


async def test_logs_are_followed_and_cannot_move_the_cursor(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("l")
        await top(pilot, app, LogScreen)
        await at_rest(pilot, app)
        shown = text_of(app)
        assert HOSTILE in shown
        assert "job | twored" in shown
        await pilot.press("escape")
        await at_rest(pilot, app)
        assert client.closed


async def test_opening_shows_the_address_with_its_token(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb")]
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("o")
        await top(pilot, app, TextScreen)
        assert "lab?token=t" in text_of(app)


async def test_a_spec_file_is_applied_and_a_missing_one_told(
    app: ApplianceApp, client: FakeClient, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("kind: notebook\nname: nb\n")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        for path in (tmp_path / "none.yaml", tmp_path / "a.yaml"):
            await pilot.press("a")
            await top(pilot, app, AskScreen)
            app.screen.query_one(Input).value = str(path)
            await pilot.press("enter")
            await at_rest(pilot, app)
        await shows(pilot, app, "cannot be read")
    assert client.asked == [("apply", "kind: notebook\nname: nb\n")]


async def test_every_screen_fits_a_small_terminal(app: ApplianceApp, client: FakeClient) -> None:
    client.rows["notebooks"] = [item("nb" * 50)]
    async with app.run_test(size=(80, 24)) as pilot:
        for key, _ in SCREEN_KEYS:
            await pilot.press(key)
            await settled(pilot, app)
        await pilot.press("question_mark")
        await top(pilot, app, TextScreen)


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
