"""The history screen against a stand-in client: the timeline, the diff beside it, and what the keys ask for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from textual.app import App
from textual.pilot import Pilot

from appliance.client import Client
from appliance.errors import Conflict
from tests.unit.tui.fakes import DEADLINE_S, HOSTILE, moment
from tui.dialogs import AskScreen, TextScreen
from tui.feed import Feed
from tui.history import HistoryScreen, file_text, size

pytestmark = pytest.mark.anyio

SIZE = (140, 40)


class FakeClient:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refuse = False
        self.moments = [moment("bb", "stop", 2000), moment("aa", "manual", None, message=HOSTILE, held=["user"])]

    def history(self, notebook: str) -> list[Any]:
        return self.moments

    def act(self, kind: str, name: str, verb: str, body: Any) -> Any:
        self.asked.append((verb, dict(body)))
        if self.refuse:
            raise Conflict(f"no {HOSTILE}", hint="wait")
        return {}

    def hold(self, notebook: str, snapshot: str, reason: str = "") -> None:
        self.asked.append(("hold", snapshot))

    def release(self, notebook: str, snapshot: str) -> None:
        self.asked.append(("release", snapshot))

    def diff(self, notebook: str, older: str, newer: str, *, limit: int) -> Iterator[Any]:
        self.asked.append(("diff", older, newer))
        yield {"change": "changed", "path": f"{HOSTILE}\x1b[2J", "kind": "file", "before": 10, "after": 2000}
        yield {"change": "renamed", "path": "b", "was": "a", "kind": "file", "before": 1, "after": 1}
        yield {"end": True, "cut": "too many", "changes": 2, "entries": 5}

    def diff_file(self, notebook: str, path: str, older: str, newer: str) -> Any:
        self.asked.append(("file", path, older))
        return diff_of(path)

    def close(self) -> None:
        pass


def diff_of(path: str) -> dict[str, Any]:
    hunk = {"before": 1, "after": 1, "lines": ["-old", f"+{HOSTILE}"]}
    cell = {
        "change": "changed", "type": "code", "id": "c", "was": 1, "now": 1, "hunks": [hunk],
        "outputs_before": "", "outputs_after": "1 output", "outputs_changed": True, "notes": [],
    }  # fmt: skip
    return {"path": path, "note": "", "same": False, "hunks": [], "cells": [cell]}


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


class Host(App[None]):
    def __init__(self, client: FakeClient) -> None:
        super().__init__()
        self._feed = Feed(lambda: cast(Client, client))

    def on_mount(self) -> None:
        self.push_screen(HistoryScreen(self._feed, "nb"))


@pytest.fixture
def app(client: FakeClient) -> Host:
    return Host(client)


def text_of(app: App[None]) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def shows(pilot: Pilot[None], app: App[None], text: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while text not in text_of(app):
        assert time.monotonic() < deadline, f"{text!r} is not in\n{text_of(app)}"
        await pilot.pause(0.02)


async def asked(pilot: Pilot[None], client: FakeClient, what: tuple[Any, ...]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while what not in client.asked:
        assert time.monotonic() < deadline, client.asked
        await pilot.pause(0.02)


async def answer(pilot: Pilot[None], app: App[None], *keys: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not isinstance(app.screen, AskScreen):
        assert time.monotonic() < deadline
        await pilot.pause(0.02)
    await pilot.press(*keys, "enter")


async def test_the_timeline_and_the_diff_beside_it_show_foreign_text_as_it_is(app: Host, client: FakeClient) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await shows(pilot, app, "since bb: 2 changes; not whole: too many")
        shown = text_of(app)
        assert "2.0 kB" in shown
        assert f"[held] {HOSTILE}" in shown
        assert f"~ {HOSTILE}\N{REPLACEMENT CHARACTER}[2J  10 B -> 2.0 kB" in shown
        assert "> a -> b" in shown
        await pilot.press("j")
        await shows(pilot, app, "since aa: 2 changes")


async def test_rollback_wants_a_yes_and_undo_none(app: Host, client: FakeClient) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await shows(pilot, app, "stop")
        await pilot.press("R")
        await answer(pilot, app, *"no")
        await shows(pilot, app, "That is not")
        assert not [entry for entry in client.asked if entry[0] == "rollback"]
        await pilot.press("escape")
        await pilot.press("R")
        await answer(pilot, app, *"yes")
        await asked(pilot, client, ("rollback", {"snapshot": "bb"}))
        await pilot.press("u")
        await asked(pilot, client, ("undo", {}))


async def test_snapshot_restore_fork_and_hold_name_the_moment(app: Host, client: FakeClient) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await shows(pilot, app, "stop")
        await pilot.press("r")
        await answer(pilot, app, *"a.py")
        await asked(pilot, client, ("restore", {"snapshot": "bb", "path": "a.py"}))
        await pilot.press("F")
        await answer(pilot, app, *"twin")
        await asked(pilot, client, ("fork", {"name": "twin", "snapshot": "bb"}))
        await pilot.press("h")
        await asked(pilot, client, ("hold", "bb"))
        await pilot.press("s")
        await answer(pilot, app, *"kept")
        await asked(pilot, client, ("snapshot", {"message": "kept"}))


async def test_a_file_is_compared_cell_by_cell(app: Host, client: FakeClient) -> None:
    async with app.run_test(size=SIZE) as pilot:
        await shows(pilot, app, "stop")
        await pilot.press("d")
        await answer(pilot, app, *"a.ipynb")
        await asked(pilot, client, ("file", "a.ipynb", "bb"))
        await shows(pilot, app, "cell 1 (code) changed")
        assert isinstance(app.screen, TextScreen)
        assert f"+{HOSTILE}" in text_of(app)


async def test_a_refusal_is_told(app: Host, client: FakeClient) -> None:
    client.refuse = True
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await shows(pilot, app, "stop")
        await pilot.press("u")
        await shows(pilot, app, "not done")


def test_sizes_and_a_diff_as_text() -> None:
    assert [size(count) for count in (0, 999, 1000, 2_500_000)] == ["0 B", "999 B", "1.0 kB", "2.5 MB"]
    assert "outputs: none -> 1 output" in file_text(diff_of("a.ipynb"))
    assert "nothing changed" in file_text({**diff_of("a"), "same": True, "cells": []})
