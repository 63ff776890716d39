"""What jupyter-collaboration holds in memory, and the files: on the real engine with the real image."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from appliance.state.resources import Resource
from tests.integration.services import Services, eventually, needs_services, services
from tests.integration.test_notebooks import Browser, running_again

pytestmark = needs_services

PRINTING = "import time\nfor i in range(100_000):\n    print('line', i, time.time(), flush=True)\n    time.sleep(0.1)"
"""It never pauses for as long as a save waits for."""
SLOWLY = (
    "import os, time\nwhile not os.path.exists('/notebooks/d/end'):\n    print('line', time.time(), flush=True)\n"
    "    time.sleep(3)"
)
"""Each line is saved by Jupyter itself."""
SLOW_S = 15.0
"""What a loaded machine may add to the ten seconds that can be lost."""


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


class Page(Browser):
    """One notebook of one cell that is open on the server, and in no browser any more."""

    file = "d/a b.ipynb"

    def __init__(self, house: Services, notebook: Resource) -> None:
        super().__init__(house, notebook)
        self.path = house.store.path(house.workspaces.head(notebook.uid)) / self.file

    async def write(self, source: str) -> None:
        cell = {"cell_type": "code", "id": "c1", "metadata": {}, "source": source, "outputs": []}
        content = {"cells": [{**cell, "execution_count": None}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        await self.call("PUT", "api/contents/d", json={"type": "directory"})
        wanted = {"type": "notebook", "format": "json", "content": content}
        await self.call("PUT", f"api/contents/{self.file}", json=wanted)

    async def open(self) -> None:
        wanted = {"format": "json", "type": "notebook"}
        session = await self.call("PUT", f"api/collaboration/session/{self.file}", json=wanted)
        self.room = f"json:notebook:{session['fileId']}"
        url = f"ws://127.0.0.1:{self.house.settings.port}{self.base}api/collaboration/room/{self.room}"
        async with asyncio.timeout(180), connect(f"{url}?token={self.token}&sessionId={session['sessionId']}") as tab:
            await tab.recv()

    async def execute(self, code: str) -> None:
        """As JupyterLab does: the server writes the output into the document."""
        kernel = (await self.call("POST", "api/kernels", json={"name": "python3"}))["id"]
        where = {"document_id": self.room, "cell_id": "c1", "record_timing": True}
        await self.call("POST", f"api/kernels/{kernel}/execute", json={"code": code, "metadata": where})

    def source(self) -> str:
        return "".join(json.loads(self.path.read_text())["cells"][0]["source"])

    def printed(self, path: Path | None = None) -> float:
        """When the last line that is in the file was printed; 0: there is none."""
        outputs = json.loads((path or self.path).read_text())["cells"][0]["outputs"]
        lines = "".join("".join(output.get("text", "")) for output in outputs).splitlines()
        return float(lines[-1].split()[-1]) if lines else 0.0


async def a_page(house: Services, source: str = "") -> Page:
    house.declare("notebook", "nb", {"idle": "never"})
    page = Page(house, await house.phase("notebook", "nb", "Running", within_s=600))
    await page.write(source)
    await page.open()
    return page


async def test_what_a_cell_prints_is_a_moment_when_it_has_ended(house: Services) -> None:
    """Jupyter saves each of its lines; a training that goes on for days would fill the history."""
    page = await a_page(house)
    saved = house.settings.home / "notebooks" / house.get("notebook", "nb").uid / "signals" / "saved"
    await asyncio.sleep(3.0)  # the document is seen, and what was saved at its opening is over
    before = saved.stat().st_mtime_ns
    end = page.path.parent / "end"
    await page.execute(SLOWLY)
    for _ in range(3):
        seen = page.printed()
        await eventually(lambda seen=seen: page.printed() > seen, "another line in the file")  # type: ignore[misc]
        assert saved.stat().st_mtime_ns == before
    end.touch()
    await eventually(lambda: saved.stat().st_mtime_ns > before, "a save after the cell")


async def test_a_cell_that_prints_without_a_pause_loses_ten_seconds_at_most(house: Services) -> None:
    page = await a_page(house)
    await page.execute(PRINTING)
    await eventually(lambda: page.printed() > 0, "output in the file")
    begun = time.time()
    while time.time() < begun + 20:
        assert time.time() - page.printed() < 10 + SLOW_S
        await asyncio.sleep(0.2)
    notebook = house.get("notebook", "nb")
    await house.engine.kill(notebook.status["container"])
    killed = time.time()
    assert killed - page.printed() < 10 + SLOW_S
    last = page.printed()
    await eventually(lambda: house.workspaces.timeline(notebook.uid)[0].created >= killed, "the moment after the kill")
    moment = house.workspaces.timeline(notebook.uid)[0]
    async with house.workspaces.view(notebook.uid, moment.id) as files:
        assert page.printed(files / page.file) == last


async def test_moments_hold_what_was_printed_until_then(house: Services) -> None:
    page = await a_page(house)
    await page.execute(PRINTING)
    await eventually(lambda: page.printed() > 0, "output in the file")
    before = page.printed()
    for _ in range(4):  # within less time than passes between two saves
        asked = time.time()
        await asyncio.sleep(1.0)
        moment = await house.notebooks.history.snapshot("nb")
        async with house.workspaces.view(house.get("notebook", "nb").uid, moment.id) as files:
            printed = page.printed(files / page.file)
        assert printed > max(before, asked), "what was printed since the last one"
        before = printed
    house.ask("notebook", "nb", "stopped")
    asked = time.time()
    await house.phase("notebook", "nb", "Stopped")
    assert page.printed() > asked - 1.0


async def test_what_is_restored_below_an_open_document_stays(house: Services) -> None:
    page = await a_page(house, "old = 1")
    good = await house.notebooks.history.snapshot("nb")
    await page.write("new = 2")

    async def shown() -> Any:
        documents = (await page.call("GET", "appliance/state"))["documents"]
        assert [found["path"] for found in documents] == [page.file]
        return not documents[0]["unsaved"]

    await eventually(shown, "the document at rest")
    await house.notebooks.documents.warn(house.get("notebook", "nb"), "it ends soon")
    assert (await page.call("GET", "appliance/state"))["warning"] == "it ends soon"
    await page.execute(PRINTING)
    await eventually(lambda: page.printed() > 0, "output in the file")
    assert page.source() == "new = 2"
    await house.notebooks.history.restore("nb", good.id, "d")  # what is in a folder keeps its older time
    restored = time.time()
    assert page.source() == "old = 1"
    await eventually(lambda: page.printed() > restored + 3, "the output goes on in the cell")
    assert page.source() == "old = 1"
    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    assert page.source() == "old = 1"


async def test_a_browser_is_known_again_after_a_restart(house: Services) -> None:
    house.declare("notebook", "nb", {"idle": "never"})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    base = notebook.status["url_path"]
    async with httpx2.AsyncClient(base_url=house.settings.url, trust_env=False, timeout=60) as browser:
        assert (await browser.get(f"{base}api/contents")).status_code == 403
        await browser.get(f"{base}lab?token={notebook.status['token']}")
        assert (await browser.get(f"{base}api/contents")).status_code == 200
        house.ask("notebook", "nb", "stopped")
        await house.phase("notebook", "nb", "Stopped")
        house.ask("notebook", "nb", "running")
        await running_again(house, notebook)
        assert (await browser.get(f"{base}api/contents")).status_code == 200
