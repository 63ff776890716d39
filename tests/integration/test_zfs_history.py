"""Looking back, handing history over to clones, and accounts, on a real pool."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import Conflict, NotFound, StorageError
from appliance.storage.zfs import command as zfs_command
from appliance.storage.zfs import handover as zfs_handover
from appliance.storage.zfs import views as zfs_views
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call
from tests.unit.storage.trees import write_random

pytestmark = pytest.mark.zfs

MIB = 1 << 20


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(zfs_dataset, tmp_path / "volumes")


def datasets(store: ZfsStore) -> set[str]:
    """Everything that the pool has of this store, snapshots too, without the base and the folder of views."""
    pool = store.base.rpartition("/")[0]
    names = call("zfs", "list", "-H", "-r", "-t", "all", "-o", "name", pool).stdout.split()
    return {name[len(pool) + 1 :] for name in names} - {"", "volumes", "volumes-views"}


class TestHandingOver:
    def grown(self, store: ZfsStore) -> None:
        """`v` with three snapshots, a clone of each, and a snapshot of the same name in all of them."""
        path = store.create("v")
        for name in ("s1", "s2", "s3"):
            (path / "file").write_text(name)
            store.snapshot("v", name)
            store.clone("v", name, f"c{name[1]}")
        for name in store.volumes():
            store.snapshot(name, "done")

    def test_clones_stay_as_they_are_when_their_source_goes(self, store: ZfsStore) -> None:
        self.grown(store)
        store.destroy("v")
        assert store.volumes() == ["c1", "c2", "c3"]
        for name in ("c1", "c2", "c3"):
            assert (store.path(name) / "file").read_text() == f"s{name[1]}"
            assert store.snapshots(name) == ["done"], "what was left to it is not its own"
        assert not store.exists("v")

    @pytest.mark.parametrize("order", ["c1 c2 c3", "c3 c2 c1", "c2 c3 c1"])
    def test_nothing_is_left_when_the_last_clone_is_gone(self, store: ZfsStore, order: str) -> None:
        self.grown(store)
        for name in ["v", *order.split()]:
            store.destroy(name)
            for other in store.volumes():
                assert (store.path(other) / "file").read_text() == f"s{other[1]}"
        assert datasets(store) == set()

    def test_a_clone_of_a_clone_can_lose_the_one_between(self, store: ZfsStore) -> None:
        (store.create("a") / "one").touch()
        store.snapshot("a", "s")
        (store.clone("a", "s", "b") / "two").touch()
        store.snapshot("b", "s")
        (store.clone("b", "s", "c") / "three").touch()
        store.destroy("b")
        assert sorted(os.listdir(store.path("c"))) == ["one", "three", "two"]
        assert os.listdir(store.path("a")) == ["one"]
        store.destroy("a")
        assert sorted(os.listdir(store.path("c"))) == ["one", "three", "two"]
        store.destroy("c")
        assert datasets(store) == set()

    def test_a_kill_between_any_two_commands_is_made_good(
        self, store: ZfsStore, zfs_dataset: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = 0

        def killed(*arguments: str, timeout_s: float = 60) -> str:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return zfs_command.zfs(*arguments, timeout_s=timeout_s)

        kills = 0
        path = store.create("v")
        for steps in range(1, 20):
            for name in ("s1", "s2"):
                (path / "file").write_text(name)
                store.snapshot("v", name)
                store.clone("v", name, f"c{name[1]}")
            store.snapshot("c2", "s1")
            with monkeypatch.context() as patch:
                patch.setattr(zfs_handover, "zfs", killed)
                left = steps
                try:
                    store.destroy("v")
                except KeyboardInterrupt:
                    kills += 1
            store = ZfsStore(zfs_dataset, store.root)
            for name, snapshots in (("c1", []), ("c2", ["s1"])):
                assert (store.path(name) / "file").read_text() == f"s{name[1]}"
                assert store.snapshots(name) == snapshots
            for name in ("c1", "v", "c2"):
                store.destroy(name)
            assert datasets(store) == set()
            if left:
                break
            path = store.create("v")
        assert kills >= 8

    def test_destroying_a_whole_family_at_once_leaves_nothing(self, store: ZfsStore) -> None:
        self.grown(store)
        with ThreadPoolExecutor(4) as pool:
            pending = set(store.volumes())
            for _ in range(5):
                results = [pool.submit(store.destroy, name) for name in sorted(pending)]
                errors = [result.exception() for result in results]
                assert all(error is None or isinstance(error, Conflict) for error in errors), errors
                pending = set(store.volumes())
                if not pending:
                    break
        ZfsStore(store.base.rpartition("/")[0], store.root)
        assert datasets(store) == set()


class TestViews:
    def moments(self, store: ZfsStore) -> None:
        path = store.create("a/v")
        for name in ("s1", "s2"):
            (path / "file").write_text(name)
            store.snapshot("a/v", name)
        (path / "file").write_text("now")

    def test_a_view_is_no_volume_and_cannot_be_written(self, store: ZfsStore) -> None:
        self.moments(store)
        with store.view("a/v", "s1") as old, store.view("a/v", "s2") as new:
            assert ((old / "file").read_text(), (new / "file").read_text()) == ("s1", "s2")
            with pytest.raises(OSError, match="Read-only"):
                (old / "file").write_text("x")
            assert store.volumes() == ["a/v"]
            assert store.usage("a/v").unique > 0
        assert store.volumes() == ["a/v"]

    def test_a_view_is_shared_and_kept_until_it_is_idle_for_long(self, store: ZfsStore) -> None:
        self.moments(store)
        with store.view("a/v", "s1") as first, store.view("a/v", "s1") as second:
            assert first == second
        inode = first.stat().st_dev
        with store.view("a/v", "s1") as again:
            assert again.stat().st_dev == inode
            store._views.close_idle(0)
            assert (again / "file").exists(), "somebody looks at it"
        store._views.close_idle(0)
        assert not first.exists()

    def test_what_stands_in_the_way_of_a_destroy_goes(self, store: ZfsStore) -> None:
        self.moments(store)
        for name in ("s1", "s2"):
            with store.view("a/v", name):
                pass
        store.destroy_snapshot("a/v", "s1")
        assert store.snapshots("a/v") == ["s2"]
        store.destroy("a/v")
        assert datasets(store) == set()

    def test_a_destroy_waits_for_those_who_look_and_says_so_in_the_end(
        self, store: ZfsStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.moments(store)
        monkeypatch.setattr(zfs_views, "WAIT_S", 0.2)
        with store.view("a/v", "s1") as path:
            refused: tuple[Callable[[], None], ...] = (
                lambda: store.destroy_snapshot("a/v", "s1"),
                lambda: store.destroy("a/v"),
            )
            for destroy in refused:
                with pytest.raises(StorageError, match="somebody looks at"):
                    destroy()
            assert (path / "file").read_text() == "s1"
        monkeypatch.setattr(zfs_views, "WAIT_S", 120)
        looking = threading.Event()

        def look() -> str:
            with store.view("a/v", "s1") as path:
                looking.set()
                time.sleep(0.3)
                return (path / "file").read_text()

        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(look)
            assert looking.wait(60)
            store.destroy("a/v")
            assert seen.result() == "s1"
        assert store.volumes() == []

    def test_there_is_no_view_of_what_is_missing(self, store: ZfsStore) -> None:
        self.moments(store)
        for volume, snapshot in (("a/v", "none"), ("none", "s1")):
            with pytest.raises(NotFound), store.view(volume, snapshot):
                pass
        store.destroy("a/v")
        assert datasets(store) == set()

    def test_many_look_while_others_destroy(self, store: ZfsStore) -> None:
        self.moments(store)
        refused = 0

        def look(number: int) -> bool:
            try:
                with store.view("a/v", f"s{1 + number % 2}") as path:
                    assert (path / "file").read_text() == f"s{1 + number % 2}"
            except NotFound:
                return False
            return True

        with ThreadPoolExecutor(6) as pool:
            seen = [pool.submit(look, number) for number in range(24)]
            pool.submit(store.destroy_snapshot, "a/v", "s2").result()
            refused = sum(not future.result() for future in seen)
        assert refused <= 12
        assert look(0)
        assert not look(1)
        store.destroy("a/v")
        assert datasets(store) == set()

    def test_what_a_kill_has_left_is_gone_after_the_next_start(self, store: ZfsStore, zfs_dataset: str) -> None:
        self.moments(store)
        context = store.view("a/v", "s1")
        path = context.__enter__()
        call("zfs", "clone", f"{store.base}/a/v@s2", f"{store.base}-views/half")
        again = ZfsStore(zfs_dataset, store.root)
        assert not path.exists()
        assert datasets(again) == {"volumes/a", "volumes/a/v", "volumes/a/v@s1", "volumes/a/v@s2"}
        context.__exit__(None, None, None)


class TestChanges:
    def test_a_change_of_any_kind_is_noticed(self, store: ZfsStore) -> None:
        path = store.create("v")
        assert store.changed("v")
        for name in ("a", "b", "c"):
            (path / name).write_text(name)
        store.snapshot("v", "s0")
        assert not store.changed("v")
        (path / "a").read_text()
        assert not store.changed("v"), "reading changes nothing"
        changes: tuple[Callable[[], object], ...] = (
            lambda: (path / "new").touch(),
            lambda: (path / "a").write_text("x"),
            (path / "b").unlink,
            lambda: (path / "c").rename(path / "d"),
            lambda: (path / "d").chmod(0o600),
            lambda: os.utime(path / "d", (1, 1)),
            lambda: os.symlink("a", path / "link"),
        )
        for number, change in enumerate(changes, 1):
            change()
            assert store.changed("v"), number
            store.snapshot("v", f"s{number}")
            assert not store.changed("v"), number

    def test_written_is_what_the_moment_before_did_not_have(self, store: ZfsStore) -> None:
        path = store.create("v")
        write_random(path / "large", 6 * MIB)
        store.snapshot("v", "s1")
        write_random(path / "small", 2 * MIB)
        store.snapshot("v", "s2")
        write_random(path / "large", 6 * MIB)
        store.snapshot("v", "s3")
        (path / "large").unlink()
        store.snapshot("v", "s4")
        write_random(store.clone("v", "s1", "w") / "small", 3 * MIB)
        store.snapshot("w", "t1")
        expected = {"s1": 6, "s2": 2, "s3": 6, "s4": 0}
        for name, size in expected.items():
            assert (store.written("v", name) or 0) / MIB == pytest.approx(size, abs=0.4), name
        assert (store.written("w", "t1") or 0) / MIB == pytest.approx(3, abs=0.4)
        with pytest.raises(NotFound):
            store.written("v", "none")


class TestSpace:
    def test_usage_says_who_holds_what(self, store: ZfsStore) -> None:
        path = store.create("v")
        write_random(path / "shared", 3 * MIB)
        store.snapshot("v", "s1")
        write_random(path / "old", 4 * MIB)
        store.snapshot("v", "s2")
        (path / "old").unlink()
        store.snapshot("v", "s3")
        write_random(store.clone("v", "s1", "w") / "own", 2 * MIB)
        for name in ("v", "w"):
            store.snapshot(name, "end")  # ZFS counts what has reached the disk
        usage = store.usage("v")
        assert usage.referenced / MIB == pytest.approx(3, abs=0.5)
        assert usage.history / MIB == pytest.approx(4, abs=0.5)
        assert list(usage.snapshots) == ["s1", "s2", "s3", "end"]
        assert usage.snapshots["s2"] / MIB == pytest.approx(4, abs=0.5)
        assert usage.unique / MIB == pytest.approx(4, abs=0.5), "the clone keeps what is in s1"
        usage = store.usage("w")
        assert usage.referenced / MIB == pytest.approx(5, abs=0.5)
        assert usage.unique / MIB == pytest.approx(2, abs=0.5)
        store.destroy("v")
        assert store.usage("w").unique / MIB == pytest.approx(5, abs=0.5)

    def test_what_would_come_back(self, store: ZfsStore) -> None:
        path = store.create("v")
        store.snapshot("v", "s0")
        write_random(path / "f", 4 * MIB)
        for name in ("s1", "s2"):
            store.snapshot("v", name)
        (path / "f").unlink()
        store.snapshot("v", "s3")
        one = store.reclaimable("v", ["s1"])
        assert one.exact
        assert one.bytes < MIB
        both = store.reclaimable("v", ["s1", "s2"])
        everything = store.reclaimable("v", ["s0", "s1", "s2", "s3"])
        assert everything.exact
        assert everything.bytes / MIB == pytest.approx(4, abs=0.5)
        assert both.bytes <= everything.bytes
        if both.exact:
            assert both.bytes / MIB == pytest.approx(4, abs=0.5)
        with store.view("v", "s1"):
            pass
        assert store.reclaimable("v", ["s1", "s2"]) == both
        store.clone("v", "s1", "w")
        assert store.reclaimable("v", ["s1"]).bytes == 0
        with pytest.raises(NotFound):
            store.reclaimable("v", ["s1", "none"])

    def test_a_quota_bounds_what_is_written_and_not_the_history(self, store: ZfsStore) -> None:
        path = store.create("v")
        write_random(path / "f", 4 * MIB)
        store.snapshot("v", "s")
        assert store.set_quota("v", 10 * MIB)
        with pytest.raises(OSError, match=r"[Qq]uota|space"):
            write_random(path / "g", 20 * MIB)
        for name in ("f", "g"):
            (path / name).unlink()
        store.snapshot("v", "t")
        write_random(path / "h", 4 * MIB)
        assert store.set_quota("v", None)
        write_random(path / "h", 20 * MIB)
        assert store.set_quota("v", MIB), "less than it holds: it may not grow"
        with pytest.raises(OSError, match=r"[Qq]uota|space"):
            write_random(path / "i", 20 * MIB)

    def test_several_are_frozen_together_and_twice_is_fine(self, store: ZfsStore) -> None:
        for name in ("a/v", "a/w", "b"):
            (store.create(name) / "f").write_text(name)
        store.snapshot("a/w", "x")
        store.snapshot_all(["a/v", "a/w", "b"], "x")
        store.snapshot_all(["a/v", "b"], "y")
        store.snapshot_all([], "z")
        assert [store.snapshots(name) for name in ("a/v", "a/w", "b")] == [["x", "y"], ["x"], ["x", "y"]]
        with pytest.raises(NotFound):
            store.snapshot_all(["b", "none"], "z")

    def test_a_reserve_is_kept_from_the_volumes(self, zfs_pool: str, tmp_path: Path) -> None:
        dataset = f"{zfs_pool}/t{secrets.token_hex(4)}"
        assert call("zfs", "create", "-o", "canmount=off", "-o", "quota=100M", dataset).returncode == 0
        try:
            store = ZfsStore(dataset, tmp_path / "volumes")
            free = store.info().free_bytes
            for _ in range(2):
                store.reserve(40 * MIB)
                assert (free - store.info().free_bytes) / MIB == pytest.approx(40, abs=2)
            store.reserve(0)
            store.reserve(0)
            assert (free - store.info().free_bytes) / MIB == pytest.approx(0, abs=2)
            store.reserve(300 * MIB)
            assert (free - store.info().free_bytes) / MIB == pytest.approx(75, abs=2), "as much as there is"
            assert store.volumes() == []
        finally:
            call("zfs", "destroy", "-R", dataset)
