"""Asking the daemon from a screen: an answer, or an error that the user is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.screen import Screen

from appliance.client import Client
from appliance.errors import ApplianceError, DaemonDown
from tui.feed import Feed

TOLD_S = 10.0


async def answer(node: App[Any] | Screen[Any], feed: Feed, ask: Callable[[Client], Any]) -> Any:
    """The answer, or None once the error was shown."""
    try:
        return await feed.call(ask)
    except ApplianceError as error:
        show(node, error)
        return None


def show(node: App[Any] | Screen[Any], error: ApplianceError) -> None:
    title = "no daemon" if isinstance(error, DaemonDown) else "not done"
    node.notify(str(error), title=title, severity="error", timeout=TOLD_S, markup=False)
