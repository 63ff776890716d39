"""The walk in step: what is told is what differs, whatever lies in the trees."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance import paths
from appliance.history.diff import content, tree, unchanged
from appliance.history.diff.tree import Comparison, Options
from tests.support.descriptors import open_below
from tests.unit.storage.trees import ODD_NAMES, fill


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """The same tree twice: `before` to be kept, `after` to be changed."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    fill(before)
    copy(before, after)
    return before, after


def copy(source: Path, target: Path) -> None:
    assert os.spawnlp(os.P_WAIT, "cp", "cp", "-a", "--", str(source), str(target)) == 0


def answer(before: Path, after: Path, hints: list[str] | None = None, **options: Any) -> list[dict[str, Any]]:
    written = io.StringIO()
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (before, after)]
    open_before = sorted(open_below(before.parent))
    try:
        Comparison(folders[0], folders[1], Options(**options), written.write).run(hints)
        assert sorted(open_below(before.parent)) == open_before, "a descriptor is left open"
    finally:
        for folder in folders:
            os.close(folder)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def told(before: Path, after: Path, hints: list[str] | None = None, **options: Any) -> set[str]:
    """`M path` and so on; nothing was cut."""
    *changes, end = answer(before, after, hints, **options)
    assert end["cut"] == ""
    assert end["changes"] == len(changes)
    found = [
        " ".join(part for part in (change["change"], change.get("was", ""), change["path"]) if part)
        for change in changes
    ]
    assert len(found) == len(set(found))
    return set(found)


def test_nothing_differs(pair: tuple[Path, Path]) -> None:
    assert told(*pair) == set()
    assert told(*pair, checksum=True) == set()
    [end] = answer(*pair)
    assert end["entries"] == sum(len(folders) + len(files) for _, folders, files in os.walk(pair[0]))


def test_one_of_each(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "deep" / "er" / "new").write_text("new")
    (after / "mode").unlink()
    (after / "deep" / "er" / "file").write_bytes(b"other")
    (after / "empty").rename(after / "moved empty")
    (after / "sparse").rename(after / "deep" / "moved")
    (after / "dangling").unlink()
    (after / "dangling").symlink_to("elsewhere")
    assert told(before, after) == {
        "added deep/er/new",
        "removed mode",
        "changed deep/er/file",
        "removed empty",
        "added moved empty",
        "renamed sparse deep/moved",
        "changed dangling",
    }


def test_sizes_and_kinds(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "plain").write_bytes(b"longer than before")
    (after / "link").symlink_to("1234567")
    (after / "folder").mkdir()
    shutil.rmtree(after / "empty-dir")
    found = {change["path"]: change for change in answer(before, after) if "path" in change}
    assert found["plain"] == {"change": "changed", "path": "plain", "kind": "file", "before": 6, "after": 18}
    assert found["link"] == {"change": "added", "path": "link", "kind": "link", "before": None, "after": 7}
    assert found["folder"]["kind"] == found["empty-dir"]["kind"] == "directory"
    assert (found["empty-dir"]["before"], found["empty-dir"]["after"]) == (0, None)


def test_another_type_is_a_removal_and_an_addition(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "mode").unlink()
    (after / "mode").mkdir()
    (after / "mode" / "inside").write_text("x")
    shutil.rmtree(after / "deep")
    (after / "deep").symlink_to("/etc")
    (after / "empty").unlink()
    os.mkfifo(after / "empty")
    assert told(before, after) == {
        "removed mode", "added mode", "added mode/inside",
        "removed deep", "added deep", "removed deep/er", "removed deep/er/file", "removed deep/hard",
        "removed empty", "added empty",
    }  # fmt: skip


def test_mode_and_owner_are_told_beside_the_content(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "plain").chmod(0o600)
    (after / "deep" / "er").chmod(0o700)
    expected = {"plain": "mode 644 -> 600", "deep/hard": "mode 644 -> 600", "deep/er": "mode 755 -> 700"}
    if os.geteuid() == 0:
        os.chown(after / "dangling", 7, 8, follow_symlinks=False)
        expected["dangling"] = "owner 1234:5678 -> 7:8"
    assert {change["path"]: change["note"] for change in answer(before, after)[:-1]} == expected


def test_a_touched_file_is_read_before_it_is_told(pair: tuple[Path, Path]) -> None:
    before, after = pair
    os.utime(after / "plain")
    os.utime(after / "sparse")  # too large to be read only for its time
    assert told(before, after) == {"changed sparse"}
    assert told(before, after, checksum=True) == set()


