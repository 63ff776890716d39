"""The diff over real HTTP, and the command that shows it: it streams, and its work ends with whoever listened."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from starlette.applications import Starlette

from appliance.api import problem, stream
from appliance.api.parts import Parts
from appliance.api.routes import diff as routes
from appliance.cli import render
from appliance.cli.main import main
from appliance.client import Client
from appliance.errors import ApplianceError, NotFound, UsageError
from appliance.history.workspaces import Workspaces
from appliance.state import resources
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock
from tests.unit.history.diff.test_walk import children

pytestmark = pytest.mark.anyio
DEADLINE_S = 30.0


class Served:
    def __init__(self, client: Client, workspaces: Workspaces, uid: str, stopping: asyncio.Event) -> None:
        self.client = client
        self.workspaces = workspaces
        self.uid = uid
        self.stopping = stopping

    async def head(self) -> Path:
        return await self.workspaces.open(self.uid)

    async def keep(self) -> str:
        return (await self.workspaces.snapshot(self.uid, cause="manual")).id

    async def changes(self, *moments: str, **options: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(self.client.diff("nb", *moments, **options)))

    async def run(self, *arguments: str) -> int:
        return await asyncio.to_thread(main, ["notebook", "diff", "nb", *arguments])


@pytest.fixture
async def served(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    db = Database(tmp_path / "state.db")
    workspaces = Workspaces(db, DirectoryStore(tmp_path / "volumes", "for tests", durable=False), clock)
    with db.write() as writing:
        declared, _ = resources.put(writing, "notebook", "nb", spec={}, source="test", now=clock())
    stopping = asyncio.Event()
    parts = cast(Parts, SimpleNamespace(db=db, workspaces=workspaces, stopping=stopping))
    app = Starlette(
        routes=routes.routes(parts),
        exception_handlers={ApplianceError: problem.on_appliance_error, Exception: problem.on_surprise},
    )
    async with _serving(app, tmp_path / "api.sock"):
        client = Client(socket=tmp_path / "api.sock")
        monkeypatch.setattr(render, "client", lambda: client)
        yield Served(client, workspaces, declared.uid, stopping)
        client.close()
    db.close()


@asynccontextmanager
async def _serving(app: Starlette, path: Path) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, uds=str(path), log_level="warning", lifespan="off"))
    server.config.setup_event_loop = lambda: None  # type: ignore[method-assign]
    task = asyncio.create_task(server._serve())
    await _until(lambda: server.started)
    yield
    server.should_exit = True
    async with asyncio.timeout(DEADLINE_S):
        await task


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 -- what is waited for is in other processes
            await asyncio.sleep(0.01)


async def many(served: Served) -> None:
    """More than the sockets and pipes in between hold."""
    head = await served.head()
    await served.keep()
    for number in range(5_000):
        (head / f"{number:0250}").touch()


async def test_changes_and_files_come_over_http(served: Served) -> None:
    head = await served.head()
    (head / "a").write_text("1\n")
    first = await served.keep()
    (head / "a").write_text("2\n2\n")
    (head / os.fsdecode(b"odd\xff")).write_text("x\n")
    found = await served.changes()
    assert [(change["change"], change["path"]) for change in found[:-1]] == [("changed", "a"), ("added", "odd\\xff")]
    assert found[-1]["cut"] == ""
    assert await served.changes("now", first, path="a") == [
        {"change": "changed", "path": "a", "kind": "file", "before": 4, "after": 2},
        {"end": True, "cut": "", "changes": 1, "entries": 1},
    ]
    file = await asyncio.to_thread(served.client.diff_file, "nb", "odd\\xff")
    assert file["hunks"] == [{"before": 1, "after": 1, "lines": ["+x"]}]
    assert (await served.changes(limit=1))[-1]["cut"] == "there are more than 1 changes"


async def test_what_cannot_begin_is_an_error_of_its_own(served: Served) -> None:
    await served.head()
    with pytest.raises(NotFound, match="no snapshot to compare with"):
        await served.changes()
    first = await served.keep()
    with pytest.raises(NotFound):
        await served.changes("0123456789")
    with pytest.raises(UsageError):
        await served.changes(first, path="../x")
    with pytest.raises(NotFound):
        await asyncio.to_thread(served.client.diff_file, "nb", "nothing")
    with pytest.raises(NotFound):
        await asyncio.to_thread(lambda: list(served.client.diff("other")))


async def test_the_work_ends_when_the_client_goes(served: Served) -> None:
    await many(served)
    answer = served.client.diff("nb")
    first = await asyncio.to_thread(next, answer)
    assert "change" in first
    assert len(children()) == 1
    await asyncio.to_thread(served.client.close)
    await _until(lambda: not children())


async def test_the_work_ends_when_the_daemon_stops(served: Served) -> None:
    await many(served)
    answer = served.client.diff("nb")
    await asyncio.to_thread(next, answer)
    served.stopping.set()
    rest = await asyncio.to_thread(list, answer)
    assert all("end" not in document for document in rest)
    await _until(lambda: not children())


async def test_a_silence_is_bridged_and_a_client_that_leaves_it_is_seen(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to tell for long: empty lines, and no child is left when nobody waits for it any more."""
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    released = asyncio.Event()

    @asynccontextmanager
    async def silent(*_: object, **__: object) -> AsyncIterator[AsyncIterator[bytes]]:
        async def batches() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b""

        try:
            yield batches()
        finally:
            released.set()

    monkeypatch.setattr("appliance.history.diff.compare.comparing", silent)
    await served.head()
    await served.keep()
    connection = served.client._connect(None)
    await asyncio.to_thread(connection.request, "GET", "/v1/notebooks/nb/diff")
    response = await asyncio.to_thread(connection.getresponse)
    assert await asyncio.to_thread(response.readline) == b"\n"
    assert response.headers["Content-Type"] == "application/x-ndjson"
    response.close()
    connection.close()
    async with asyncio.timeout(DEADLINE_S):
        await released.wait()


