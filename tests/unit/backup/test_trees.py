"""A tree in the archive and back: everything is kept, little is read or written twice, and nothing leads out."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.backup.likeness import likeness, most_alike
from appliance.backup.manifest import Damaged
from appliance.backup.pack import CHUNK
from appliance.backup.target import Target
from appliance.errors import StorageError
from tests.unit.backup.trees import entries, manifest, pack, unpack
from tests.unit.storage.trees import describe, fill, set_xattrs


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target.create(tmp_path / "target", "origin")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def made(tmp_path: Path) -> Path:
    folder = tmp_path / f"made{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


def write_manifest(target: Target, rows: list[dict[str, Any]]) -> str:
    """A manifest such as somebody may have forged."""
    data = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    digest = hashlib.sha256(data).hexdigest()
    path = target.objects.path(digest, "manifests")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return digest


def row(path: str, kind: str = "f", **more: Any) -> dict[str, Any]:
    return {"p": path, "t": kind, "m": 0o644, "u": os.geteuid(), "g": os.getegid(), "mt": 1_000_000_000, **more}


def test_everything_that_a_file_system_can_hold_comes_back(target: Target, source: Path, tmp_path: Path) -> None:
    fill(source)
    set_xattrs(source)
    source.chmod(0o2750)
    digest = manifest(target, source)
    again = made(tmp_path)
    unpack(target, again, digest)
    assert describe(again) == describe(source)
    assert again.stat().st_mode == source.stat().st_mode
    assert (again / "sparse").stat().st_blocks * 512 < 1 << 20


def test_nothing_of_it_may_be_read_by_others(target: Target, source: Path) -> None:
    fill(source)
    manifest(target, source)
    modes = {path.stat().st_mode & 0o777 for path in target.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert target.path.stat().st_mode & 0o777 == 0o700


def test_zeros_are_holes_and_large_files_are_pieces(target: Target, source: Path, tmp_path: Path) -> None:
    data = bytearray(os.urandom(CHUNK + 5)) + bytes(3 << 20) + b"end"
    (source / "large").write_bytes(data)
    digest = manifest(target, source)
    (entry,) = (entry for entry in entries(target, digest) if entry.path == b"large")
    assert (entry.chunks[0].offset, entry.chunks[0].length) == (0, CHUNK)
    assert sum(chunk.length for chunk in entry.chunks) < CHUNK + (2 << 20)
    again = made(tmp_path)
    unpack(target, again, digest)
    assert (again / "large").read_bytes() == bytes(data)


def test_what_is_unchanged_is_not_read_again(target: Target, source: Path) -> None:
    for number in range(20):
        (source / f"f{number}").write_bytes(os.urandom(1000))
    first = pack(target, source)
    assert (first["read"], first["size"]) == (20_000, 20_000)
    (source / "f7").write_bytes(os.urandom(500))
    second = pack(target, source, str(first["manifest"]))
    assert (second["read"], second["size"]) == (500, 19_500)
    assert first["manifest"] != second["manifest"]


def test_a_forged_time_hides_no_change(target: Target, source: Path) -> None:
    file = source / "file"
    file.write_bytes(b"before")
    times = file.stat()
    first = manifest(target, source)
    file.write_bytes(b"after!")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert pack(target, source, first)["read"] == 6
    assert pack(target, source, first, frozen=True)["read"] == 0, "where nobody can write, ctime may differ"


def test_what_changes_in_a_large_file_is_all_that_is_stored_and_restored(
    target: Target, source: Path, tmp_path: Path
) -> None:
    large = source / "large"
    large.write_bytes(os.urandom(3 * CHUNK))
    first = pack(target, source)
    with large.open("r+b") as file:
        file.seek(CHUNK + 10)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"appended")
    second = pack(target, source, str(first["manifest"]))
    assert CHUNK < int(str(second["written"])) < CHUNK + 5000
    again = made(tmp_path)
    unpack(target, again, str(first["manifest"]))
    inode = (again / "large").stat().st_ino
    assert unpack(target, again, str(second["manifest"]), str(first["manifest"])) == CHUNK + len("appended")
    assert (again / "large").stat().st_ino == inode, "written in place: on ZFS the rest stays shared"
    assert describe(again) == describe(source)


def test_what_does_not_differ_is_not_touched(target: Target, source: Path, tmp_path: Path) -> None:
    fill(source)
    first = manifest(target, source)
    again = made(tmp_path)
    unpack(target, again, first)
    before = {path: os.lstat(path).st_ctime_ns for path in again.rglob("*")}
    (source / "plain").write_bytes(b"other")  # has another name, deep/hard
    (source / "new").touch()
    second = manifest(target, source, first)
    unpack(target, again, second, first)
    assert describe(again) == describe(source)
    changed = {path.name for path, ctime in before.items() if os.lstat(path).st_ctime_ns != ctime}
    assert changed == {"plain", "hard", "deep"}


@pytest.mark.parametrize("change", range(12))
def test_any_kind_may_become_any_other(target: Target, source: Path, tmp_path: Path, change: int) -> None:
    kinds = ("file", "directory", "link", "fifo", "hard")
    dice = random.Random(change)

    def build() -> None:
        (source / "a-first").write_bytes(dice.randbytes(10))
        for number in range(8):
            path, kind = source / f"x{number}", dice.choice(kinds)
            if kind == "file":
                path.write_bytes(dice.randbytes(dice.randrange(30)))
            elif kind == "directory":
                path.mkdir()
                (path / "inner").write_bytes(b"inner")
                os.link(source / "a-first", path / "hard")
            elif kind == "link":
                path.symlink_to(dice.choice(["x1", "/etc/passwd", "nowhere"]))
            elif kind == "fifo":
                os.mkfifo(path)
            else:
                os.link(dice.choice([entry for entry in sorted(source.iterdir()) if entry.is_file()]), path)

    build()
    first = manifest(target, source)
    for entry in list(source.iterdir()):
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    build()
    second = manifest(target, source, first)
    again = made(tmp_path)
    unpack(target, again, first)
    unpack(target, again, second, first)
    assert describe(again) == describe(source)


Tree = dict[str, bytes]
_names = st.sampled_from(["a", "a b", "a.b", "b", "a/x", "a/y", "b/x", "b/x/deep", "c"])
_trees = st.dictionaries(_names, st.binary(max_size=4), max_size=6)


def build(root: Path, tree: Tree) -> None:
    for name, data in sorted(tree.items()):
        path = root / name
        if any(parent.is_file() for parent in path.parents) or path.is_dir():
            continue  # a file of that name is there already
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(history=st.lists(_trees, min_size=2, max_size=4))
def test_a_history_is_made_again_moment_by_moment(tmp_path: Path, target: Target, history: list[Tree]) -> None:
    again, before = made(tmp_path), ""
    for tree in history:
        source = made(tmp_path)
        build(source, tree)
        digest = manifest(target, source, before)
        unpack(target, again, digest, before)
        assert describe(again) == describe(source)
        before = digest


@pytest.mark.parametrize(
    "rows",
    [
        [row("", "d"), row("../out")],
        [row("", "d"), row("/etc/passwd")],
        [row("", "d"), row("..", "d")],
        [row("", "d"), row(".", "d")],
        [row("", "d"), row("a//b")],
        [row("", "d"), row("a\0b")],
        [row("", "d"), row("a", "l", l="/etc"), row("a/passwd")],
        [row("", "d"), row("a"), row("a/b")],
        [row("", "d"), row("a"), row("a")],
        [row("", "d"), row("b"), row("a")],
        [row("", "d"), row("", "d")],
        [row("", "d"), row("a", "h", l="../../etc/passwd")],
        [row("", "d"), row("a", "h", l="/etc/passwd")],
        [row("", "d"), row("a", "h", l="")],
        [row("", "d"), row("a", "l", l="")],
        [row("", "d"), row("a", "l", l="x\0y")],
        [row("", "d"), row("a", "?")],
        [row("", "d"), row("a", n=10, c=[[0, 5, "../../../../etc/passwd"]])],
        [row("", "d"), row("a", n=10, c=[[0, 20, "0" * 64]])],
        [row("", "d"), row("a", n=10, c=[[5, 2, "0" * 64], [0, 2, "0" * 64]])],
        [row("", "d"), row("a", n=-1)],
        [row("", "d"), row("a", m="x")],
        [row("", "d"), {"p": "a"}],
        [row("", "d"), {}],
        [row("a")],
        [],
    ],
)
def test_a_manifest_that_no_walk_has_written_is_refused(
    target: Target, tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    digest = write_manifest(target, rows)
    inside = made(tmp_path)
    (tmp_path / "out").write_text("as it was")
    with pytest.raises(Damaged):
        unpack(target, inside, digest)
    assert (tmp_path / "out").read_text() == "as it was"


def test_a_link_that_appears_in_the_directory_is_not_followed(target: Target, source: Path, tmp_path: Path) -> None:
    (source / "dir").mkdir()
    (source / "dir" / "file").write_text("one")
    first = manifest(target, source)
    (source / "dir" / "file").write_text("twoo")
    second = manifest(target, source)
    again, outside = made(tmp_path), made(tmp_path)
    unpack(target, again, first)
    (outside / "file").write_text("theirs")
    shutil.rmtree(again / "dir")
    (again / "dir").symlink_to(outside)
    with pytest.raises(StorageError):
        unpack(target, again, second, first)
    assert (outside / "file").read_text() == "theirs"


def test_damage_is_found(target: Target, source: Path, tmp_path: Path) -> None:
    (source / "file").write_bytes(b"content")
    digest = manifest(target, source)
    piece = target.objects.path(hashlib.sha256(b"content").hexdigest())
    piece.write_bytes(b"CONTENT")
    with pytest.raises(Damaged):
        unpack(target, made(tmp_path), digest)
    piece.unlink()
    with pytest.raises(Damaged):
        unpack(target, made(tmp_path), digest)
    list_of_files = target.objects.path(digest, "manifests")
    list_of_files.write_bytes(list_of_files.read_bytes() + b"x")
    with pytest.raises(Damaged):
        unpack(target, made(tmp_path), digest)


def test_the_likeness_of_two_trees_tells_which_came_from_which(target: Target, tmp_path: Path) -> None:
    def sketch(seed: int, changed: int) -> list[int]:
        folder = made(tmp_path)
        for number in range(200):
            content = f"{seed if number >= changed else 'other'} {number}"
            (folder / f"f{number}").write_text(content)
        marks = pack(target, folder)["sketch"]
        assert isinstance(marks, list)
        return marks

    base, near, far, strange = sketch(1, 0), sketch(1, 10), sketch(1, 120), sketch(2, 0)
    assert likeness(base, base) == 1.0
    assert likeness(base, near) > 0.6 > likeness(base, far) > likeness(base, strange) == 0
    assert most_alike(near, [strange, far, base]) == 2
    assert most_alike(strange, [base, far]) is None
    assert most_alike([], [[]]) is None
