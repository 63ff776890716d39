"""The ZFS store on a real pool."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from appliance.errors import Conflict, StorageError
from appliance.settings import load
from appliance.storage.open import open_store
from appliance.storage.zfs import busy as zfs_busy
from appliance.storage.zfs.mounts import holders, mounted_at
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call
from tests.unit.storage.contract import StoreContract
from tests.unit.storage.trees import write_random


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(zfs_dataset, tmp_path / "volumes")


@pytest.mark.zfs
class TestZfsStore(StoreContract):
    pass


@pytest.mark.zfs
class TestZfs:
    """What is particular to ZFS."""

    def test_a_volume_that_is_not_mounted_is_mounted_when_asked_for(self, store: ZfsStore) -> None:
        path = store.create("a/v")
        (path / "file").write_text("x")
        call("zfs", "umount", f"{store.base}/a/v")
        assert not path.exists() or not list(path.iterdir())
        assert (store.path("a/v") / "file").read_text() == "x"
        assert mounted_at(path, f"{store.base}/a/v")

    def test_a_kill_before_the_mount_or_the_owner_is_made_good(self, store: ZfsStore) -> None:
        store.create("a/w")
        call("zfs", "create", "-o", "canmount=noauto", f"{store.base}/a/v")
        path = store.create("a/v", owner=(1000, 1001))
        assert mounted_at(path, f"{store.base}/a/v")
        assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1001)

    def test_a_sealed_volume_refuses_even_root(self, store: ZfsStore) -> None:
        path = store.create("v")
        (path / "file").write_text("final")
        store.seal("v")
        for forbidden in (
            lambda: (path / "new").touch(),
            lambda: (path / "file").write_text("x"),
            (path / "file").unlink,
        ):
            with pytest.raises(OSError, match="Read-only") as caught:
                forbidden()
            assert caught.value.errno == errno.EROFS
        call("zfs", "umount", f"{store.base}/v")
        with pytest.raises(OSError, match="Read-only"):
            (store.path("v") / "new").touch()

    def test_a_snapshot_that_a_clone_needs_is_not_destroyed(self, store: ZfsStore) -> None:
        (store.create("v") / "file").write_text("x")
        store.snapshot("v", "s")
        store.clone("v", "s", "w")
        with pytest.raises(Conflict, match="dependent clones"):
            store.destroy_snapshot("v", "s")
        assert store.snapshots("v") == ["s"]

    def test_what_is_in_use_is_not_destroyed_and_the_error_says_by_whom(
        self, store: ZfsStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(zfs_busy, "BUSY_S", 0.3)
        path = store.create("v")
        with (path / "file").open("w"):
            with pytest.raises(StorageError, match="busy") as caught:
                store.destroy("v")
            assert "in use by: a process with an open file" in caught.value.hint
        assert (store.path("v") / "file").exists()
        store.destroy("v")
        assert store.volumes() == []

    def test_what_a_container_has_is_not_even_unmounted(self, store: ZfsStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mount namespace of its own is what a container has of a volume that is bound into it."""
        monkeypatch.setattr(zfs_busy, "BUSY_S", 0.3)
        path = store.create("v")
        (path / "file").write_text("x")
        other = subprocess.Popen(["unshare", "--mount", "sleep", "60"])
        try:
            deadline = time.monotonic() + 60
            while not holders(f"{store.base}/v") and time.monotonic() < deadline:
                time.sleep(0.02)
            for call_it in (store.destroy, store.seal):
                with pytest.raises(StorageError, match="in use") as caught:
                    call_it("v")
                assert caught.value.hint == f"it is in use by: {other.pid} sleep"
            assert (path / "file").read_text() == "x"
            (path / "file").write_text("y")
        finally:
            other.kill()
            other.wait()
        store.seal("v")
        store.destroy("v")
        assert store.volumes() == []

    def test_nothing_is_left_of_what_is_destroyed(self, store: ZfsStore) -> None:
        store.create("a/b/v")
        store.create("a/w")
        store.destroy("a/b/v")
        assert [entry.name for entry in store.root.iterdir()] == ["a"]
        assert [entry.name for entry in (store.root / "a").iterdir()] == ["w"]
        store.destroy("a/w")
        assert list(store.root.iterdir()) == []
        assert call("zfs", "list", "-H", "-r", "-o", "name", store.base).stdout.split() == [store.base]

    def test_volumes_are_there_after_a_restart(self, store: ZfsStore, zfs_dataset: str) -> None:
        (store.create("a/v") / "file").write_text("x")
        store.snapshot("a/v", "s")
        again = ZfsStore(zfs_dataset, store.root)
        assert (again.volumes(), again.snapshots("a/v")) == (["a/v"], ["s"])
        assert (again.path("a/v") / "file").read_text() == "x"

    def test_two_homes_never_share_a_dataset(self, store: ZfsStore, zfs_dataset: str, tmp_path: Path) -> None:
        (store.create("v") / "file").write_text("x")
        with pytest.raises(StorageError, match="belongs to something else") as caught:
            ZfsStore(zfs_dataset, tmp_path / "other")
        assert caught.value.hint
        assert store.volumes() == ["v"]

    def test_a_home_that_was_moved_has_its_volumes_again_after_the_next_step(
        self, store: ZfsStore, zfs_dataset: str, tmp_path: Path
    ) -> None:
        (store.create("a/v") / "file").write_text("x")
        call("zfs", "umount", f"{store.base}/a/v")
        moved = (tmp_path / "elsewhere").resolve()
        with pytest.raises(StorageError) as caught:
            ZfsStore(zfs_dataset, moved)
        command = f"zfs set mountpoint={moved} {store.base}"
        assert f"`{command}`" in caught.value.hint
        assert call(*command.split()).returncode == 0
        again = ZfsStore(zfs_dataset, moved)
        assert again.path("a/v") == moved / "a" / "v"
        assert (again.path("a/v") / "file").read_text() == "x"

    def test_something_else_of_the_same_name_is_left_alone(self, zfs_dataset: str, tmp_path: Path) -> None:
        call("zfs", "create", "-o", f"mountpoint={tmp_path}/theirs", f"{zfs_dataset}/volumes")
        (tmp_path / "theirs" / "precious").touch()
        with pytest.raises(StorageError, match="belongs to something else"):
            ZfsStore(zfs_dataset, tmp_path / "volumes")
        assert (tmp_path / "theirs" / "precious").exists()

    def test_open_store_makes_the_dataset_in_the_pool_that_is_set(self, zfs_dataset: str, tmp_path: Path) -> None:
        home = tmp_path / "home"
        store = open_store(load({"APPLIANCE_ZPOOL": f"{zfs_dataset}/appliance/one"}, home=home))
        info = store.info()
        assert (info.kind, info.instant) == ("zfs", True)
        assert f"{zfs_dataset}/appliance/one/volumes" in info.detail
        (store.create("v") / "file").touch()
        with pytest.raises(StorageError, match="settings say `directory`"):
            open_store(load({"APPLIANCE_STORAGE": "directory"}, home=home))

    def test_a_pool_that_is_missing_is_said_with_the_ones_there_are(self, zfs_pool: str, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="there is no pool 'nopoolofthisname'") as caught:
            open_store(load({"APPLIANCE_STORAGE": "zfs", "APPLIANCE_ZPOOL": "nopoolofthisname"}, home=tmp_path))
        assert "zpool import nopoolofthisname" in caught.value.hint
        assert f"{zfs_pool} ONLINE" in caught.value.hint

    def test_a_volume_that_has_filled_the_pool_can_still_be_frozen_and_cleared(self, store: ZfsStore) -> None:
        call("zfs", "set", "quota=20M", store.base)
        path = store.create("v")
        with pytest.raises(OSError, match=r"space|quota") as caught:
            write_random(path / "file", 64 << 20)
        assert caught.value.errno in (errno.ENOSPC, errno.EDQUOT)
        store.snapshot("v", "s")
        assert store.snapshots("v") == ["s"]
        store.destroy("v")
        (store.create("v") / "file").write_bytes(os.urandom(1 << 20))