class TestCommand:
    async def prepared(self, served: Served) -> str:
        head = await served.head()
        (head / "a.txt").write_text("same\nold\n")
        (head / "gone").write_text("x" * 1500)
        (head / "folder").mkdir()
        (head / "folder" / "moved").write_text("moved")
        (head / "nb.ipynb").write_text(notebook("x = 1"))
        first = await served.keep()
        (head / "a.txt").write_text("same\nnew\x1b[2J\n")
        (head / "gone").unlink()
        (head / "folder").rename(head / "other")
        (head / "nb.ipynb").write_text(notebook("x = 1", "print(x)", output="1"))
        (head / "new\nline").write_text("n")
        return first

    async def test_the_listing(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run() == 0
        said = capsys.readouterr()
        lines = [" ".join(line.split()) for line in said.out.splitlines()]
        assert lines[0] == "changed 9 B -> 13 B a.txt"
        assert lines[1].endswith(" nb.ipynb")
        assert lines[2:] == ["renamed 5 B folder -> other/", "removed 1.5 kB gone", "added 1 B new�line"]
        assert said.err == "5 changes in 8 entries\n"

    async def test_one_file_by_its_lines(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        first = await self.prepared(served)
        assert await served.run(first, "now", "a.txt") == 0
        assert capsys.readouterr().out == "@@ -1,2 +1,2 @@\n same\n-old\n+new�[2J\n"

    async def test_one_notebook_by_its_cells(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("nb.ipynb") == 0
        assert capsys.readouterr().out == "cell 2 added (code)\n+print(x)\n+[1 output: text '1']\n"

    async def test_all_of_them(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("-p") == 0
        shown = capsys.readouterr().out
        assert "    -old\n    +new�[2J\n" in shown
        assert "    +print(x)\n" in shown

    async def test_a_directory_is_listed(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("other") == 0
        assert "other/moved" in capsys.readouterr().out

    async def test_totals(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("--stat", "-o", "json") == 0
        totals = json.loads(capsys.readouterr().out)["totals"]
        assert totals["removed"] == {"number": 1, "bytes": -1500}
        assert totals["renamed"] == {"number": 1, "bytes": 0}
        assert await served.run("--stat") == 0
        assert "removed" in capsys.readouterr().out

    async def test_json(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("-o", "json") == 0
        shown = json.loads(capsys.readouterr().out)
        assert len(shown["items"]) == shown["end"]["changes"] == 5
        assert await served.run("a.txt", "-o", "json") == 0
        assert json.loads(capsys.readouterr().out)["kind"] == "text"

    async def test_a_cut_answer_is_said_and_fails(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("--limit", "1") == 1
        assert "this is not all: there are more than 1 changes" in capsys.readouterr().err

    async def test_an_answer_that_is_broken_off(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        served.stopping.set()
        assert await served.run() == 1
        assert "broken off" in capsys.readouterr().err

    async def test_wrong_words(self, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
        await self.prepared(served)
        assert await served.run("no-moment", "a.txt") == 2
        assert await served.run("nothing") == 3
        assert await served.run("0123456789") == 3


def notebook(*sources: str, output: str = "") -> str:
    made: list[dict[str, Any]] = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    if output:
        made[-1]["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": output}}]
    return json.dumps({"cells": made})
