"""Asking a session's Jupyter to bring its open documents and the files together."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from appliance.engine.types import Container
from appliance.errors import EngineDown
from appliance.notebooks import documents, jupyter
from appliance.notebooks.documents import Documents, OpenDocuments
from appliance.state.resources import Resource

pytestmark = pytest.mark.anyio

ROW = Resource(
    kind="notebook",
    name="nb",
    uid="u1",
    spec={},
    generation=1,
    source="cli",
    desired="running",
    deleting=False,
    observed=1,
    phase="Running",
    message="",
    status={"container": "c1", "ready": "c1", "token": "t0k"},
    created=0.0,
    updated=0.0,
)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Engine:
    def __init__(self, port: int | None, *, down: bool = False, gone: bool = False) -> None:
        self.port, self.down, self.gone = port, down, gone

    async def inspect(self, container: str) -> Container | None:
        assert container == "c1"
        if self.down:
            raise EngineDown("the engine does not answer")
        if self.gone:
            return None
        ports = {jupyter.PORT: self.port} if self.port else {}
        return Container("c1", "n", "i", "i", {}, "running", ports=ports)


@asynccontextmanager
async def serving(answer: bytes | None) -> AsyncIterator[tuple[int, list[tuple[str, Mapping[str, str], Any]]]]:
    """None: a Jupyter that never answers. What it was asked comes in order: target, headers, body."""
    asked: list[tuple[str, Mapping[str, str], Any]] = []
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        asked.append((head[0], headers, body))
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        done.set()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def asking(engine: Engine) -> AsyncIterator[OpenDocuments]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        yield OpenDocuments(engine, http)  # type: ignore[arg-type]


async def test_a_flush_is_asked_with_the_token_in_the_header_and_is_no_activity() -> None:
    async with serving(OK) as (port, asked), asking(Engine(port)) as open_documents:
        assert await open_documents.flush(ROW) == ""
    [(target, headers, body)] = asked
    assert target == "POST /notebooks/nb/appliance/flush?no_track_activity=1 HTTP/1.1"
    assert (headers["authorization"], body) == ("token t0k", {})


async def test_around_other_files_they_are_kept_from_being_written_then_read_again() -> None:
    async with serving(OK) as (port, asked), asking(Engine(port)) as open_documents:
        async with open_documents.replacing(ROW, "./a//ü.ipynb") as silent:
            assert [target.split("?")[0] for target, _, _ in asked] == ["POST /notebooks/nb/appliance/pause"]
        with pytest.raises(KeyError):
            async with open_documents.replacing(ROW, "\udcff"):  # a name that is no text
                raise KeyError("the restore has failed")
    assert silent == []
    assert [target.split("?")[0].rpartition("/")[2] for target, _, _ in asked] == ["pause", "reload"] * 2
    assert [body for _, _, body in asked] == [{"path": "a/ü.ipynb"}] * 2 + [{"path": "\udcff"}] * 2


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (lambda port: Engine(port), "status 404"),
        (lambda port: Engine(1), "connect"),
        (lambda port: Engine(port, down=True), "the engine does not answer"),
        (lambda port: Engine(None), ""),
        (lambda port: Engine(port, gone=True), ""),
    ],
)
async def test_whatever_does_not_answer_holds_up_nothing(engine: Callable[[int], Engine], words: str) -> None:
    async with serving(MISSING) as (port, _), asking(engine(port)) as open_documents:
        said = await open_documents.flush(ROW)
        assert words in said.lower()
        assert bool(said) == bool(words)
        async with open_documents.replacing(ROW, "a.ipynb") as why:
            pass
        assert bool(why) == bool(words)


async def test_one_that_never_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "ASK_TIMEOUT_S", 0.2)
    async with serving(None) as (port, _), asking(Engine(port)) as open_documents:
        async with asyncio.timeout(60):
            assert "no answer" in await open_documents.flush(ROW)


async def test_a_session_that_is_asked_in_vain_again_and_again_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "appliance")
    async with serving(MISSING) as (port, asked), asking(Engine(port)) as open_documents:
        for _ in range(5):
            await open_documents.warn(ROW, "soon")
            await open_documents.flush(ROW)
    assert len(asked) == 10
    assert len([line for line in caplog.messages if "404" in line]) == 1


@pytest.mark.parametrize("status", [{}, {"container": "c1"}, {"container": "c2", "ready": "c1"}])
async def test_nobody_is_asked_before_jupyter_serves(status: dict[str, str]) -> None:
    async with asking(Engine(None, down=True)) as open_documents:
        assert await open_documents.flush(replace(ROW, status=status)) == ""


async def test_a_warning_is_told() -> None:
    async with serving(OK) as (port, asked), asking(Engine(port)) as open_documents:
        await open_documents.warn(ROW, "soon")
    assert [(target.split("?")[0], body) for target, _, body in asked] == [
        ("POST /notebooks/nb/appliance/warn", {"text": "soon"})
    ]


async def test_without_sessions_there_is_nothing_to_ask() -> None:
    assert await Documents().flush(ROW) == ""
    await Documents().warn(ROW, "soon")
    async with Documents().replacing(ROW, "a"):
        pass
