"""Restarting, renaming and deleting a notebook from its list."""

from __future__ import annotations

from typing import Any, cast

import pytest
from textual.widgets import Input

from appliance.client import Client
from appliance.errors import Conflict
from tests.unit.tui.fakes import SIZE, FakeClient, at_rest, item, on, shows, top
from tui.app import ApplianceApp
from tui.dialogs import AskScreen
from tui.feed import Feed

pytestmark = pytest.mark.anyio


class LifeClient(FakeClient):
    until: float | None = 1.8e9
    unsure: Conflict | None = None

    def rename_notebook(self, name: str, new: str) -> Any:
        self.asked.append(("rename", name, new))
        return {"name": new}

    def delete_notebook(self, name: str, *, confirm: str) -> Any:
        self.asked.append(("delete", name, confirm))
        if self.unsure and confirm != name:
            raise self.unsure
        return {"until": self.until}


@pytest.fixture
def client() -> LifeClient:
    made = LifeClient()
    made.rows["notebooks"] = [item("nb")]
    return made


@pytest.fixture
def app(client: LifeClient) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


async def test_a_restart_is_asked_for_first(app: ApplianceApp, client: LifeClient) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("R")
        await top(pilot, app, AskScreen)
        await pilot.press("enter")
        assert client.asked == []
        await pilot.press(*"yes", "enter")
        await shows(pilot, app, "restart nb")
    assert client.asked == [("restart", "notebooks", "nb")]


async def test_another_name(app: ApplianceApp, client: LifeClient) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("N")
        await top(pilot, app, AskScreen)
        await pilot.press(*"new", "enter")
        await shows(pilot, app, "nb is new from now on")
        await pilot.press("N")
        await top(pilot, app, AskScreen)
        await pilot.press("escape")
        await at_rest(pilot, app)
    assert client.asked == [("rename", "nb", "new")]


async def test_deleted_it_says_how_it_comes_back(app: ApplianceApp, client: LifeClient) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("D")
        await top(pilot, app, AskScreen)
        await pilot.press(*"yes", "enter")
        await shows(pilot, app, "appliance notebook undelete nb")
    assert client.asked == [("delete", "nb", "")]


async def test_without_a_trash_its_name_is_typed(app: ApplianceApp, client: LifeClient) -> None:
    client.unsure, client.until = Conflict("this destroys its data", hint="confirm with the name"), None
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("D")
        await top(pilot, app, AskScreen)
        await pilot.press(*"yes", "enter")
        await shows(pilot, app, "Type its name")
        app.screen.query_one(Input).value = "nb"
        await pilot.press("enter")
        await shows(pilot, app, "nb is being destroyed")
    assert client.asked == [("delete", "nb", ""), ("delete", "nb", "nb")]


async def test_what_no_answer_changes_is_told(app: ApplianceApp, client: LifeClient) -> None:
    client.unsure = Conflict("declared by nb.yaml", hint="remove that file first")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("D")
        await top(pilot, app, AskScreen)
        await pilot.press(*"yes", "enter")
        await shows(pilot, app, "declared by nb.yaml")
    assert client.asked == [("delete", "nb", "")]
