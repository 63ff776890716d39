"""What every store must do. Subclasses give the fixture `store`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import Conflict, NotFound, UsageError
from appliance.storage.base import Store
from appliance.storage.destroy import destroy_below
from tests.unit.storage.contract_past import PastContract
from tests.unit.storage.trees import describe, fill, set_xattrs

BAD_NAMES = (
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    "a/../b",
    ".hidden",
    "a b",
    "a@b",
    "ü",
    "a\n",
    "x" * 201,
    "a/" * 9 + "a",
)


class StoreContract(PastContract):
    """The same sentences for the directory store and for ZFS."""

    def test_a_volume_is_empty_and_where_path_says(self, store: Store) -> None:
        path = store.create("notebooks/4f2a/1")
        assert list(path.iterdir()) == []
        assert store.path("notebooks/4f2a/1") == path
        assert store.exists("notebooks/4f2a/1")
        assert not store.exists("notebooks/4f2a")
        assert not store.exists("notebooks/4f2a/2")

    def test_anybody_may_look_into_a_volume_whatever_the_umask_is(self, store: Store) -> None:
        os.umask(0o077)
        path = store.create("v")
        assert path.stat().st_mode & 0o777 == 0o755

    def test_creating_again_keeps_the_content(self, store: Store) -> None:
        (store.create("v") / "file").write_text("kept")
        assert (store.create("v", owner=(7, 7)) / "file").read_text() == "kept"
        assert store.path("v").stat().st_uid == os.geteuid()

    @pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
    def test_the_top_directory_is_given_to_the_owner_and_nothing_else_ever_is(self, store: Store) -> None:
        path = store.create("v", owner=(1000, 1001))
        assert (path.stat().st_uid, path.stat().st_gid) == (1000, 1001)
        (path / "file").touch()
        os.chown(path, 5, 5)
        store.create("v", owner=(1000, 1001))
        assert (path.stat().st_uid, (path / "file").stat().st_uid) == (5, 0)

    def test_a_snapshot_and_its_clone_hold_exactly_what_was_there(self, store: Store) -> None:
        path = store.create("v")
        fill(path)
        xattrs = set_xattrs(path)
        before = describe(path)
        store.snapshot("v", "s")
        (path / "plain").write_bytes(b"changed")
        (path / "fifo").unlink()
        clone = store.clone("v", "s", "w/clone")
        assert describe(clone) == before
        assert describe(store.path("v")) != before
        assert (clone / "sparse").stat().st_blocks * 512 < 1 << 20
        if xattrs:
            assert os.getxattr(clone / "plain", "user.note") == b"kept\0bytes"

    def test_a_clone_is_writable_and_its_own(self, store: Store) -> None:
        (store.create("v") / "file").write_text("one")
        store.snapshot("v", "s")
        clone = store.clone("v", "s", "w")
        (clone / "file").write_text("two")
        assert (store.path("v") / "file").read_text() == "one"
        assert (store.clone("v", "s", "w") / "file").read_text() == "two", "one that exists is returned as it is"
        assert (store.clone("v", "s", "x") / "file").read_text() == "one"

    def test_a_snapshot_that_exists_is_kept(self, store: Store) -> None:
        path = store.create("v")
        (path / "file").write_text("first")
        store.snapshot("v", "s")
        (path / "file").write_text("second")
        store.snapshot("v", "s")
        assert (store.clone("v", "s", "w") / "file").read_text() == "first"

    def test_snapshots_are_listed_oldest_first(self, store: Store) -> None:
        store.create("v")
        names = ["zebra", "ant", "m.1", "2026-01-01_00-00"]
        for name in names:
            store.snapshot("v", name)
        assert store.snapshots("v") == names
        store.destroy_snapshot("v", "ant")
        store.snapshot("v", "ant")
        assert store.snapshots("v") == ["zebra", "m.1", "2026-01-01_00-00", "ant"]

    def test_what_is_missing_is_not_found(self, store: Store) -> None:
        store.create("v")
        with pytest.raises(NotFound):
            store.path("none")
        with pytest.raises(NotFound):
            store.snapshot("none", "s")
        with pytest.raises(NotFound):
            store.snapshots("none")
        with pytest.raises(NotFound):
            store.clone("v", "none", "w")
        with pytest.raises(NotFound):
            store.clone("none", "s", "w")
        with pytest.raises(NotFound):
            store.seal("none")
        with pytest.raises(NotFound):
            store.used_bytes("none")
        assert store.volumes() == ["v"]

    def test_destroying_takes_the_snapshots_along_and_twice_is_fine(self, store: Store) -> None:
        (store.create("a/v") / "file").write_text("x")
        store.snapshot("a/v", "s")
        store.destroy_snapshot("a/v", "none")
        store.destroy("a/v")
        store.destroy("a/v")
        store.destroy_snapshot("a/v", "s")
        assert not store.exists("a/v")
        assert list(store.create("a/v").iterdir()) == []
        assert store.snapshots("a/v") == []

    def test_a_folder_of_volumes_is_not_destroyed_as_a_volume(self, store: Store) -> None:
        store.create("a/b/c")
        store.destroy("a/b")
        store.destroy("a")
        assert store.volumes() == ["a/b/c"]

    def test_no_volume_lies_inside_another(self, store: Store) -> None:
        store.create("a/b")
        for name in ("a/b/c", "a/b/c/d", "a"):
            with pytest.raises(Conflict):
                store.create(name)
        store.snapshot("a/b", "s")
        with pytest.raises(Conflict):
            store.clone("a/b", "s", "a/b/c")
        assert store.volumes() == ["a/b"]

    def test_volumes_are_listed_by_prefix_of_whole_parts(self, store: Store) -> None:
        for name in ("run/1/a", "run/1/b", "run/10/a", "running", "z"):
            store.create(name)
        assert store.volumes() == ["run/1/a", "run/1/b", "run/10/a", "running", "z"]
        assert store.volumes("run/1") == ["run/1/a", "run/1/b"]
        assert store.volumes("run") == ["run/1/a", "run/1/b", "run/10/a"]
        assert store.volumes("none") == []
        assert store.volumes("z") == []

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_other_names_are_refused_before_anything_happens(self, store: Store, name: str) -> None:
        store.create("v")
        for call in (store.create, store.path, store.exists, store.destroy, store.snapshots, store.seal):
            with pytest.raises(UsageError):
                call(name)
        with pytest.raises(UsageError):
            store.snapshot("v", f"{name}/")
        with pytest.raises(UsageError):
            store.clone("v", "s", name)

    def test_a_link_in_a_volume_leads_nobody_out_of_it(self, store: Store, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("x" * 5_000_000)
        path = store.create("v")
        (path / "link").symlink_to(outside)
        (path / "file").symlink_to(outside / "precious")
        store.snapshot("v", "s")
        clone = store.clone("v", "s", "w")
        assert (clone / "link").is_symlink()
        assert store.used_bytes("v") < 1_000_000
        store.destroy("w")
        store.destroy("v")
        assert (outside / "precious").stat().st_size == 5_000_000

    def test_used_bytes_follow_what_is_written(self, store: Store) -> None:
        path = store.create("v")
        empty = store.used_bytes("v")
        (path / "file").write_bytes(os.urandom(3_000_000))
        store.seal("v")
        assert 2_900_000 < store.used_bytes("v") - empty < 3_300_000

    def test_a_sealed_volume_can_be_read_cloned_and_destroyed(self, store: Store) -> None:
        (store.create("v") / "file").write_text("final")
        store.seal("v")
        store.seal("v")
        store.snapshot("v", "s")
        clone = store.clone("v", "s", "w")
        (clone / "file").write_text("a branch")
        assert (store.path("v") / "file").read_text() == "final"
        store.destroy("w")
        store.destroy("v")
        assert store.volumes() == []

    def test_everything_below_a_prefix_goes_also_chains_of_clones(self, store: Store) -> None:
        store.create("run/b")
        store.snapshot("run/b", "done")
        store.clone("run/b", "done", "run/a")
        store.snapshot("run/a", "done")
        store.clone("run/a", "done", "run/c")
        store.create("other")
        destroy_below(store, "run")
        assert store.volumes() == ["other"]

    def test_many_at_once(self, store: Store) -> None:
        names = [f"runs/{number % 3}/job/out-{number}" for number in range(9)]
        with ThreadPoolExecutor(6) as pool:
            paths = list(pool.map(store.create, names + names))
            assert {str(path) for path in paths} == {str(store.path(name)) for name in names}
            for path, name in zip(paths, names, strict=False):
                (path / "who").write_text(name)
            list(pool.map(lambda name: store.snapshot(name, "done"), names + names))
            list(pool.map(lambda name: store.clone(name, "done", f"{name}-in"), names + names))
            assert all((store.path(f"{name}-in") / "who").read_text() == name for name in names)
            list(pool.map(lambda prefix: destroy_below(store, prefix), [f"runs/{number}" for number in range(3)]))
        assert store.volumes() == []

    def test_info_tells_kind_and_space(self, store: Store) -> None:
        info = store.info()
        assert info.kind in ("zfs", "directory")
        assert info.detail
        assert 0 < info.free_bytes <= info.total_bytes
