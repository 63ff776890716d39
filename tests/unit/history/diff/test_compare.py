"""Moments of a workspace on the plain-directory store, also across a rollback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import NotFound, UsageError
from appliance.history.diff import compare
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock

pytestmark = pytest.mark.anyio
UID = "0123456789abcdef"


@pytest.fixture
def workspaces(tmp_path: Path, clock: Clock) -> Iterator[Workspaces]:
    db = Database(tmp_path / "state.db")
    yield Workspaces(db, DirectoryStore(tmp_path / "volumes", "for tests", durable=False), clock)
    db.close()


async def write(workspaces: Workspaces, **files: str) -> None:
    head = await workspaces.open(UID)
    for name, content in files.items():
        (head / name).write_text(content)


async def told(workspaces: Workspaces, older: str, newer: str, **options: Any) -> set[str]:
    found = [change async for change in compare.changes(workspaces, UID, older, newer, **options)]
    assert "end" in found[-1]
    return {f"{change['change']} {change['path']}" for change in found if "end" not in change}


async def keep(workspaces: Workspaces) -> str:
    return (await workspaces.snapshot(UID, cause="manual")).id


async def test_any_two_moments_and_now(workspaces: Workspaces) -> None:
    await write(workspaces, a="1", b="1")
    first = await keep(workspaces)
    await write(workspaces, b="22", c="1")
    second = await keep(workspaces)
    (await workspaces.open(UID) / "a").unlink()
    assert await told(workspaces, first, second) == {"changed b", "added c"}
    assert await told(workspaces, second, first) == {"changed b", "removed c"}
    assert await told(workspaces, second, "now") == {"removed a"}
    assert await told(workspaces, first, "now") == {"changed b", "added c", "removed a"}
    assert await told(workspaces, "now", first) == {"changed b", "removed c", "added a"}
    assert await told(workspaces, "now", "now") == set()
    assert await told(workspaces, first, first) == set()


async def test_across_a_rollback(workspaces: Workspaces) -> None:
    """The moments then lie in two volumes."""
    await write(workspaces, a="1")
    first = await keep(workspaces)
    await write(workspaces, b="1")
    second = await keep(workspaces)
    before = await workspaces.rollback(UID, first)
    assert await told(workspaces, first, "now") == set()
    assert await told(workspaces, second, "now") == {"removed b"}
    await write(workspaces, c="1")
    assert await told(workspaces, before.id, "now") == {"removed b", "added c"}
    assert await told(workspaces, "now", second) == {"added b", "removed c"}


async def test_the_default_is_the_newest_snapshot_and_now(workspaces: Workspaces) -> None:
    await workspaces.open(UID)
    with pytest.raises(NotFound, match="no snapshot to compare with"):
        compare.moments(workspaces, UID)
    first, second = await keep(workspaces), await keep(workspaces)
    assert compare.moments(workspaces, UID) == (second, "now")
    assert compare.moments(workspaces, UID, first) == (first, "now")
    assert compare.moments(workspaces, UID, "now", first) == ("now", first)


async def test_what_cannot_begin_is_an_error(workspaces: Workspaces) -> None:
    await workspaces.open(UID)
    first = await keep(workspaces)
    for older, newer in ((first, "0123456789"), ("0123456789", "now")):
        with pytest.raises(NotFound):
            await told(workspaces, older, newer)
        with pytest.raises(NotFound):
            await compare.one_file(workspaces, UID, older, newer, "a")
    for path in ("../x", "a/../../x", "/../etc/passwd"):
        with pytest.raises(UsageError):
            await told(workspaces, first, "now", path=path)
        with pytest.raises(UsageError):
            await compare.one_file(workspaces, UID, first, "now", path)


async def test_one_file_and_what_is_below_a_path(workspaces: Workspaces) -> None:
    await write(workspaces, a="1\n")
    first = await keep(workspaces)
    await write(workspaces, a="2\n", b="1")
    assert await told(workspaces, first, "now", path="a") == {"changed a"}
    found = json.loads(await compare.one_file(workspaces, UID, first, "now", "a"))
    assert found["hunks"][0]["lines"] == ["-1", "+2"]


async def test_a_large_tree_with_few_changes(workspaces: Workspaces) -> None:
    """Small beside tests/bench/bench_diff.py, which has 200,000 files."""
    head = await workspaces.open(UID)
    for folder in range(20):
        (head / f"{folder}").mkdir()
        for number in range(100):
            (head / f"{folder}" / f"{number}").touch()
    first = await keep(workspaces)
    for folder in range(10):
        (head / f"{folder}" / "7").write_text("changed")
    second = await keep(workspaces)
    expected = {f"changed {folder}/7" for folder in range(10)}
    assert await told(workspaces, first, "now") == expected
    assert await told(workspaces, first, second) == expected
    assert await told(workspaces, first, "now", checksum=True) == expected


async def test_the_workspace_is_as_it_was(workspaces: Workspaces) -> None:
    await write(workspaces, a="1")
    first = await keep(workspaces)
    head = await workspaces.open(UID)
    before = os.stat(head / "a").st_ctime_ns, os.stat(head).st_mtime_ns
    await told(workspaces, first, "now", checksum=True)
    await compare.one_file(workspaces, UID, first, "now", "a")
    assert (os.stat(head / "a").st_ctime_ns, os.stat(head).st_mtime_ns) == before
