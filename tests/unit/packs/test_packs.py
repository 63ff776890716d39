"""Packs carry a tree as it is, in pieces of bounded size, and nothing that comes in one leads out of the target."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import Conflict, NotFound, UsageError
from appliance.packs import build, extract
from appliance.packs.digest import TreeDigest
from appliance.packs.entry import Entry, check_path, from_json, same
from appliance.packs.tree import Tree, walk

NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: b"/" not in name and b"\0" not in name)
GOOD_NAMES = NAMES.filter(lambda name: name not in (b".", b"..") and not name.startswith(b".appliance-"))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Tree]:
    yield from opened(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Tree]:
    yield from opened(tmp_path / "target")


def opened(path: Path) -> Iterator[Tree]:
    path.mkdir()
    tree = Tree(path)
    yield tree
    tree.close()


def entries(tree: Tree) -> list[Entry]:
    return [found for found in walk(tree) if isinstance(found, Entry)]


def send(source: Tree, target: Tree, *, most: int = build.PACK) -> int:
    """How many packs it took."""
    number = 0
    for pack in build.packs(source, ((entry, 0) for entry in entries(source)), most=most):
        assert len(pack) <= most + build.PIECES + (1 << 16)
        list(extract.store(target, extract.members(pack), replace=True))
        number += 1
    return number


def digest_of(tree: Tree) -> str:
    digest = TreeDigest()
    for entry in entries(tree):
        digest.add(entry, build.file_sha256(tree, entry) if entry.kind == "file" else "")
    return digest.hexdigest()


def write(path: Path, size: int, *, seed: int = 1) -> bytes:
    content = hashlib.shake_256(bytes([seed])).digest(size)
    path.write_bytes(content)
    return content


def test_a_tree_arrives_as_it_was(source: Tree, target: Tree) -> None:
    root = source.root
    (root / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    write(root / "deep" / "er" / "file", 3000)
    (root / "deep" / "run.sh").write_text("#!/bin/sh")
    (root / "deep" / "run.sh").chmod(0o751)
    (root / "out").symlink_to("/etc/shadow")
    odd = b"odd \xff\xfe\n'\" name" + b"x" * 200
    (root / os.fsdecode(odd)).touch()
    (root / os.fsdecode(b"x" * 255)).touch()
    os.utime(root / "deep" / "run.sh", ns=(1, 1_700_000_000_123_456_789))
    os.utime(root / "deep" / "er" / "file", ns=(1, -5))
    assert send(source, target) == 1
    assert entries(target) == entries(source)
    assert digest_of(target) == digest_of(source)
    assert (target.root / "out").readlink() == Path("/etc/shadow")
    assert (target.root / "deep" / "run.sh").stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert (target.root / "deep" / "run.sh").stat().st_mode & 0o100
    assert not list(target.root.rglob(".appliance-*"))


def test_what_is_no_file_directory_or_link_is_told_and_not_sent(source: Tree) -> None:
    os.mkfifo(source.root / "fifo")
    (source.root / ".appliance-half").touch()
    (source.root / "file").touch()
    assert [found if isinstance(found, bytes) else found.path for found in walk(source)] == [
        b".appliance-half",
        b"fifo",
        b"file",
    ]
    assert [entry.path for entry in entries(source)] == [b"file"]


def test_large_files_travel_in_pieces_and_holes_stay_holes(source: Tree, target: Tree) -> None:
    with (source.root / "sparse").open("wb") as file:
        file.truncate(3 << 30)
        file.seek(1 << 30)
        file.write(b"middle")
    write(source.root / "large", build.PIECES + 12_345)
    assert send(source, target, most=1 << 20) > 8
    assert entries(target) == entries(source)
    assert (target.root / "large").read_bytes() == (source.root / "large").read_bytes()
    with (target.root / "sparse").open("rb") as file:
        file.seek(1 << 30)
        assert file.read(10) == b"middle\0\0\0\0"
    assert (target.root / "sparse").stat().st_blocks < 4096


def test_a_file_that_is_half_sent_goes_on_where_it_was(source: Tree, target: Tree) -> None:
    content = write(source.root / "large", build.PIECES + 3_000_000)
    (entry,) = entries(source)
    first = build.first_pack(source, [(entry, 0)], most=1 << 20)
    (stored,) = extract.store(target, extract.members(first), replace=True)
    assert not stored.complete
    assert not (target.root / "large").exists()
    offset = extract.offset_of(target, entry)
    assert 0 < offset == stored.bytes
    assert extract.offset_of(target, entry, b"another version") == 0
    for pack in build.packs(source, [(entry, offset)]):
        list(extract.store(target, extract.members(pack), replace=True))
    assert (target.root / "large").read_bytes() == content
    assert [path.name for path in target.root.iterdir()] == ["large"]


def test_a_piece_without_the_one_before_it_is_refused(source: Tree, target: Tree) -> None:
    write(source.root / "large", build.PIECES + 3_000_000)
    (entry,) = entries(source)
    later = build.first_pack(source, [(entry, 2 << 20)], most=1 << 20)
    with pytest.raises(Conflict, match="before byte"):
        list(extract.store(target, extract.members(later), replace=True))
    assert list(target.root.iterdir()) == []


def test_the_same_pack_twice_is_the_same_as_once(source: Tree, target: Tree) -> None:
    write(source.root / "large", build.PIECES + 3_000_000)
    (source.root / "link").symlink_to("large")
    (source.root / "folder").mkdir()
    for pack in build.packs(source, ((entry, 0) for entry in entries(source)), most=3 << 20):
        for _ in range(2):
            list(extract.store(target, extract.members(pack), replace=True))
    assert entries(target) == entries(source)


def test_a_file_that_changes_while_it_is_sent_is_a_conflict(source: Tree) -> None:
    write(source.root / "file", 10)
    (entry,) = entries(source)
    write(source.root / "file", 11)
    with pytest.raises(Conflict, match="has changed"):
        build.first_pack(source, [(entry, 0)])
    (source.root / "file").unlink()
    (source.root / "file").symlink_to("/etc/passwd")
    with pytest.raises(Conflict):
        build.first_pack(source, [(entry, 0)])
    (source.root / "file").unlink()
    os.mkfifo(source.root / "file")
    with pytest.raises(Conflict):
        build.first_pack(source, [(entry, 0)])


def tar(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def piece(name: str, data: bytes, **more: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.pax_headers = {f"APPLIANCE.{key.strip('_')}": str(value) for key, value in more.items()}
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "above": lambda: tar(("../out", b"x")),
    "above, deeper": lambda: tar(("a/../../out", b"x")),
    "absolute": lambda: tar(("/etc/x", b"x")),
    "dot": lambda: tar(("./file", b"x")),
    "empty part": lambda: tar(("a//b", b"x")),
    "hard link": lambda: tar(("file", b"x"), special("link", tarfile.LNKTYPE, "file")),
    "hard link to outside": lambda: tar(special("link", tarfile.LNKTYPE, "/etc/passwd")),
    "device": lambda: tar(special("null", tarfile.CHRTYPE)),
    "disk": lambda: tar(special("disk", tarfile.BLKTYPE)),
    "fifo": lambda: tar(special("fifo", tarfile.FIFOTYPE)),
    "twice": lambda: tar(("file", b"x"), ("file", b"y")),
    "link, then file": lambda: tar(special("a", tarfile.SYMTYPE, "/etc"), ("a", b"x")),
    "below a link": lambda: tar(special("a", tarfile.SYMTYPE, "/tmp"), ("a/out", b"x")),
    "below a link that comes later": lambda: tar(("a/b/out", b"x"), special("a", tarfile.SYMTYPE, "/tmp")),
    "below a file": lambda: tar(("a", b"x"), ("a/out", b"x")),
    "link without a target": lambda: tar(special("a", tarfile.SYMTYPE, "")),
    "reserved": lambda: tar((".appliance-0", b"x")),
    "long": lambda: tar(("x" * 256, b"x")),
    "outside its file": lambda: piece("f", b"xx", size=1),
    "before its start": lambda: piece("f", b"xx", size=9, offset=1, from_=2),
    "negative": lambda: piece("f", b"xx", size=9, offset=-1, from_=-1),
    "cut": lambda: tar(("file", b"x" * 5000))[:2000],
    "rubbish": lambda: b"x" * 5000,
    "rubbish behind": lambda: tar(("file", b"x"))[:1024] + b"x" * 2048,
    "huge number": lambda: piece("f", b"xx", size=int("9" * 30)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_pack_with_anything_odd_in_it_leaves_no_trace(target: Tree, case: str, tmp_path: Path) -> None:
    content = tar(("harmless", b"x"))[:1024] + HOSTILE[case]()
    with pytest.raises(UsageError):
        list(extract.store(target, extract.members(content), replace=True))
    assert list(target.root.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]


def test_no_link_that_is_there_already_is_followed(target: Tree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (target.root / "a").symlink_to(outside)
    with pytest.raises(Conflict, match="something else is there"):
        list(extract.store(target, extract.members(tar(("a/file", b"x"))), replace=True))
    (target.root / "b").symlink_to(outside / "kept")
    (outside / "kept").write_text("kept")
    list(extract.store(target, extract.members(tar(("b", b"x"))), replace=True))
    assert (target.root / "b").read_bytes() == b"x"
    assert not (target.root / "b").is_symlink()
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("kept", "kept")]


def test_a_planted_half_made_file_harms_nothing(source: Tree, target: Tree, tmp_path: Path) -> None:
    """Its name can be told beforehand, so a job may have left a link or a fifo there."""
    content = write(source.root / "large", build.PIECES + 3_000_000)
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (entry,) = entries(source)
    planted = target.root / os.fsdecode(extract.half_made(entry))
    later = build.first_pack(source, [(entry, 1 << 20)], most=1 << 20)
    plants: list[Callable[[], None]] = [
        lambda: planted.symlink_to(victim),
        lambda: os.mkfifo(planted),
        lambda: os.link(victim, planted),
    ]
    for plant in plants:
        plant()
        assert extract.offset_of(target, entry) == 0
        with pytest.raises(Conflict):
            list(extract.store(target, extract.members(later), replace=True))
        for pack in build.packs(source, [(entry, 0)]):
            list(extract.store(target, extract.members(pack), replace=True))
        assert (target.root / "large").read_bytes() == content
        (target.root / "large").unlink()
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("replace", [True, False])
def test_another_kind_gives_way_only_where_it_may(target: Tree, replace: bool) -> None:
    (target.root / "folder" / "deep").mkdir(parents=True)
    (target.root / "folder" / "deep" / "file").touch()
    (target.root / "file").touch()
    pack = tar(("folder", b"now a file"), special("file", tarfile.DIRTYPE), ("file/inside", b"x"))
    if not replace:
        with pytest.raises(Conflict, match="another kind"):
            list(extract.store(target, extract.members(pack), replace=False))
        assert (target.root / "folder" / "deep" / "file").exists()
        assert not list(target.root.glob(".appliance-*"))
        return
    list(extract.store(target, extract.members(pack), replace=True))
    assert (target.root / "folder").read_bytes() == b"now a file"
    assert (target.root / "file" / "inside").read_bytes() == b"x"


def test_archives_of_other_programs_are_taken(target: Tree) -> None:
    gnu = io.BytesIO()
    with tarfile.open(fileobj=gnu, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("n" * 150)
        info.size, info.mode, info.mtime = 1, 0o6755, 1_700_000_000
        archive.addfile(info, io.BytesIO(b"x"))
    list(extract.store(target, extract.members(gnu.getvalue()), replace=True))
    found = (target.root / ("n" * 150)).stat()
    assert (found.st_mode & stat.S_ISUID, found.st_mtime) == (0, 1_700_000_000)


@given(st.lists(GOOD_NAMES, min_size=1, max_size=4), st.binary(max_size=50), st.integers(-(10**18), 4 * 10**18))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60, deadline=None
)
def test_any_name_and_time_survives_a_manifest_and_a_pack(
    tmp_path: Path, parts: list[bytes], content: bytes, mtime_ns: int
) -> None:
    path = b"/".join(parts)
    entry = Entry(path, "file", len(content), mtime_ns, True)
    assert from_json(json.loads(json.dumps(entry.to_json()))) == entry
    header = build.header(entry, size=len(content))
    pack = header + content + bytes(-len(content) % 512) + build.END
    (member,) = extract.members(pack)
    assert (member.entry, bytes(member.data)) == (entry, content)


@given(st.binary(max_size=20) | st.lists(NAMES, max_size=3).map(b"/".join))
def test_a_path_is_inside_or_refused(path: bytes) -> None:
    try:
        check_path(path)
    except UsageError:
        return
    assert not os.path.isabs(path)
    assert os.path.normpath(path) == path


@pytest.mark.parametrize(
    "line",
    [
        None,
        [],
        ["a", "f", 1, 1, 0],
        ["a", "z", 1, 1, 0, ""],
        ["../a", "f", 1, 1, 0, ""],
        ["a", "f", -1, 1, 0, ""],
        ["a", "f", 1, 1 << 62, 0, ""],
        ["a", "l", 0, 0, 0, ""],
        ["a", "f", 0, 0, 0, "target"],
        ["a", "l", 0, 0, 0, "a\0"],
        ["\ud800", "f", 0, 0, 0, ""],
        ["a", "f", "1", 1, 0, ""],
    ],
)
def test_a_line_that_is_none_is_refused(line: object) -> None:
    with pytest.raises(UsageError):
        from_json(line)


def test_the_digest_tells_contents_names_and_kinds_apart_and_nothing_else() -> None:
    def digest(*given: tuple[Entry, str]) -> str:
        found = TreeDigest()
        for entry, sha256 in given:
            found.add(entry, sha256)
        return found.hexdigest()

    one, other = "1" * 64, "2" * 64
    a, b = Entry(b"a", "file", 1, 1), Entry(b"b", "file", 1, 1)
    assert digest((a, one), (b, other)) == digest((b, other), (a._replace(mtime_ns=7), one))
    different = [
        digest((a, one), (b, other)),
        digest((a, one), (b, one)),
        digest((a, other), (b, one)),
        digest((a, one)),
        digest((a._replace(executable=True), one), (b, other)),
        digest((a, one), (b, other), (Entry(b"c", "directory"), "")),
        digest((Entry(b"a", "link", target=b"x"), "")),
        digest((Entry(b"a", "link", target=b"y"), "")),
    ]
    assert len(set(different)) == len(different)


def test_a_file_system_that_keeps_seconds_keeps_the_same_file() -> None:
    asked = Entry(b"a", "file", 5, 1_700_000_000_123_456_789)
    assert same(asked, asked)
    assert same(asked, asked._replace(mtime_ns=1_700_000_000_000_000_000))
    assert same(asked._replace(mtime_ns=-5), asked._replace(mtime_ns=-1_000_000_000))
    for other in (None, asked._replace(mtime_ns=1_700_000_000_100_000_000), asked._replace(size=6, mtime_ns=0)):
        assert not same(asked, other)
    assert not same(asked, asked._replace(mtime_ns=1_700_000_001_000_000_000))


def test_a_tree_may_begin_below_but_not_beside(source: Tree) -> None:
    (source.root / "deep").mkdir()
    (source.root / "deep" / "file").touch()
    (source.root / "link").symlink_to("deep")
    tree, begin = Tree.below(source.root, b"deep")
    assert (begin, [entry.path for entry in entries(tree)]) == (b"", [b"file"])
    tree.close()
    tree, begin = Tree.below(source.root, b"deep/file")
    assert [found.path for found in walk(tree, begin) if isinstance(found, Entry)] == [b"file"]
    tree.close()
    with pytest.raises(NotFound):
        Tree.below(source.root, b"link/file")
    with pytest.raises(NotFound):
        Tree.below(source.root, b"none")
