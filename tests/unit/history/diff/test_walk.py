"""The child programs: they stream, they end when nobody listens, and what goes wrong in them is told."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import NotFound, StorageError, UsageError
from appliance.history.diff import walk
from appliance.history.diff.tree import Options
from tests.unit.storage.trees import fill

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
    return tmp_path / "before", tmp_path / "after"


def processes() -> set[int]:
    """Of this one, that have not been reaped."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found |= {int(pid) for pid in Path(f"/proc/self/task/{task}/children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    """What another test has left is not this one's."""
    _others.update(processes())
    yield
    _others.clear()


_others: set[int] = set()


def children() -> set[int]:
    """That the test has begun and that have not been reaped."""
    return processes() - _others


async def told(before: Path, after: Path, hints: Any = None, **options: Any) -> list[dict[str, Any]]:
    async with walk.walking(before, after, Options(**options), hints) as batches:
        return [json.loads(line) async for batch in batches for line in batch.splitlines()]


async def test_it_streams_what_differs(pair: tuple[Path, Path]) -> None:
    fill(pair[1])
    *changes, end = await told(*pair)
    assert {change["change"] for change in changes} == {"added"}
    assert end == {"end": True, "cut": "", "changes": len(changes), "entries": len(changes)}
    assert children() == set()


async def test_hints_and_a_path_reach_it(pair: tuple[Path, Path]) -> None:
    fill(pair[1])
    found = await told(*pair, iter(["b\udcffd", "x" * 255, "empty"]))
    assert [change["path"] for change in found[:-1]] == ["empty", "x" * 255]
    odd = os.fsdecode(b"\xff\xfe not utf-8")
    [change, _] = await told(*pair, under=odd)
    assert change["path"] == "\\xff\\xfe not utf-8"


async def test_leaving_early_ends_the_process(pair: tuple[Path, Path]) -> None:
    """More than the pipe holds: it is blocked in the middle of its work when we leave."""
    for number in range(6_000):
        (pair[1] / f"{number:0250}").touch()
    async with walk.walking(*pair, Options()) as batches:
        assert b'"added"' in await anext(batches)
        [pid] = children()
        assert Path(f"/proc/{pid}").exists()
    assert children() == set()


async def test_a_cancelled_caller_ends_the_process(pair: tuple[Path, Path]) -> None:
    for number in range(6_000):
        (pair[1] / f"{number:0250}").touch()
    begun = asyncio.Event()

    async def listen() -> None:
        async with walk.walking(*pair, Options()) as batches:
            await anext(batches)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(listen())
    async with asyncio.timeout(120):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert children() == set()


async def test_a_process_that_is_killed_is_told_at_the_end(pair: tuple[Path, Path]) -> None:
    for number in range(6_000):
        (pair[1] / f"{number:0250}").touch()
    lines: list[dict[str, Any]] = []
    async with walk.walking(*pair, Options()) as batches:
        [pid] = children()
        async for batch in batches:
            if not lines:  # once: after that the number may be another process's
                os.kill(pid, 9)
            lines += map(json.loads, batch.splitlines())
    assert lines[-1]["end"]
    assert "its process ended with -9" in lines[-1]["cut"]
    assert 0 < len(lines) < 6_000


async def test_a_root_that_is_gone_is_told(pair: tuple[Path, Path]) -> None:
    pair[1].rmdir()
    [end] = await told(*pair)
    assert "No such file or directory" in end["cut"]
    with pytest.raises(StorageError, match="No such file"):
        await walk.one_file(*pair, "x", "")


async def test_the_root_is_not_followed_where_it_is_a_link(pair: tuple[Path, Path]) -> None:
    pair[1].rmdir()
    pair[1].symlink_to("/etc")
    [end] = await told(*pair)
    assert end["cut"]


