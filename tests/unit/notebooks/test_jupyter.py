"""How Jupyter is started and asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest

from appliance.notebooks import jupyter


def test_the_command_carries_the_path_of_its_own_and_no_token() -> None:
    command = jupyter.command("nb")
    assert command[:2] == ["jupyter", "lab"]
    assert "--ServerApp.base_url=/notebooks/nb/" in command
    assert "--ServerApp.ip=0.0.0.0" in command
    assert "--ServerApp.open_browser=False" in command
    assert not any("token" in word.lower() or "allow_origin" in word for word in command)


def test_files_for_other_commands_say_the_same() -> None:
    files = {name: json.loads(text) for name, text in jupyter.config_files("nb").items() if name.endswith(".json")}
    server = files["jupyter_server_config.json"]
    assert server["ServerApp"].pop("jpserver_extensions") == dict.fromkeys(jupyter.EXTENSIONS, True)
    assert server.pop("LabServerApp") == {"extra_labextensions_path": ["/etc/appliance/jupyter/labextensions"]}
    assert server == {**jupyter.settings("nb"), **jupyter.documents()}
    classic = files["jupyter_notebook_config.json"]["NotebookApp"]
    assert (classic["base_url"], classic["notebook_dir"]) == ("/notebooks/nb/", "/notebooks")


def test_what_jupyter_imports_of_ours_goes_with_the_settings() -> None:
    files = jupyter.config_files("nb")
    assert jupyter.CONFIG_DIR in files["jupyter_server_config.py"]
    assert {f"{module}.py" for module in jupyter.EXTENSIONS} <= files.keys()
    assert "__init__.py" not in files


def test_advice_names_the_missing_jupyter() -> None:
    assert "JupyterLab" in jupyter.advice(127, "")
    assert "JupyterLab" in jupyter.advice(1, "Jupyter command `jupyter-lab` not found.")
    assert jupyter.advice(1, "Traceback") == ""


def test_only_a_good_end_after_a_request_is_a_shutdown_by_the_user() -> None:
    said = "[W 2026-01-01 ServerApp] Shutting down on /api/shutdown request."
    assert jupyter.closed_by_user(0, said)
    assert not jupyter.closed_by_user(1, said)
    assert not jupyter.closed_by_user(0, "received signal 15, stopping")


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that gives this answer to every request; None closes the connection at once."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is not None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def reply(status: int) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(200), ""),
        (reply(403), ""),
        (reply(302), ""),
        (reply(404), "base_url"),
        (reply(500), "status 500"),
        (None, "not open yet"),
    ],
)
async def test_asking(answer: bytes | None, words: str) -> None:
    async with answering(answer) as port, httpx2.AsyncClient(trust_env=False) as client:
        said = await jupyter.ask(client, port, "nb")
    assert said == words if not words else words in said


@pytest.mark.anyio
async def test_asking_one_that_drips_its_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's lock is held meanwhile: stop and delete wait for it."""
    monkeypatch.setattr(jupyter, "PROBE_TIMEOUT_S", 0.3)
    ended = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server, httpx2.AsyncClient(trust_env=False) as client, asyncio.timeout(6):
        assert "no answer" in await jupyter.ask(client, server.sockets[0].getsockname()[1], "nb")
        await ended.wait()
