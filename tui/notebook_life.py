"""Restarting, renaming, deleting a notebook from its list: what is asked first, and what is said afterwards."""

from __future__ import annotations

import time
from typing import Any

from textual.app import App

from appliance.client import Client
from appliance.errors import ApplianceError, Conflict
from tui.asking import answer, show
from tui.dialogs import AskScreen
from tui.feed import Feed

VERBS = frozenset({"restart", "rename", "delete"})


async def act(app: App[Any], feed: Feed, verb: str, name: str) -> None:
    """Do one of VERBS with notebook `name`; called from a worker, for it waits for screens."""
    match verb:
        case "restart":
            await _restart(app, feed, name)
        case "rename":
            await _rename(app, feed, name)
        case "delete":
            await _delete(app, feed, name)


async def _restart(app: App[Any], feed: Feed, name: str) -> None:
    question = f"Restart notebook {name}: what runs in it ends, its files stay. Type yes to go on:"
    if not await app.push_screen_wait(AskScreen(question, must="yes")):
        return
    if await answer(app, feed, lambda client: client.act("notebooks", name, "restart")) is not None:
        app.notify(f"restart {name}", markup=False)


async def _rename(app: App[Any], feed: Feed, name: str) -> None:
    question = f"New name of notebook {name}? Its address changes, and a session that runs is followed by another."
    new = await app.push_screen_wait(AskScreen(question))
    if new and (made := await answer(app, feed, lambda client: client.rename_notebook(name, new))):
        app.notify(f"{name} is {made['name']} from now on", markup=False)


async def _delete(app: App[Any], feed: Feed, name: str) -> None:
    """Into the trash; where there is none the daemon refuses, and the name has to be typed."""
    question = f"Delete notebook {name}? It can be brought back for some days. Type yes to go on:"
    if not await app.push_screen_wait(AskScreen(question, must="yes")):
        return

    def delete(client: Client, confirm: str = "") -> Any:
        return client.delete_notebook(name, confirm=confirm)

    try:
        gone = await feed.call(delete)
    except Conflict as refused:
        if "confirm" not in refused.hint:  # another reason, which no answer changes
            show(app, refused)
            return
        question = f"{refused.message}. Type its name to go on:"
        if not await app.push_screen_wait(AskScreen(question, must=name)):
            return
        gone = await answer(app, feed, lambda client: delete(client, name))
    except ApplianceError as error:
        show(app, error)
        return
    if gone:
        app.notify(told(name, gone["until"]), markup=False)


def told(name: str, until: float | None) -> str:
    if until is None:
        return f"{name} is being destroyed"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
    return f"{name} is deleted; `appliance notebook undelete {name}` brings it back until {when}"
