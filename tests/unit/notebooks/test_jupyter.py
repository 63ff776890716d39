"""How Jupyter is started and asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    files = {name: json.loads(text) for name, text in jupyter.config_files("nb").items()}
    assert files["jupyter_server_config.json"] == jupyter.settings("nb")
    classic = files["jupyter_notebook_config.json"]["NotebookApp"]
    assert (classic["base_url"], classic["notebook_dir"]) == ("/notebooks/nb/", "/notebooks")


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
