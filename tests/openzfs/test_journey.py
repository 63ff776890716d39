"""A workspace's way through its own past on OpenZFS: moments, rollback, undo, restore, fork, pruning, and its end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.history.retention import Policy
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call
from tests.unit.storage.trees import describe, fill, set_xattrs

pytestmark = [pytest.mark.zfs, pytest.mark.anyio]

UID, FORK = "0123456789abcdef", "fedcba9876543210"
KEEP_LITTLE = Policy(recent_s=0, hourly=0, daily=0, weekly=0, monthly=0)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = Database(tmp_path / "state.db")
    yield db
    db.close()


def datasets(store: ZfsStore) -> set[str]:
    """Everything that is left of this store in the pool, but its base and the folder of its views."""
    names = call("zfs", "list", "-H", "-r", "-t", "all", "-o", "name", store.base.rpartition("/")[0]).stdout.split()
    below = {name.removeprefix(store.base) for name in names if name.startswith(store.base)}
    return {name for name in below if name and not name.startswith("-views")}


async def test_a_workspace_keeps_everything_on_every_way(store: ZfsStore, db: Database) -> None:
    workspaces = Workspaces(db, store, time.time)
    root = await workspaces.open(UID)
    fill(root)
    set_xattrs(root)
    before = describe(root)
    first = await workspaces.snapshot(UID, cause="manual", message="everything")
    (root / "plain").write_text("changed")
    (root / "deep" / "er" / "file").unlink()
    (root / "new").write_bytes(b"x" * 500_000)
    after = describe(root)

    with (root / "new").open("rb"):  # somebody still has the old head
        await workspaces.rollback(UID, first.id)
    assert describe(await workspaces.open(UID)) == before
    await workspaces.undo(UID)
    assert describe(await workspaces.open(UID)) == after

    root = await workspaces.open(UID)
    await workspaces.restore(UID, first.id, "deep/er")
    await workspaces.restore(UID, first.id, "plain")
    await workspaces.restore(UID, first.id, "deep", "beside")
    assert (root / "deep" / "er" / "file").stat().st_size == 100_000
    assert (root / "plain").read_text() == "hello\n"
    assert (root / "beside" / "hard").read_text() == "hello\n"
    assert {path.name for path in root.iterdir() if path.name.startswith(".appliance")} == set()

    await workspaces.fork(UID, FORK, first.id)
    assert describe(await workspaces.open(FORK)) == before
    async with workspaces.view(UID, first.id) as path:
        assert describe(path) == before

    preview = await workspaces.prune(UID, KEEP_LITTLE, time.time(), dry_run=True)
    assert first.id not in {moment.id for moment in preview.going}
    assert len(preview.going) == len(workspaces.timeline(UID)) - 2
    await workspaces.prune(UID, KEEP_LITTLE, time.time())
    assert len(workspaces.timeline(UID)) == 2

    await workspaces.destroy(UID)
    await workspaces.sweep()
    assert store.volumes() == [f"workspaces/{FORK}/1"]
    assert describe(await workspaces.open(FORK)) == before, "a fork outlives what it came from"
    await workspaces.destroy(FORK)
    assert datasets(store) == set()


async def test_what_pruning_promises_comes_back(store: ZfsStore, db: Database) -> None:
    workspaces = Workspaces(db, store, time.time)
    root = await workspaces.open(UID)
    await workspaces.snapshot(UID, cause="manual", message="stays")
    (root / "large").write_bytes(os.urandom(2_000_000))
    for _ in range(3):  # they share the large file: none of them holds it alone
        await workspaces.snapshot(UID, cause="interval")
    (root / "large").unlink()
    await workspaces.snapshot(UID, cause="interval")
    preview = await workspaces.prune(UID, KEEP_LITTLE, time.time(), dry_run=True)
    assert preview.reclaim is not None
    assert preview.reclaim.exact
    assert preview.reclaim.bytes > 2_000_000

    used = store.usage(store.volumes()[0]).history
    await workspaces.prune(UID, KEEP_LITTLE, time.time())
    call("zpool", "sync", store.base.split("/")[0])
    freed = used - store.usage(store.volumes()[0]).history
    assert 0 <= freed - preview.reclaim.bytes < 100_000
