"""Backups of a ZFS store: into a directory and back into either store, and by `zfs send` into another dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from appliance.errors import UsageError
from appliance.storage.zfs import send as zfs_send
from tests.support.zfs import call
from tests.unit.backup.rooms import opened, restored
from tests.unit.backup.suite import BackupSuite, Places, leftovers, live

pytestmark = [pytest.mark.zfs, pytest.mark.anyio]


def on(dataset: str) -> dict[str, str]:
    return {"APPLIANCE_STORAGE": "zfs", "APPLIANCE_ZPOOL": dataset}


def in_seconds(found: dict[str, Any]) -> dict[str, Any]:
    """zfs-fuse sets times in whole seconds only."""
    return {
        name: {path: {**entry, "modified": entry["modified"] // 10**9} for path, entry in tree.items()}
        if isinstance(tree, dict) and name != "secrets"
        else tree
        for name, tree in found.items()
    }


class TestThroughADirectoryIntoDirectories(BackupSuite):
    @pytest.fixture
    def places(self, tmp_path: Path, zfs_dataset: str) -> Places:
        return Places(tmp_path, str(tmp_path / "target"), on(f"{zfs_dataset}/a"))


class TestBySending(BackupSuite):
    @pytest.fixture
    def places(self, tmp_path: Path, zfs_dataset: str) -> Places:
        return Places(tmp_path, f"zfs:{zfs_dataset}/kept/backup", on(f"{zfs_dataset}/a"), on(f"{zfs_dataset}/b"))


async def test_from_plain_directories_to_zfs_and_blocks_are_shared(tmp_path: Path, zfs_dataset: str) -> None:
    size = 8 << 20
    async with opened(tmp_path / "home", {}) as rooms:
        uid = rooms.declare("nb")
        path = await rooms.workspaces.open(uid)
        (path / "large").write_bytes(os.urandom(size))
        for number in range(3):
            (path / "small").write_text(str(number))
            await rooms.workspaces.snapshot(uid, cause="manual")
        last = rooms.workspaces.timeline(uid)[0]
        await rooms.workspaces.fork(uid, rooms.declare("fork"), last.id)
        await rooms.workspaces.rollback(uid, last.id)
        assert (await rooms.back_up(tmp_path / "target")).phase == "Succeeded"
        before = await rooms.everything()
    await anyio.to_thread.run_sync(restored, tmp_path / "new", tmp_path / "target", on(f"{zfs_dataset}/b"))
    async with opened(tmp_path / "new", {}) as again:  # the home has noted which store it has
        assert in_seconds(await again.everything()) == in_seconds(before)
        used = again.store.info()
        assert size <= used.total_bytes - used.free_bytes < 1.3 * size, "three volumes and their moments in one's room"


async def test_what_was_sent_is_kept_on_both_sides_and_goes_on(tmp_path: Path, zfs_dataset: str) -> None:
    target = f"zfs:{zfs_dataset}/backup"
    async with opened(tmp_path / "home", on(f"{zfs_dataset}/a")) as rooms:
        await live(rooms)
        uid = rooms.declare("nb")
        first = await rooms.back_up(target)
        assert first.phase == "Succeeded", first.message
        assert {name.split("@")[-1] for name in leftovers(rooms.store)} == {f"backup-{first.id}"}
        (await rooms.workspaces.open(uid) / "later").write_bytes(os.urandom(100_000))
        second = await rooms.back_up(target)
        assert second.phase == "Succeeded", second.message
        assert second.bytes < first.bytes
        assert {name.split("@")[-1] for name in leftovers(rooms.store)} == {f"backup-{second.id}"}
    async with opened(tmp_path / "home", on(f"{zfs_dataset}/a")) as rooms:
        assert {name.split("@")[-1] for name in leftovers(rooms.store)} == {f"backup-{second.id}"}
        assert (await rooms.back_up(target)).phase == "Succeeded"
    listed = call("zfs", "list", "-H", "-r", "-o", "mounted", "-t", "filesystem", f"{zfs_dataset}/backup").stdout
    assert "yes" not in listed, "nothing of a backup is mounted"


async def test_a_target_that_is_forgotten_keeps_its_points_and_the_store_nothing(
    tmp_path: Path, zfs_dataset: str
) -> None:
    target, other = (f"{zfs_dataset}/{name}" for name in ("backup", "other"))
    async with opened(tmp_path / "home", on(f"{zfs_dataset}/a")) as rooms:
        await live(rooms)
        first = await rooms.back_up(f"zfs:{target}")
        second = await rooms.back_up(f"zfs:{other}")
        assert (first.phase, second.phase) == ("Succeeded", "Succeeded")
        kept = [name for name in leftovers(rooms.store) if name.endswith(first.id)]
        assert kept
        assert await rooms.backups.forget(f"zfs:{target}") == (1, len(kept))
        assert {name.split("@")[-1] for name in leftovers(rooms.store)} == {f"backup-{second.id}"}
        assert await zfs_send.points(target) == [f"backup-{first.id}"]
        before = await rooms.everything()
        assert (await rooms.back_up(f"zfs:{other}")).phase == "Succeeded"
    await anyio.to_thread.run_sync(restored, tmp_path / "new", f"zfs:{target}", on(f"{zfs_dataset}/b"), first.id)
    async with opened(tmp_path / "new", on(f"{zfs_dataset}/b")) as again:
        assert {"notebook/nb", "dataset/data"} <= (await again.everything()).keys() <= before.keys()


async def test_only_zfs_is_sent(tmp_path: Path, zfs_dataset: str) -> None:
    async with opened(tmp_path / "home", {}) as rooms:
        with pytest.raises(UsageError):
            await rooms.backups.start(f"zfs:{zfs_dataset}/backup")
    async with opened(tmp_path / "zfs", on(f"{zfs_dataset}/a")) as rooms:
        with pytest.raises(UsageError, match="checks its data by itself"):
            await rooms.backups.start(f"zfs:{zfs_dataset}/backup", verify=True)
        ended = await rooms.back_up(f"zfs:{zfs_dataset}/a/volumes/inside")
        assert ended.phase == "Failed"
