"""Notebooks on the real engine, with the real image, through the real front door."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect

from appliance.state.resources import Resource
from appliance.telemetry.types import LogQuery
from tests.integration.services import Services, eventually, needs_services, services

pytestmark = needs_services


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


class Browser:
    """What a Jupyter client does, by hand: REST and the kernel's websocket, both through the front door."""

    def __init__(self, house: Services, notebook: Resource) -> None:
        self.house = house
        self.base = notebook.status["url_path"]
        self.token = notebook.status["token"]

    async def call(self, method: str, path: str, **more: Any) -> Any:
        answer = await self.house.http.request(
            method, f"{self.base}{path}", headers={"Authorization": f"token {self.token}"}, **more
        )
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.content else None

    async def put(self, path: str, text: str) -> None:
        await self.call("PUT", f"api/contents/{path}", json={"type": "file", "format": "text", "content": text})

    async def text(self, path: str) -> str:
        return str((await self.call("GET", f"api/contents/{path}"))["content"])

    async def run(self, code: str) -> str:
        """What the code prints."""
        kernel = (await self.call("POST", "api/kernels", json={"name": "python3"}))["id"]
        url = f"ws://127.0.0.1:{self.house.settings.port}{self.base}api/kernels/{kernel}/channels?token={self.token}"
        async with asyncio.timeout(180), connect(url, max_size=None) as socket:
            message = {
                "header": {
                    "msg_id": uuid.uuid4().hex,
                    "msg_type": "execute_request",
                    "session": uuid.uuid4().hex,
                    "username": "test",
                    "version": "5.3",
                    "date": "",
                },
                "parent_header": {},
                "metadata": {},
                "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
                "channel": "shell",
                "buffers": [],
            }
            await socket.send(json.dumps(message))
            printed = ""
            wanted = {"execute_reply", "idle"}  # they come on channels of their own: either may be the last
            async for frame in socket:
                reply = json.loads(frame)
                if reply["parent_header"].get("msg_id") != message["header"]["msg_id"]:  # type: ignore[index]
                    continue
                if reply["msg_type"] == "stream":
                    printed += reply["content"]["text"]
                if reply["msg_type"] == "error":
                    raise AssertionError("\n".join(reply["content"]["traceback"]))
                wanted.discard(reply["msg_type"])
                if reply["msg_type"] == "status":
                    wanted.discard(reply["content"]["execution_state"])
                if not wanted:
                    break
        await self.call("DELETE", f"api/kernels/{kernel}")
        return printed


async def running_again(house: Services, before: Resource) -> Resource:
    """In another session than before."""

    def another() -> bool:
        row = house.get("notebook", before.name)
        return row.phase == "Running" and row.status["container"] != before.status["container"]

    await eventually(another, "another session")
    return house.get("notebook", before.name)


