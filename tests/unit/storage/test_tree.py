"""Looking into a tree: no way out of it, whatever somebody has left there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from appliance.errors import NotFound, TooLarge, UsageError
from appliance.storage.trees import tree
from appliance.storage.trees.tree import list_directory, open_file, pin, pinned
from tests.support.descriptors import open_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of the host")
    root = tmp_path / "version"
    (root / "data").mkdir(parents=True)
    (root / "data" / "train.csv").write_bytes(b"1,2\n")
    (root / "link").symlink_to("data/train.csv")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize("path", ["data/train.csv", "./data//train.csv", "/data/train.csv"])
def test_a_file_is_read(root: Path, path: str) -> None:
    with open_file(root, path) as file:
        assert file.read() == b"1,2\n"


@pytest.mark.parametrize("path", ["link", "folder/secret", "fifo", "data", "none", "data/train.csv/x", "x" * 5000])
def test_anything_else_is_not_found(root: Path, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        open_file(root, path)
    assert caught.value.hint


@pytest.mark.parametrize("path", ["", "/", "..", "data/../../secret", "../secret", "a\0b"])
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    with pytest.raises(UsageError):
        open_file(root, path)


def test_a_file_that_somebody_has_a_lease_on_is_not_waited_for(root: Path) -> None:
    with (root / "data" / "train.csv").open("r+b") as file:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # what the kernel tells the holder by
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        began = time.monotonic()
        with pytest.raises(NotFound):
            open_file(root, "data/train.csv")
        assert time.monotonic() - began < 30, "the kernel breaks a lease after 45 s"
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def test_a_directory_is_listed_by_name_with_what_is_in_it(root: Path) -> None:
    (root / "sub").mkdir()
    odd = os.fsdecode(b"odd\n\xff'\"\\")
    (root / "sub" / odd).write_bytes(b"12345")
    (root / odd).mkdir()
    found = list_directory(root)
    assert [(entry.name, entry.kind) for entry in found] == [
        (b"data", "directory"),
        (b"fifo", "other"),
        (b"folder", "link"),
        (b"link", "link"),
        (os.fsencode(odd), "directory"),
        (b"sub", "directory"),
    ]
    assert {entry.name: entry.target for entry in found if entry.kind == "link"} == {
        b"folder": os.fsencode(root.parent),
        b"link": b"data/train.csv",
    }
    (only,) = list_directory(root, "/sub/")
    assert (only.name, only.kind, only.size, only.target) == (os.fsencode(odd), "file", 5, None)
    assert abs(only.modified - (root / "sub" / odd).stat().st_mtime) < 1e-6
    assert list_directory(root, odd) == []


@pytest.mark.parametrize("path", ["link", "folder", "folder/version", "fifo", "none", "data/train.csv", "y" * 300])
def test_what_is_no_directory_is_not_listed(root: Path, path: str) -> None:
    with pytest.raises(NotFound):
        list_directory(root, path)


@pytest.mark.parametrize("path", ["..", "data/../..", "a\0b", "\ud800"])
def test_nothing_outside_is_listed(root: Path, path: str) -> None:
    with pytest.raises(UsageError):
        list_directory(root, path)


def test_a_directory_without_end_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_ENTRIES", 3)
    with pytest.raises(TooLarge):
        list_directory(root)
    assert len(list_directory(root, "data")) == 1


def test_a_pin_is_the_thing_itself_and_leads_nowhere(root: Path) -> None:
    for path, kind in (("", stat.S_ISDIR), ("link", stat.S_ISLNK), ("fifo", stat.S_ISFIFO), ("data", stat.S_ISDIR)):
        with pinned(root, path) as found:
            assert kind(os.fstat(found).st_mode)
    with pinned(root, "data/train.csv") as found:
        (root / "data").rename(root / "moved")
        (root / "data").symlink_to(root.parent)
        assert os.fstat(found).st_size == 4
    for path in ("data/secret", "folder/secret", "none"):
        with pytest.raises(NotFound):
            pin(root, path)


def test_reading_leaves_no_descriptor_open(root: Path) -> None:
    for path in ("data", "link", "fifo", "none", "folder/x", ""):
        with contextlib.suppress(NotFound, UsageError):
            open_file(root, path)
        with contextlib.suppress(NotFound):
            list_directory(root, path)
    assert open_below(root) == []


def test_only_the_first_of_a_large_folder_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a", "c", "\udcff"):
        (tmp_path / name).touch()
    looked: list[str] = []
    entry = tree._entry

    def counting(name: str, folder: int) -> tree.TreeEntry | None:
        looked.append(name)
        return entry(name, folder)

    monkeypatch.setattr(tree, "_entry", counting)
    found, total = tree.list_first(tmp_path, "", 2)
    assert ([one.name for one in found], total) == ([b"a", b"b"], 4)
    assert looked == ["a", "b"]
    assert [one.name for one in tree.list_directory(tmp_path)] == [b"a", b"b", b"c", b"\xff"]
