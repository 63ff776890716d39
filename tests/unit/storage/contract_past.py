"""What every store must do for looking back, and for telling who holds how much. Part of `contract.StoreContract`."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import NotFound, UsageError
from appliance.storage.base import Store
from appliance.storage.trees import tree
from tests.unit.storage.trees import describe, fill, set_xattrs

MB = 1_000_000
SETTLES_S = 120.0
"""ZFS counts what was written some seconds later."""
CHANGES: tuple[Callable[[Path], object], ...] = (
    lambda path: (path / "deep" / "new").touch(),
    lambda path: (path / "file").write_text("other"),
    lambda path: (path / "deep" / "new").unlink(),
    lambda path: (path / "file").chmod(0o640),
    lambda path: (path / "file").rename(path / "file2"),
    lambda path: os.utime(path / "deep" / "file", (1, 1)),
)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLES_S
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.2)


def snapshot_at_rest(store: Store, volume: str) -> str:
    """A snapshot with which the volume is said to be unchanged: what was written just before it leaves a doubt."""
    number = len(store.snapshots(volume))

    def taken() -> bool:
        nonlocal number
        number += 1
        store.snapshot(volume, f"rest{number}")
        return not store.changed(volume)

    eventually(taken)
    return f"rest{number}"


class PastContract:
    """The same sentences for the directory store and for ZFS."""

    def test_a_view_is_the_moment_to_the_last_bit_whatever_happens_to_the_volume(self, store: Store) -> None:
        path = store.create("v")
        fill(path)
        set_xattrs(path)
        before = describe(path)
        store.snapshot("v", "s")
        (path / "plain").write_bytes(b"changed")
        (path / "fifo").unlink()
        (path / "deep").rename(path / "deeper")
        with store.view("v", "s") as seen, store.view("v", "s") as again:
            assert seen == again
            assert describe(seen) == before
        with store.view("v", "s") as seen:
            assert describe(seen) == before
        assert describe(path) != before
        assert store.volumes() == ["v"], "a view is no volume"
        store.destroy("v")
        assert store.volumes() == []

    def test_unchanged_files_are_whole_in_each_of_many_moments(self, store: Store) -> None:
        """Odd files too, and two names of one file; a store may share what has not changed, and nobody sees it."""
        path = store.create("v")
        fill(path)
        set_xattrs(path)
        moments = {}
        for number in range(3):
            (path / f"new{number}").write_text(str(number))
            with (path / "mode").open("a") as file:
                file.write("more\n")
            moments[f"s{number}"] = describe(path)
            store.snapshot("v", f"s{number}")
        store.destroy_snapshot("v", "s1")
        for name in ("s0", "s2"):
            with store.view("v", name) as seen:
                assert describe(seen) == moments[name]
        clone = store.clone("v", "s2", "w")
        assert describe(clone) == moments["s2"]
        (clone / "plain").write_bytes(b"written to a clone")
        (clone / "deep" / "er" / "file").chmod(0o600)
        with store.view("v", "s2") as seen:
            assert describe(seen) == moments["s2"]
        assert describe(path) == moments["s2"]

    def test_a_view_stays_while_it_is_read_and_others_come_and_go(self, store: Store) -> None:
        (store.create("v") / "file").write_text("frozen")
        store.snapshot("v", "s")

        def read(_: int) -> str:
            with store.view("v", "s") as seen:
                return (seen / "file").read_text()

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(read, range(12))) == {"frozen"}

    def test_what_is_read_is_not_removed_under_the_reader(self, store: Store) -> None:
        (store.create("v") / "file").write_text("frozen")
        store.snapshot("v", "s")
        with store.view("v", "s") as seen:
            remover = threading.Thread(target=store.destroy_snapshot, args=("v", "s"))
            remover.start()
            remover.join(0.5)
            assert (seen / "file").read_text() == "frozen"
        remover.join(SETTLES_S)
        assert not remover.is_alive()
        assert store.snapshots("v") == []

    def test_the_past_of_what_is_missing_is_not_found(self, store: Store) -> None:
        store.create("v")
        asked: list[Callable[[], object]] = [
            lambda: store.view("none", "s").__enter__(),
            lambda: store.view("v", "none").__enter__(),
            lambda: store.changed("none"),
            lambda: store.written("v", "none"),
            lambda: store.usage("none"),
            lambda: store.reclaimable("v", ["none"]),
            lambda: store.set_quota("none", 1 << 30),
            lambda: store.snapshot_all(["v", "none"], "s"),
        ]
        for ask in asked:
            with pytest.raises(NotFound):
                ask()
        for name in ("../v", "s/../../v", ".tmp", ""):
            with pytest.raises(UsageError):
                store.view("v", name).__enter__()

    def test_any_change_is_noticed_and_none_is_not_made_up(self, store: Store) -> None:
        path = store.create("v")
        assert store.changed("v"), "there is no snapshot"
        (path / "deep").mkdir()
        (path / "file").write_text("x")
        (path / "deep" / "file").write_text("y")
        for change in CHANGES:
            snapshot_at_rest(store, "v")
            assert not store.changed("v")
            (path / "deep" / "file").read_text()
            assert not store.changed("v"), "reading is no change"
            change(path)
            eventually(lambda: store.changed("v"))

    def test_a_clone_has_changed_until_it_has_a_snapshot(self, store: Store) -> None:
        (store.create("v") / "file").write_text("x")
        store.snapshot("v", "s")
        store.clone("v", "s", "w")
        assert store.changed("w")

    def test_a_snapshot_tells_what_it_brought(self, store: Store) -> None:
        path = store.create("v")
        (path / "big").write_bytes(os.urandom(4 * MB))
        snapshot_at_rest(store, "v")
        first = store.snapshots("v")[0]
        (path / "small").write_bytes(os.urandom(MB // 2))
        store.snapshot("v", "later")
        told = [store.written("v", name) for name in (first, "later")]
        if None in told:
            assert told == [None, None]
            return
        eventually(lambda: 3.9 * MB < (store.written("v", first) or 0) < 4.5 * MB)
        eventually(lambda: 0.4 * MB < (store.written("v", "later") or 0) < MB)

    def test_hints_miss_nothing(self, store: Store) -> None:
        path = store.create("v")
        (path / "deep").mkdir()
        for name in ("a", "deep/b", "gone", "stays"):
            (path / name).write_text("x")
        store.snapshot("v", "s")
        (path / "a").write_text("other")
        (path / "deep" / os.fsdecode(b"odd\n\xff'")).write_text("new")
        (path / "gone").unlink()
        store.snapshot("v", "t")
        for newer in ("t", None):
            told = store.hints("v", "s", newer)
            if told is None:
                continue
            found = set(told)
            assert {"a", os.fsdecode(b"deep/odd\n\xff'"), "gone"} <= found
            assert "stays" not in found

    def test_space_is_told_for_what_holds_it(self, store: Store) -> None:
        path = store.create("v")
        (path / "stays").write_bytes(os.urandom(2 * MB))
        (path / "goes").write_bytes(os.urandom(3 * MB))
        store.snapshot("v", "a")
        store.snapshot("v", "b")
        (path / "goes").unlink()
        (path / "own").write_bytes(os.urandom(MB))
        store.snapshot("v", "c")
        (path / "own").unlink()

        def told() -> bool:
            usage = store.usage("v")
            assert list(usage.snapshots) == ["a", "b", "c"]
            return (
                1.9 * MB < usage.referenced < 3 * MB
                and usage.unique >= 5.9 * MB
                and usage.history >= 3.9 * MB
                and usage.snapshots["c"] >= 0.9 * MB
            )

        eventually(told)
        alone, both = store.reclaimable("v", ["c"]), store.reclaimable("v", ["a", "b"])
        assert alone.bytes > 0.9 * MB
        if both.exact:
            assert both.bytes > 2.9 * MB
            assert both.bytes < store.usage("v").unique
        assert store.reclaimable("v", []).bytes == 0
        assert store.snapshots("v") == ["a", "b", "c"], "asking removes nothing"

    def test_a_clone_outlives_what_it_was_made_from(self, store: Store) -> None:
        """A chain of clones, destroyed from its beginning: each of them and its moments stay."""
        path = store.create("first")
        fill(path)
        store.snapshot("first", "s1")
        second = store.clone("first", "s1", "second")
        (second / "more").write_text("2")
        store.snapshot("second", "s2")
        third = store.clone("second", "s2", "third")
        (third / "more").write_text("3")
        before = {name: describe(store.path(name)) for name in ("second", "third")}
        store.destroy("first")
        assert not store.exists("first")
        assert {name: describe(store.path(name)) for name in ("second", "third")} == before
        with store.view("second", "s2") as seen:
            assert describe(seen) == before["second"]
        store.destroy("second")
        assert describe(store.path("third")) == before["third"]
        store.snapshot("third", "s3")
        (store.clone("third", "s3", "fourth") / "more").write_text("4")
        store.destroy("third")
        assert (store.path("fourth") / "more").read_text() == "4"
        store.destroy("fourth")
        assert store.volumes() == []

    def test_several_volumes_are_frozen_together(self, store: Store) -> None:
        names = ["a/1", "a/2", "b"]
        for name in names:
            (store.create(name) / "file").write_text(name)
        store.snapshot("b", "point")
        (store.path("b") / "file").write_text("later")
        store.snapshot_all(names, "point")
        store.snapshot_all(names, "point")
        store.snapshot_all([], "nothing")
        for name in names:
            assert store.snapshots(name) == ["point"]
            with store.view(name, "point") as seen:
                assert (seen / "file").read_text() == name

    def test_a_quota_bounds_the_live_content_where_the_store_can(self, store: Store) -> None:
        path = store.create("v")
        if not store.set_quota("v", 4 * MB):
            assert not store.set_quota("v", None)
            return

        def full() -> None:
            with (path / "big").open("wb", buffering=0) as file:
                for _ in range(60):
                    file.write(os.urandom(MB // 4))
                    os.fsync(file.fileno())

        with pytest.raises(OSError, match=r"exceeded|No space") as caught:
            full()
        assert caught.value.errno in (errno.EDQUOT, errno.ENOSPC)
        (path / "big").unlink()
        store.snapshot("v", "s")
        store.set_quota("v", None)
        full()

    def test_a_reserve_is_kept_and_given_back(self, store: Store) -> None:
        store.reserve(8 << 20)
        store.reserve(8 << 20)
        (store.create("v") / "file").write_text("x")
        store.reserve(0)
        assert store.volumes() == ["v"]

    def test_a_file_of_a_moment_is_put_back_in_one_step(self, store: Store) -> None:
        path = store.create("v")
        fill(path)
        set_xattrs(path)
        before = describe(path)
        store.snapshot("v", "s")
        (path / "plain").write_bytes(b"broken")
        (path / "deep" / "er" / "file").unlink()
        (path / "deep" / "er").rmdir()
        (path / "dangling").unlink()
        (path / "dangling").mkdir()
        with store.view("v", "s") as seen:
            for name in ("plain", "deep", "dangling", "fifo"):
                tree.replace(path, name, seen, name)
            assert describe(seen) == before
        after = describe(path)
        for name in ("deep/er/file", "deep", "dangling", "fifo", "plain"):
            assert after[name] == {**before[name], **({"same file as": name} if "digest" in before[name] else {})}
        tree.tidy(path)
        assert describe(path) == after