def test_only_checksum_sees_a_time_that_was_set_back(pair: tuple[Path, Path]) -> None:
    before, after = pair
    status = os.stat(after / "plain")
    (after / "plain").write_bytes(b"HELLO\n")
    os.utime(after / "plain", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert told(before, after) == set()
    assert told(before, after, checksum=True) == {"changed plain", "changed deep/hard"}


def test_what_was_written_just_before_the_older_moment_is_read(pair: tuple[Path, Path]) -> None:
    """A coarse clock gives what is written just after it the same time."""
    before, after = pair
    (after / "plain").write_bytes(b"HELLO\n")
    for root in pair:
        os.utime(root / "plain", ns=(5 * 10**9, 5 * 10**9))
    changed = {"changed plain", "changed deep/hard"}
    assert told(before, after, doubt_ns=unchanged.doubt_ns(5.9)) == changed
    assert told(before, after, doubt_ns=unchanged.doubt_ns(60.0)) == set()


def test_hard_links_to_the_older_moment_are_the_same_file_unseen(tmp_path: Path) -> None:
    """What the plain-directory store shares between two snapshots is not even looked at."""
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
    (tmp_path / "before" / "file").write_text("x")
    os.link(tmp_path / "before" / "file", tmp_path / "after" / "file")
    assert told(tmp_path / "before", tmp_path / "after", checksum=True) == set()
    assert answer(tmp_path / "before", tmp_path / "after")[-1]["entries"] == 1


def test_a_directory_that_moved_is_one_rename(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "deep" / "er").rename(after / "empty-dir" / "elsewhere")
    assert told(before, after) == {"renamed deep/er empty-dir/elsewhere"}
    [change, _] = answer(before, after)
    assert (change["kind"], change["before"], change["after"]) == ("directory", 100_000, 100_000)


def test_odd_names_come_through(pair: tuple[Path, Path]) -> None:
    before, after = pair
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(after), name), "ab") as file:
            file.write(b"more")
    found = answer(before, after)[:-1]
    assert {os.fsencode(paths.decode(change["path"])) for change in found} == set(ODD_NAMES)


def test_only_what_is_below_a_path(pair: tuple[Path, Path]) -> None:
    before, after = pair
    (after / "deep" / "er" / "new").write_text("new")
    (after / "plain").write_text("changed")
    assert told(before, after, under="deep/er") == {"added deep/er/new"}
    assert told(before, after, under="plain") == {"changed plain"}
    assert told(before, after, under="no/such") == set()
    assert told(before, after, under="outside/x") == set()


def test_no_link_is_followed_and_no_fifo_opened(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for root in (before, after):
        (root / "folder").mkdir(parents=True)
        os.mkfifo(root / "fifo")
        (root / "etc").symlink_to("/etc")
        (root / "shadow").symlink_to("/etc/shadow")
    (after / "folder").rmdir()
    (after / "folder").symlink_to("/etc")
    assert told(before, after, checksum=True) == {"removed folder", "added folder"}
    assert told(before, after, under="etc/passwd") == set()


class TestHints:
    """Only what a store names is looked at."""

    def test_others_are_not_looked_at(self, pair: tuple[Path, Path]) -> None:
        before, after = pair
        (after / "mode").write_text("changed")
        (after / "deep" / "er" / "file").write_text("changed")
        (after / "new").write_text("new")
        assert told(before, after, ["mode", "new", "empty"]) == {"changed mode", "added new"}
        assert told(before, after, []) == set()

    def test_a_directory_that_another_one_replaced_is_walked(self, pair: tuple[Path, Path]) -> None:
        before, after = pair
        (after / "deep" / "er" / "file").write_text("changed")
        assert told(before, after, ["deep"]) == {"changed deep/er/file"}

    def test_a_renamed_directory_stands_for_all_that_is_in_it(self, pair: tuple[Path, Path]) -> None:
        before, after = pair
        (after / "deep" / "er").rename(after / "elsewhere")
        (after / "elsewhere" / "new").write_text("x")
        found = told(before, after, ["deep", "deep/er", "elsewhere", "elsewhere/new"])
        assert found == {
            "removed deep/er", "added elsewhere", "renamed deep/er/file elsewhere/file", "added elsewhere/new",
        }  # fmt: skip

    def test_a_file_with_two_names_is_looked_for_under_both(self, pair: tuple[Path, Path]) -> None:
        before, after = pair
        (after / "plain").write_text("changed")
        assert told(before, after, ["plain"]) == {"changed plain", "changed deep/hard"}

    def test_too_many_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tree, "HINTS", 10)
        assert tree.read_hints(iter([b"a\0b\nc\0", b"\xff\0"])) == ["a", "b\nc", "\udcff"]
        assert tree.read_hints(iter([b"a\0" * 6])) is None