class TestOneFile:
    async def file(self, pair: tuple[Path, Path], path: str, was: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await walk.one_file(*pair, path, was))
        assert children() == set()
        return answer

    async def test_lines(self, pair: tuple[Path, Path]) -> None:
        (pair[0] / "a").write_text("1\n2\n")
        (pair[1] / "a").write_text("1\n3\n")
        found = await self.file(pair, "a")
        assert (found["kind"], found["same"], found["before"], found["after"]) == ("text", False, 4, 4)
        assert found["hunks"] == [{"before": 1, "after": 1, "lines": [" 1", "-2", "+3"]}]

    async def test_a_new_a_gone_and_a_renamed_file(self, pair: tuple[Path, Path]) -> None:
        (pair[1] / "new").write_text("x\n")
        (pair[0] / "gone").write_text("y\n")
        assert (await self.file(pair, "new"))["hunks"][0]["lines"] == ["+x"]
        assert (await self.file(pair, "gone"))["hunks"][0]["lines"] == ["-y"]
        renamed = await self.file(pair, "new", "gone")
        assert (renamed["was"], renamed["hunks"][0]["lines"]) == ("gone", ["-y", "+x"])

    async def test_cells(self, pair: tuple[Path, Path]) -> None:
        cell = {"cell_type": "code", "source": "x = 1", "outputs": [], "metadata": {}}
        (pair[0] / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
        (pair[1] / "a.ipynb").write_text(json.dumps({"cells": [cell, {**cell, "source": "y = 2"}]}))
        found = await self.file(pair, "a.ipynb")
        assert (found["kind"], found["unchanged"]) == ("notebook", 1)
        assert [change["change"] for change in found["cells"]] == ["added"]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("{broken", "not valid JSON"),
            ("[" * 200_000, "not valid JSON"),
            ("[]", "not a JSON object"),
            ("{}", "no list"),
        ],
    )
    async def test_a_broken_notebook_is_told_as_text(self, pair: tuple[Path, Path], content: str, why: str) -> None:
        (pair[0] / "a.ipynb").write_text('{"cells": []}')
        (pair[1] / "a.ipynb").write_text(content)
        found = await self.file(pair, "a.ipynb")
        assert found["kind"] == "text"
        assert why in found["note"]
        assert found["hunks"]

    async def test_binary_and_large(self, pair: tuple[Path, Path]) -> None:
        for root, content in zip(pair, (b"\0a", b"\0b"), strict=True):
            (root / "binary").write_bytes(content)
            (root / "same").write_bytes(b"\0same")
            (root / "large").write_bytes(b"line\n" * 1_000_000 + content[1:])
        assert (await self.file(pair, "binary"))["kind"] == "binary"
        assert (await self.file(pair, "same"))["same"]
        large = await self.file(pair, "large")
        assert (large["kind"], large["same"], large["hunks"]) == ("text", False, [])
        assert "larger than 4 MiB" in large["note"]

    async def test_links_are_told_and_not_followed(self, pair: tuple[Path, Path]) -> None:
        (pair[0] / "link").symlink_to("/etc/passwd")
        (pair[1] / "link").symlink_to("/etc/shadow")
        (pair[0] / "file").write_text("x")
        (pair[1] / "file").symlink_to("/etc/passwd")
        (pair[1] / "folder").symlink_to("/etc")
        assert (await self.file(pair, "link"))["hunks"][0]["lines"] == ["-/etc/passwd", "+/etc/shadow"]
        assert "a link to /etc/passwd after" in (await self.file(pair, "file"))["note"]
        with pytest.raises(NotFound):
            await self.file(pair, "folder/passwd")

    async def test_a_fifo_is_not_opened(self, pair: tuple[Path, Path]) -> None:
        os.mkfifo(pair[1] / "fifo")
        (pair[0] / "fifo").write_text("x")
        begun = time.monotonic()
        assert (await self.file(pair, "fifo"))["kind"] == "other"
        assert time.monotonic() - begun < walk.FILE_S / 2

    async def test_what_is_no_file(self, pair: tuple[Path, Path]) -> None:
        (pair[1] / "folder").mkdir()
        with pytest.raises(UsageError, match="is a directory"):
            await self.file(pair, "folder")
        with pytest.raises(NotFound, match="in either moment"):
            await self.file(pair, "nothing")

    async def test_one_that_takes_too_long_is_given_up(
        self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (pair[0] / "a").write_text("x")
        monkeypatch.setattr(walk, "FILE_S", 0.0)
        with pytest.raises(Exception, match="was given up"):
            await self.file(pair, "a")
        assert children() == set()
