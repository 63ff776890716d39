"""Whether a session is used, as a real Jupyter and the kernel of this machine tell it; and moments of its files."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect

from appliance.notebooks.activity import Activity
from appliance.notebooks.idle import Look
from appliance.state.resources import Resource
from tests.integration.services import Services, eventually, needs_services, services
from tests.integration.test_notebooks import Browser

pytestmark = needs_services
BUSY_S = 600
"""Longer than any test here."""


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services(APPLIANCE_SAVE_QUIET_S="0.5") as found:
        yield found


class Watcher:
    """Looks as the daemon does, when the test says so."""

    def __init__(self, house: Services, notebook: Resource, http: httpx2.AsyncClient) -> None:
        self.house = house
        self.notebook = notebook
        self.activity = Activity(engine=house.engine, http=http, counter=time.monotonic, gpu_busy=lambda uid: False)

    async def look(self) -> Look:
        found, _ = await self.activity.look(self.notebook, self.notebook.status["container"], gpus=False, saved=0.0)
        return found

    async def until(self, words: str) -> None:
        """Until this keeps it; empty: nothing does."""
        seen = []

        async def look() -> bool:
            seen.append((await self.look()).busy)
            await asyncio.sleep(0.5)
            return words in seen[-1] if words else not seen[-1]

        try:
            await eventually(look, f"{words or 'nothing'!r}")
        except AssertionError:
            raise AssertionError(f"never {words or 'nothing'!r}, at last {seen[-20:]}") from None


async def shell(browser: Browser) -> ClientConnection:
    terminal = (await browser.call("POST", "api/terminals"))["name"]
    url = f"ws://127.0.0.1:{browser.house.settings.port}{browser.base}terminals/websocket/{terminal}"
    return await connect(f"{url}?token={browser.token}")


async def test_kernels_terminals_and_programs_of_a_real_session(house: Services) -> None:
    house.declare("notebook", "nb", {})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)
    async with httpx2.AsyncClient(trust_env=False) as http:
        watcher = Watcher(house, notebook, http)
        assert (await watcher.look()).blind
        await watcher.until("")

        running = asyncio.create_task(browser.run(f"import time; time.sleep({BUSY_S})"))
        await watcher.until("the kernel of python3 computes")
        (kernel,) = await browser.call("GET", "api/kernels")
        await browser.call("POST", f"api/kernels/{kernel['id']}/interrupt")
        with pytest.raises(AssertionError, match="KeyboardInterrupt"):
            await running
        await watcher.until("")

        terminal = await shell(browser)
        await watcher.until("")
        await terminal.send(json.dumps(["stdin", f"sleep {BUSY_S}\n"]))
        await watcher.until("`sleep` runs in a terminal")
        assert (await watcher.look()).busy == "`sleep` runs in a terminal", "without a word of output"
        await terminal.send(json.dumps(["stdin", "\x03"]))
        await watcher.until("")

        await terminal.send(json.dumps(["stdin", "nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & exit\n"]))
        await watcher.until("of a processor")
        assert not (await browser.call("GET", "api/terminals")), "its terminal is closed"
        await house.engine.exec(notebook.status["container"], ["pkill", "-f", "while"])
        await watcher.until("")

        outside = asyncio.create_task(
            house.engine.exec(notebook.status["container"], ["sleep", str(BUSY_S)], timeout_s=BUSY_S)
        )
        await watcher.until("`sleep` runs, begun from outside")
        outside.cancel()
        await terminal.close()

        # what an open page asks for again and again
        await house.engine.exec(notebook.status["container"], ["pkill", "sleep"])
        await watcher.until("")
        for path in ("api/kernels", "api/sessions", "api/terminals", "api/contents", "api/status") * 3:
            await browser.call("GET", path)
        assert (await watcher.look()).busy == "", "its saves are seen, so what else it is asked for does not count"
        await browser.put("large.txt", "x" * (1 << 20))
        await watcher.until("through its network")

        await house.engine.stop(notebook.status["container"], grace_s=3)
        assert "its port is not published" in (await watcher.look()).busy


async def test_each_save_in_jupyter_becomes_a_moment(house: Services) -> None:
    house.declare("notebook", "nb", {})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)
    for content in ("one", "two"):
        await browser.put("a b ü.txt", content)

        def kept(content: str = content) -> bool:
            newest = house.workspaces.timeline(notebook.uid)[0]
            return newest.cause == "save"

        await eventually(kept, "a moment of the save")
        moment = house.workspaces.timeline(notebook.uid)[0].id
        async with house.workspaces.reading(notebook.uid, moment, "a b ü.txt") as file:
            assert file.read() == content.encode()
        await house.notebooks.history.snapshot("nb", "between")


async def test_a_file_saved_one_second_before_docker_kill_is_in_the_history(house: Services) -> None:
    house.declare("notebook", "nb", {})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    await Browser(house, notebook).put("last.txt", "one second before")
    await asyncio.sleep(1.0)
    await house.engine.kill(notebook.status["container"])

    def ended() -> bool:
        row = house.get("notebook", "nb")
        return row.phase != "Running" or row.status["container"] != notebook.status["container"]

    await eventually(ended, "the end of the session seen")
    moments = house.workspaces.timeline(notebook.uid)
    found = []
    for moment in moments:
        names = [entry.name for entry in await house.workspaces.listing(notebook.uid, moment.id)]
        if b"last.txt" in names:
            found.append(moment.cause)
            async with house.workspaces.reading(notebook.uid, moment.id, "last.txt") as file:
                assert file.read() == b"one second before"
    assert found, "whatever comes next, it is kept before"
    assert {"stop", "save"} & set(found), "not only because another session begins"
