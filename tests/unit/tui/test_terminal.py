"""The key that opens a shell: the app steps aside for the command line, and says what that complained about."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from appliance.client import Client
from tests.unit.tui.fakes import HOSTILE, SIZE, FakeClient, at_rest, item, on, shows
from tui.app import ApplianceApp
from tui.feed import Feed

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> FakeClient:
    made = FakeClient()
    made.rows["notebooks"], made.rows["deployments"] = [item("nb")], [item("web")]
    return made


@pytest.fixture
def app(client: FakeClient) -> ApplianceApp:
    return ApplianceApp(Feed(lambda: cast(Client, client)))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("notebooks", ["notebook", "exec", "nb"]), ("deployments", ["deployment", "exec", "-t", "web"])],
)
async def test_the_shell_has_the_terminal_and_its_complaint_is_shown(
    app: ApplianceApp, monkeypatch: pytest.MonkeyPatch, kind: str, arguments: list[str]
) -> None:
    seen: list[Any] = []

    @contextmanager
    def suspend() -> Iterator[None]:
        seen.append("aside")
        yield
        seen.append("back")

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(argv[3:])
        return subprocess.CompletedProcess(argv, 4, stderr=f"appliance: it does not run {HOSTILE}\n".encode())

    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, kind)
        monkeypatch.setattr(app, "suspend", suspend)
        monkeypatch.setattr(subprocess, "run", run)
        await pilot.press("T")
        await at_rest(pilot, app)
        await shows(pilot, app, f"it does not run {HOSTILE}")
    assert seen == ["aside", arguments, "back"]


async def test_where_the_terminal_cannot_be_lent_the_command_is_told(app: ApplianceApp) -> None:
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await on(pilot, app, "notebooks")
        await pilot.press("T")
        await shows(pilot, app, "this terminal cannot be lent")