class TestCut:
    """Whatever is left out, the end says so."""

    def test_at_the_limit(self, pair: tuple[Path, Path]) -> None:
        before, after = pair
        for number in range(5):
            (after / f"new{number}").write_text("x")
        assert len(told(before, after, most=5)) == 5
        *changes, end = answer(before, after, most=4)
        assert len(changes) == end["changes"] == 4
        assert end["cut"] == "there are more than 4 changes"

    def test_renames_beyond_memory(self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        before, after = pair
        monkeypatch.setattr(tree, "HELD", 3)
        (after / "deep").rename(after / "moved")
        *changes, end = answer(before, after)
        assert {change["change"] for change in changes} == {"added", "removed"}
        assert len(changes) == 8
        assert "renamed ones are told as removed and added" in end["cut"]

    def test_depth(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tree, "DEPTH", 3)
        for side in ("before", "after"):
            (tmp_path / side / "1" / "2" / "3" / "4").mkdir(parents=True)
        (tmp_path / "after" / "1" / "2" / "3" / "new").write_text("x")
        [end] = answer(tmp_path / "before", tmp_path / "after")
        assert end["cut"] == "deeper than 3 directories: 1/2/3/"

    def test_a_directory_too_large_to_sort(self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tree, "NAMES", 5)
        [end] = answer(*pair)
        assert end["cut"].startswith("more than 5 entries in one directory")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_what_may_not_be_read(self, pair: tuple[Path, Path]) -> None:
        (pair[1] / "deep" / "er").chmod(0)
        assert "Permission denied: deep/er" in answer(*pair)[-1]["cut"]


def test_a_tree_that_changes_meanwhile_gives_an_answer(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each entry goes away, or becomes a link to the outside, between the listing and the look."""
    before, after = pair
    real = os.scandir

    def swapping(folder: int) -> Iterator[os.DirEntry[str]]:
        names = os.listdir(folder)
        entries = real(folder)
        if os.fstat(folder).st_ino == os.stat(after).st_ino:
            found = list(entries)
            for number, name in enumerate(sorted(names)):
                path = after / name
                if number % 3 == 0:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                elif number % 3 == 1:
                    path.rename(tmp := after.parent / f"away{number}")
                    path.symlink_to(tmp)
            return _Closing(found)
        return entries

    monkeypatch.setattr(os, "scandir", swapping)
    *changes, end = answer(before, after, checksum=True)
    assert end["end"]
    assert {change["change"] for change in changes} <= {"added", "removed", "changed", "renamed"}


class _Closing(Iterator["os.DirEntry[str]"]):
    def __init__(self, found: list[os.DirEntry[str]]) -> None:
        self._found = iter(found)

    def __next__(self) -> os.DirEntry[str]:
        return next(self._found)

    def __enter__(self) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        return None


NAMES = st.sampled_from(["a", "b", "c", "d"])
ENTRIES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.sampled_from(["1", "22", "33", "link"]), max_size=8
)


def build(root: Path, entries: dict[str, str]) -> set[str]:
    """What can be made of them; all with one time. The paths of everything that is there."""
    root.mkdir()
    for path, what in sorted(entries.items()):
        target = root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                continue
            target.symlink_to(what) if what == "link" else target.write_text(what)
        except (FileExistsError, NotADirectoryError):
            continue
        os.utime(target, ns=(1, len(what) + ord(what[0])), follow_symlinks=False)
    return {os.path.relpath(os.path.join(folder, name), root) for folder, d, f in os.walk(root) for name in (*d, *f)}


def describe(path: Path) -> tuple[str, str]:
    if path.is_symlink():
        return "link", os.readlink(path)
    return ("directory", "") if path.is_dir() else ("file", path.read_text())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ENTRIES, ENTRIES)
def test_every_difference_is_told_once(
    tmp_path_factory: pytest.TempPathFactory, old: dict[str, str], new: dict[str, str]
) -> None:
    """Against a comparison that is plain and slow; renames told as their two halves."""
    root = tmp_path_factory.mktemp("pair")
    was, now = build(root / "before", old), build(root / "after", new)
    expected = set()
    for path in was | now:
        before = describe(root / "before" / path) if path in was else None
        after = describe(root / "after" / path) if path in now else None
        if before and after and before[0] == after[0]:
            expected |= {("changed", path)} if before != after else set()
            continue
        expected |= {("removed", path)} if before else set()
        expected |= {("added", path)} if after else set()
    found: list[tuple[str, str]] = []
    for change in answer(root / "before", root / "after", checksum=True)[:-1]:
        if change["change"] != "renamed":
            found.append((change["change"], change["path"]))
            continue
        for side, kind, top in (("before", "removed", change["was"]), ("after", "added", change["path"])):
            found.append((kind, top))
            inside = sorted(was if side == "before" else now)
            found += [(kind, path) for path in inside if path.startswith(f"{top}/") and change["kind"] == "directory"]
    assert sorted(found) == sorted(expected)
    shutil.rmtree(root)


def test_content_is_compared_to_the_last_byte(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, end in ((one, b"x"), (two, b"y")):
        with path.open("wb") as file:
            file.seek(1 << 32)  # a hole of 4 GiB costs nothing
            file.write(end)
    with one.open("rb") as first, two.open("rb") as second:
        assert content.same(first.fileno(), first.fileno())
        assert not content.same(first.fileno(), second.fileno())
        assert not content.alike(first.fileno(), second.fileno())


def test_a_socket_is_a_kind_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in ("before", "after"):
        (tmp_path / side).mkdir()
    monkeypatch.chdir(tmp_path / "after")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
    assert answer(tmp_path / "before", tmp_path / "after")[0]["kind"] == "other"