async def test_a_notebook_runs_code_and_keeps_its_files_over_stop_start_and_rollback(house: Services) -> None:
    house.declare("notebook", "nb", {"env": {"GREETING": "hello"}})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)

    printed = await browser.run(
        "import os, pathlib\n"
        "pathlib.Path('kernel.txt').write_text('from a kernel')\n"
        "pathlib.Path('/storage/shared.txt').write_text('for all')\n"
        "print(os.environ['GREETING'], os.getcwd(), os.environ['APPLIANCE_URL'])"
    )
    assert printed == f"hello /notebooks http://host.docker.internal:{house.settings.port}\n"
    assert await browser.text("kernel.txt") == "from a kernel"
    await browser.put("a.txt", "good")

    async with httpx2.AsyncClient(base_url=house.settings.url, trust_env=False) as stranger:
        denied = await stranger.get(f"{browser.base}api/contents", headers={"Authorization": "token wrong"})
        assert denied.status_code == 403
    page = await house.http.get(f"{browser.base}lab?token={browser.token}")
    assert page.status_code == 200
    assert "JupyterLab" in page.text
    terminal = await browser.call("POST", "api/terminals")
    url = f"ws://127.0.0.1:{house.settings.port}{browser.base}terminals/websocket/{terminal['name']}"
    async with asyncio.timeout(180), connect(f"{url}?token={browser.token}") as shell:
        await shell.send(json.dumps(["stdin", "echo $((6*7))-from-terminal\n"]))
        said = ""
        while "42-from-terminal" not in said:
            frame = json.loads(await shell.recv())
            said += frame[1] if frame[0] == "stdout" else ""

    good = await house.notebooks.history.snapshot("nb", "as it should be")
    await browser.put("a.txt", "damaged")
    before = await house.notebooks.history.rollback("nb", good.id)
    notebook = await running_again(house, notebook)
    assert notebook.status["token"] == browser.token
    assert await browser.text("a.txt") == "good"
    await house.notebooks.history.rollback("nb", before.id)
    notebook = await running_again(house, notebook)
    assert await browser.text("a.txt") == "damaged"
    await house.notebooks.history.undo("nb")
    await running_again(house, notebook)
    assert await browser.text("a.txt") == "good"

    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    assert await house.containers("notebook", "nb") == []
    waiting = await house.http.get(browser.base)
    assert waiting.status_code == 503
    house.ask("notebook", "nb", "running")
    await house.phase("notebook", "nb", "Running")
    assert await browser.text("a.txt") == "good"
    assert await browser.run("print(open('/storage/shared.txt').read())") == "for all\n"

    lines = await house.telemetry.logs(LogQuery(kind="notebook", name="nb", contains="Jupyter Server", limit=10))
    assert lines, "the log of Jupyter is stored"
    everything = await house.telemetry.logs(LogQuery(kind="notebook", name="nb", contains=browser.token, limit=1))
    assert everything == [], "the token is in the log"

    house.delete("notebook", "nb")
    await house.gone("notebook", "nb")
    assert await house.containers("notebook", "nb") == []
    assert house.store.volumes("workspaces") == []


async def test_a_restarted_daemon_adopts_the_session_and_kernels_go_on(house: Services) -> None:
    house.declare("notebook", "nb", {})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)
    kernel = (await browser.call("POST", "api/kernels", json={"name": "python3"}))["id"]
    await house.drop()
    assert [found["id"] for found in await browser.call("GET", "api/kernels")] == [kernel]
    await house.start()
    await asyncio.sleep(0)
    await eventually(lambda: len(house.notebooks.publishing.routes) == 1, "the session seen again")
    again = await house.phase("notebook", "nb", "Running")
    assert again.status["container"] == notebook.status["container"]
    assert [found["id"] for found in await browser.call("GET", "api/kernels")] == [kernel]


async def test_a_killed_session_comes_back_and_a_shutdown_from_inside_stays_down(house: Services) -> None:
    house.declare("notebook", "nb", {})
    notebook = await house.phase("notebook", "nb", "Running", within_s=600)
    browser = Browser(house, notebook)
    await house.engine.kill(notebook.status["container"])
    await running_again(house, notebook)
    assert "Failed" in house.events("notebook", "nb")
    await browser.call("POST", "api/shutdown")
    notebook = await house.phase("notebook", "nb", "Stopped")
    assert notebook.desired == "stopped"
    assert "ShutDown" in house.events("notebook", "nb")


async def test_an_image_without_jupyter_and_a_command_of_the_users(house: Services) -> None:
    house.declare("notebook", "bare", {"image": "appliance/base", "command": ["jupyter", "lab"]})
    bare = await house.phase("notebook", "bare", "Failed", within_s=600)
    assert "the image has no JupyterLab" in bare.message
    house.delete("notebook", "bare")
    house.declare("notebook", "own", {"command": ["jupyter", "server", "--allow-root"]})
    own = await house.phase("notebook", "own", "Running")
    browser = Browser(house, own)
    assert await browser.run("print('ok')") == "ok\n"
    await house.gone("notebook", "bare")
