"""A notebook as one file: what goes out comes in again, and nothing of a hostile archive reaches beyond its folder."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import NoSpace, UsageError
from appliance.notebooks.archive.members import MOST_HEADER
from appliance.notebooks.archive.reading import Taken, unpack
from appliance.notebooks.archive.writing import archive
from appliance.packs.tree import Tree

SPEC = b"kind: notebook\nname: nb\n"
NAMES = st.one_of(
    st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"|").replace(b"\0", b"0")),
    st.sampled_from([b"a", b"b c", "žluť 日本".encode(), b"x" * 120, b"\xff\n", b"-rf", b"#", b"\\x41"]),
).filter(lambda name: name not in (b".", b"..") and not name.startswith(b".appliance-"))
FILES = st.tuples(
    st.tuples(st.binary(max_size=12), st.sampled_from([1, 43, 700]), st.sampled_from([0, 1, 9000])),
    st.booleans(),
    st.integers(-(10**17), 10**18),
)
LINKS = st.one_of(NAMES, st.sampled_from([b"/etc/passwd", b"../../..", b"a" * 150]))
TREES = st.recursive(
    st.dictionaries(NAMES, st.one_of(FILES, LINKS), max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(FILES, LINKS, below), max_size=4),
    max_leaves=12,
)


def make(root: bytes, tree: dict[bytes, Any]) -> None:
    for name, what in tree.items():
        path = root + b"/" + name
        if isinstance(what, dict):
            os.mkdir(path)
            make(path, what)
        elif isinstance(what, bytes):
            os.symlink(what, path)
        else:
            (piece, times, hole), executable, mtime = what
            content = piece * times + bytes(hole) + piece
            with open(path, "wb") as file:
                file.write(content)
            os.chmod(path, 0o755 if executable else 0o644)
            os.utime(path, ns=(mtime, mtime))


def seen(root: bytes) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for name in os.listdir(root):
        path = root + b"/" + name
        if os.path.islink(path):
            found[name] = os.readlink(path)
        elif os.path.isdir(path):
            found[name] = seen(path)
        else:
            with open(path, "rb") as file:
                about = os.fstat(file.fileno())
                found[name] = (file.read(), bool(about.st_mode & 0o100), about.st_mtime_ns)
    return found


def packed(root: Path, spec: bytes = SPEC) -> bytes:
    tree = Tree(root)
    try:
        return b"".join(archive(tree, spec))
    finally:
        tree.close()


def take(content: bytes, root: Path, check: Callable[[], None] = lambda: None) -> Taken:
    return unpack(io.BytesIO(content).read, root, check, lambda spec: None)


@given(TREES)
@settings(max_examples=40)
def test_what_goes_out_comes_in_again(tree: dict[bytes, object]) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        make(os.fsencode(one), tree)
        taken = take(packed(Path(one)), Path(other))
        assert taken.spec == SPEC.decode()
        assert seen(os.fsencode(other)) == seen(os.fsencode(one))


@given(TREES, st.data())
@settings(max_examples=40)
def test_cut_off_anywhere_it_is_refused(tree: dict[bytes, object], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        make(os.fsencode(one), tree)
        whole = packed(Path(one))
        with pytest.raises(UsageError, match="not an archive of a notebook"):
            take(whole[: data.draw(st.integers(0, len(whole) - 1))], Path(other))


@given(st.binary(max_size=4000), st.booleans())
def test_nothing_at_all_gets_beyond_a_refusal(content: bytes, squeezed: bool) -> None:
    with tempfile.TemporaryDirectory() as other, pytest.raises(UsageError):
        take(zlib.compress(content, wbits=31) if squeezed else content, Path(other))


def test_any_tar_reads_it_and_what_cannot_go_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    os.mkfifo(tmp_path / "fifo\n")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path)), mode="r:gz") as found:
        assert found.getnames() == ["notebook.yaml", "workspace", "workspace/a.txt", "left-out.txt"]
        assert found.extractfile("left-out.txt").read() == b"fifo\n\n"  # type: ignore[union-attr]


def test_holes_come_back_as_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    with open(source / "big", "wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    content = packed(source)
    assert len(content) < 1 << 20
    taken = take(content, target)
    assert taken.bytes == (64 << 20) + 3
    assert (target / "big").read_bytes() == (source / "big").read_bytes()
    assert (target / "big").stat().st_blocks * 512 < 4 << 20


def test_what_grows_or_shrinks_meanwhile_does_not_spoil_the_rest(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_bytes(os.urandom(4 << 20))
    (tmp_path / "in" / "b").write_text("whole")
    tree = Tree(tmp_path / "in")
    pieces = archive(tree, SPEC)
    first = b""
    while len(first) < 1 << 18:  # some of it has gone
        first += next(pieces)
    os.truncate(tmp_path / "in" / "a", 10)
    content = first + b"".join(pieces)
    tree.close()
    take(content, tmp_path / "out")
    assert (tmp_path / "out" / "b").read_text() == "whole"
    assert (tmp_path / "out" / "a").stat().st_size == 4 << 20


def tar(*members: tuple[tarfile.TarInfo, bytes], spec: bytes = SPEC, form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as file:
        for info, content in ((member("notebook.yaml", size=len(spec)), spec), *members):
            file.addfile(info, io.BytesIO(content))
    return made.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, *, size: int = 0, target: str = "", more: dict[str, str] | None = None
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname, info.pax_headers = kind, size, target, more or {}
    return info


HOSTILE = {
    "out by dots": [(member("workspace/../../evil"), b"")],
    "out by dots at the top": [(member("../evil"), b"")],
    "absolute": [(member("/etc/evil"), b"")],
    "beside the workspace": [(member("evil"), b"")],
    "below a link": [(member("workspace/l", tarfile.SYMTYPE, target="OUT"), b""), (member("workspace/l/evil"), b"")],
    "a link twice": [
        (member("workspace/l", tarfile.SYMTYPE, target="OUT/evil"), b""),
        (member("workspace/l", size=1), b"x"),
    ],
    "the workspace itself a link": [(member("workspace", tarfile.SYMTYPE, target="OUT"), b"")],
    "another name of what is outside": [(member("workspace/h", tarfile.LNKTYPE, target="/etc/passwd"), b"")],
    "another name by dots": [(member("workspace/h", tarfile.LNKTYPE, target="workspace/../../x"), b"")],
    "another name of a link": [
        (member("workspace/l", tarfile.SYMTYPE, target="/etc/passwd"), b""),
        (member("workspace/h", tarfile.LNKTYPE, target="workspace/l"), b""),
    ],
    "a device": [(member("workspace/d", tarfile.CHRTYPE), b"")],
    "a block device": [(member("workspace/d", tarfile.BLKTYPE), b"")],
    "a fifo": [(member("workspace/f", tarfile.FIFOTYPE), b"")],
    "a sparse one": [(member("workspace/s", tarfile.GNUTYPE_SPARSE), b"")],
    "a file below a file": [(member("workspace/a"), b""), (member("workspace/a/b"), b"")],
    "a path that is too long": [(member("workspace/" + "d/" * 3000 + "x"), b"")],
    "a name that is too long": [(member("workspace/" + "n" * 300), b"")],
    "a reserved name": [(member("workspace/.appliance-x"), b"")],
    "a link to nothing": [(member("workspace/l", tarfile.SYMTYPE), b"")],
    "a second spec": [(member("notebook.yaml", size=3), b"a:\n")],
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_reaches_nothing_outside(tmp_path: Path, what: str, form: int) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    for folder in (outside, target):
        folder.mkdir()
    members = [(copy(info), content) for info, content in HOSTILE[what]]
    for info, _ in members:
        info.linkname = info.linkname.replace("OUT", str(outside))
    with pytest.raises(UsageError, match="not an archive of a notebook"):
        take(tar(*members, form=form), target)
    assert list(outside.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "target"}


def test_what_is_sparse_by_its_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only files and links go"):
        take(tar((member("workspace/s", more={"GNU.sparse.major": "1"}), b"")), tmp_path)


def test_headers_of_any_length_are_not_read_into_memory(tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        huge = member("x", kind, size=MOST_HEADER + 1)
        content = huge.tobuf(tarfile.USTAR_FORMAT)
        with pytest.raises(UsageError, match="a header that is too long"):
            take(content, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_without_a_member_behind_them_have_an_end(tmp_path: Path, kind: bytes) -> None:
    """Each with a key of its own, so whatever keeps them all grows with each."""
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        for number in range(64 if kind != tarfile.GNUTYPE_LONGNAME else 10_000):
            value = b"" if kind == tarfile.GNUTYPE_LONGNAME else b"x" * 900_000
            record = b" k%d=%s\n" % (number, value) if value else b"n" * 8000
            record = b"%d%s" % (len(record) + 6, record) if value else record
            info = tarfile.TarInfo("x")
            info.type, info.size = kind, len(record)
            given += len(record)
            yield info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512)
        yield from (b"\0" * 1024, b"")

    pieces = endless()
    with pytest.raises(UsageError, match="header"):
        unpack(lambda count: next(pieces, b""), tmp_path, lambda: None, lambda spec: None)
    assert given < 8 << 20


def test_many_empty_members_ask_whether_there_is_room(tmp_path: Path) -> None:
    def full() -> None:
        raise NoSpace("full")

    with pytest.raises(NoSpace):
        take(tar(*((member(f"workspace/{number}"), b"") for number in range(20_000))), tmp_path, full)


def test_a_bomb_behind_the_end_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="behind its end"):
        take(zlib.compress(tar() + bytes(64 << 20), wbits=31), tmp_path)


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_bytes(os.urandom(5000))
    content = bytearray(packed(tmp_path / "in"))
    content[-6] ^= 1  # its checksum
    with pytest.raises(UsageError, match="damaged"):
        take(bytes(content), tmp_path / "out")


def test_one_made_by_hand_with_other_names_of_files_is_taken(tmp_path: Path) -> None:
    file = member("./workspace/a", size=2)
    file.mode = 0o4755
    again = member("./workspace/b", tarfile.LNKTYPE, target="./workspace/a")
    take(tar((file, b"hi"), (again, b""), form=tarfile.GNU_FORMAT), tmp_path)
    assert (tmp_path / "b").read_text() == "hi"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755, "nobody's program by another's right"


def test_without_a_spec_it_is_none(tmp_path: Path) -> None:
    made = io.BytesIO()
    tarfile.open(fileobj=made, mode="w").close()
    with pytest.raises(UsageError, match=r"no notebook\.yaml"):
        take(made.getvalue(), tmp_path)


def test_what_fills_the_disk_is_ended(tmp_path: Path) -> None:
    def full() -> None:
        raise NoSpace("the disk is nearly full")

    file = member("workspace/a", size=80 << 20)
    with pytest.raises(NoSpace):
        take(tar((file, b"x" * (80 << 20))), tmp_path, full)
