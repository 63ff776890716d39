"""Snapshots of the directory store that share their unchanged files."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.storage.directory import store as directory
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.trees import copytree, ctime, notes
from appliance.storage.trees.copying import Links
from tests.unit.storage.machine import StoreMachine
from tests.unit.storage.trees import describe, fill, set_xattrs


def copy_here(source: Path, target: Path, *, durable: bool, links: Links) -> None:
    """The copier without its process: faster, and its margin can be set."""
    copytree.copy(str(source), str(target), copytree.parse([*links.options(), *(["--sync"] if durable else [])]))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    monkeypatch.setattr(directory, "copy_tree", copy_here)
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


def inodes(root: Path) -> dict[str, int]:
    """Of everything but directories."""
    found = {os.path.relpath(path, root): os.lstat(path) for path in root.rglob("*") if not os.path.isdir(path)}
    return {path: entry.st_ino for path, entry in found.items()}


def frozen(store: DirectoryStore, name: str, volume: str = "v") -> Path:
    with store.view(volume, name) as path:
        return path


@pytest.mark.parametrize("margin_ns", [0, notes.MARGIN_NS])
def test_any_sequence_of_changes_is_kept_moment_by_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin_ns: int
) -> None:
    """Without a margin only the ctime tells; with it everything here is in doubt, and is compared."""
    monkeypatch.setattr(notes, "MARGIN_NS", margin_ns)
    monkeypatch.setattr(directory, "copy_tree", copy_here)
    monkeypatch.setattr(directory, "_remove", shutil.rmtree)

    class Machine(StoreMachine):
        store = DirectoryStore(tmp_path / "volumes", "for tests", durable=False)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=checks,
            phases=[Phase.generate],
        ),
    )


def test_what_is_unchanged_is_the_same_file_in_both_and_never_the_live_one(store: DirectoryStore) -> None:
    path = store.create("v")
    fill(path)
    set_xattrs(path)
    store.snapshot("v", "s1")
    (path / "mode").write_bytes(b"changed")
    (path / "moved").write_bytes(b"new")
    store.snapshot("v", "s2")
    one, two, live = (inodes(root) for root in (frozen(store, "s1"), frozen(store, "s2"), path))
    assert {name for name in two if one.get(name) != two[name]} == {"mode", "moved"}
    assert not set(live.values()) & (set(one.values()) | set(two.values()))
    assert store.written("v", "s2") == len(b"changed") + len(b"new")
    assert describe(frozen(store, "s2")) == describe(path)


def test_two_directories_that_trade_places_are_not_taken_for_unchanged(store: DirectoryStore) -> None:
    """Nothing about the files themselves tells: size, times and ctime are as they were."""
    path = store.create("v")
    for name in ("a", "b"):
        (path / name).mkdir()
        (path / name / "file").write_text(f"of {name}")
        os.utime(path / name / "file", ns=(1, 1))
    store.snapshot("v", "s1")
    (path / "a").rename(path / "c")
    (path / "b").rename(path / "a")
    (path / "c").rename(path / "b")
    store.snapshot("v", "s2")
    assert (frozen(store, "s2") / "a" / "file").read_text() == "of b"
    assert (frozen(store, "s2") / "b" / "file").read_text() == "of a"


def test_the_first_snapshot_of_a_clone_shares_with_what_it_was_cloned_from(store: DirectoryStore) -> None:
    path = store.create("v")
    fill(path)
    store.snapshot("v", "s")
    clone = store.clone("v", "s", "w")
    (clone / "new").write_text("new")
    store.snapshot("w", "t")
    ours, theirs = inodes(frozen(store, "t", "w")), inodes(frozen(store, "s"))
    assert {name for name in ours if ours[name] != theirs.get(name)} == {"new"}
    assert store.written("w", "t") == 3
    assert store.usage("v").shared > 0
    kept = describe(clone)
    store.destroy("v")
    assert describe(frozen(store, "t", "w")) == kept
    assert store.usage("w").shared == 0
    store.destroy_snapshot("w", "t")
    store.snapshot("w", "u")
    assert describe(frozen(store, "u", "w")) == kept


def test_an_origin_that_was_destroyed_and_made_again_is_another_one(store: DirectoryStore) -> None:
    path = store.create("v")
    (path / "file").write_text("one")
    os.utime(path / "file", ns=(1, 1))
    store.snapshot("v", "s")
    store.clone("v", "s", "w")
    store.destroy("v")
    path = store.create("v")
    (path / "file").write_text("two")
    os.utime(path / "file", ns=(1, 1))
    store.snapshot("v", "s")
    store.snapshot("w", "t")
    assert (frozen(store, "t", "w") / "file").read_text() == "one"


def test_a_snapshot_without_a_note_is_not_shared_and_says_so(store: DirectoryStore) -> None:
    """As an older appliance has left it."""
    path = store.create("v")
    (path / "file").write_text("x")
    store.snapshot("v", "s1")
    shutil.rmtree(path.parent / "notes")
    assert store.changed("v")
    assert store.written("v", "s1") is None
    store.clone("v", "s1", "w")
    store.snapshot("w", "t")
    store.snapshot("v", "s2")
    assert store.written("v", "s2") == 1
    assert len({inodes(frozen(store, name, of))["file"] for of, name in (("v", "s1"), ("v", "s2"), ("w", "t"))}) == 3


def test_a_note_that_a_kill_has_left_is_nobody_s(store: DirectoryStore) -> None:
    path = store.create("v")
    store.snapshot("v", "s1")
    for left in ("000002@s2", "000009@killed"):
        (path.parent / "notes" / left).write_text("half")
    (path / "file").write_text("x")
    store.snapshot("v", "s2")
    assert sorted(note.name for note in (path.parent / "notes").iterdir()) == ["000001@s1", "000002@s2"]
    assert store.written("v", "s2") == 1


def test_a_file_system_that_hides_changes_gets_full_copies(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(directory, "trusts_ctime", lambda folder, *, mapped: False)
    (store.create("v") / "file").write_text("x")
    store.snapshot("v", "s1")
    store.snapshot("v", "s2")
    assert inodes(frozen(store, "s1")) != inodes(frozen(store, "s2"))
    assert "full copy" in caplog.text


def test_this_file_system_is_tried_out(tmp_path: Path) -> None:
    assert ctime.trusts_ctime(tmp_path, mapped=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "tmpfs"
    where.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(where)]).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_tmpfs_does_not_tell_of_pages_that_are_mapped(tmpfs: Path) -> None:
    assert ctime.trusts_ctime(tmpfs, mapped=False)
    assert not ctime.trusts_ctime(tmpfs, mapped=True)


def test_a_page_that_was_mapped_and_dirty_before_the_snapshot_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing to it again sets no new ctime, unless everything was written out in between."""
    monkeypatch.setattr(notes, "MARGIN_NS", 0)
    monkeypatch.setattr(directory, "copy_tree", copy_here)
    store = DirectoryStore(tmp_path / "volumes", "for tests")
    path = store.create("v") / "file"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as page:
        page[0] = 1
        store.snapshot("v", "s1")
        page[0] = 2
        store.snapshot("v", "s2")
    assert [(frozen(store, name) / "file").read_bytes()[0] for name in ("s1", "s2")] == [1, 2]


