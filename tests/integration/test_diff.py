"""The diff of two moments on ZFS: through views, with hints where ZFS gives them, and renames by their inode."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.history.diff import compare
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.zfs.store import ZfsStore

pytestmark = [pytest.mark.anyio, pytest.mark.zfs]
UID = "0123456789abcdef"


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(zfs_dataset, tmp_path / "volumes")


@pytest.fixture
def workspaces(store: ZfsStore, tmp_path: Path) -> Iterator[Workspaces]:
    db = Database(tmp_path / "state.db")
    yield Workspaces(db, store, time.time)  # the clock that the files have
    db.close()


async def told(workspaces: Workspaces, older: str, newer: str, **options: Any) -> set[str]:
    found = [change async for change in compare.changes(workspaces, UID, older, newer, **options)]
    assert [dict(change).get("cut") for change in found if "end" in change] == [""]
    return {
        " ".join(part for part in (change["change"], change.get("was", ""), change["path"]) if part)
        for change in found
        if "end" not in change
    }


async def test_any_two_moments_and_across_a_rollback(workspaces: Workspaces) -> None:
    head = await workspaces.open(UID)
    (head / "a").write_text("1")
    (head / "twice").write_text("1")
    os.link(head / "twice", head / "other name")
    (head / "folder" / "in").mkdir(parents=True)
    (head / "folder" / "in" / "empty").touch()
    (head / "folder" / "file").write_text("content")
    (head / "replaced").write_text("1")
    (head / "set back").write_text("1")
    first = (await workspaces.snapshot(UID, cause="manual")).id
    assert await told(workspaces, first, "now") == set()

    times = os.stat(head / "set back")
    (head / "set back").write_text("2")
    os.utime(head / "set back", ns=(times.st_atime_ns, times.st_mtime_ns))
    (head / "a").write_text("2")
    (head / os.fsdecode(b"odd\xff\nname")).write_text("x")
    (head / "folder").rename(head / "moved")
    (head / "replaced").unlink()
    (head / "comes in its place").write_text("2")  # may well be given the inode of the one before
    expected = {
        "changed a",
        "changed set back",  # its change time tells
        "added odd\\xff\nname",
        "renamed folder moved",
        "removed replaced",
        "added comes in its place",
    }
    assert await told(workspaces, first, "now") == expected
    assert await told(workspaces, first, "now", checksum=True) == expected
    second = (await workspaces.snapshot(UID, cause="manual")).id
    assert await told(workspaces, first, second) == expected
    (head / "twice").write_text("22")
    assert await told(workspaces, second, "now") == {"changed twice", "changed other name"}
    assert await told(workspaces, "now", second) == {"changed twice", "changed other name"}

    before = await workspaces.rollback(UID, first)
    assert await told(workspaces, first, "now") == set()
    back = await told(workspaces, before.id, "now")
    assert {"renamed moved folder", "changed twice", "changed other name", "added replaced"} <= back
    assert await told(workspaces, second, before.id) == {"changed twice", "changed other name"}