def test_space_is_counted_to_the_block(store: DirectoryStore) -> None:
    """What is told adds up to what the disk says, and what is promised comes back."""
    path = store.create("v")
    fill(path)
    for number in range(3):
        (path / "changing").write_bytes(os.urandom(50_000 * (number + 1)))
        store.snapshot("v", f"s{number}")
    clone = store.clone("v", "s1", "w")
    (clone / "own").write_bytes(os.urandom(70_000))
    store.snapshot("w", "t")

    def disk() -> int:
        told = subprocess.run(["du", "-s", "-B1", "--", store.root], capture_output=True, check=True).stdout
        extra = [store.root, store.root / ".tmp"]
        for home in (path.parent, clone.parent):
            extra += [home, home / "snapshots", *home.glob("notes"), *home.glob("notes/*")]
            extra += [*home.glob("origin"), *home.glob("origin/tree"), *home.glob("origin/note")]
        return int(told.split(b"\t")[0]) - sum(entry.lstat().st_blocks * 512 for entry in extra)

    both = [store.usage(name) for name in ("v", "w")]
    assert abs(sum(usage.unique + usage.shared for usage in both) - disk()) < 1000, "the portions are rounded"
    assert all(usage.shared > 0 for usage in both)
    for volume, names in (("v", ["s0", "s2"]), ("w", ["t"]), ("v", ["s1"])):
        before, promised = disk(), store.reclaimable(volume, names)
        assert promised.exact
        if len(names) == 1:
            assert store.usage(volume).snapshots[names[0]] == promised.bytes
        for name in names:
            store.destroy_snapshot(volume, name)
        assert before - disk() == promised.bytes
