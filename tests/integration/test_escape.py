"""A workspace is hostile and the daemon is root: nothing it does with one may lead out of it, or wait for ever.

Each door that takes a path or an archive meets a link to /etc/shadow, a parent that is swapped for a link all the time,
members that lead out, and a fifo.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from appliance.errors import Conflict, NotFound, StorageError, UsageError
from appliance.history.diff.tree import Options
from appliance.history.diff.walk import one_file, walking
from appliance.history.workspaces import NOW, Workspaces
from appliance.packs import extract
from appliance.packs.tree import Tree
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.zfs.store import ZfsStore

pytestmark = pytest.mark.anyio

UID = "0123456789abcdef"
SECRET = "root:secret:19000:0:99999:7:::\n"
SWAP_S = 2.5
"""How long somebody swaps a directory for a link while it is worked with."""
LONGEST_S = 180.0
"""The same, where nothing has come through by then."""


@pytest.fixture(params=["directory", pytest.param("zfs", marks=pytest.mark.zfs)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "zfs":
        return ZfsStore(request.getfixturevalue("zfs_dataset"), tmp_path / "volumes")
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


@pytest.fixture
async def workspaces(store: Store, tmp_path: Path) -> AsyncIterator[Workspaces]:
    db = Database(tmp_path / "state.db")
    yield Workspaces(db, store, time.time)
    db.close()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the volumes that must be afterwards what it was before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    before = looks(outside)
    yield outside
    assert looks(outside) == before


def looks(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that a write, a chmod or a removal would change."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_ctime_ns, path.read_bytes() if path.is_file() else b"")
    return found


async def content(workspaces: Workspaces, moment: str, path: str) -> bytes:
    async with workspaces.reading(UID, moment, path) as file:
        return file.read()


# -- links


async def test_a_link_to_etc_shadow_is_a_link_and_nothing_else(workspaces: Workspaces, outside: Path) -> None:
    root = await workspaces.open(UID)
    (root / "shadow").symlink_to("/etc/shadow")
    (root / "folder").symlink_to(outside)
    (root / "up").symlink_to("../" * 20 + "etc")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    (root / "shadow").unlink()

    for where in (moment, NOW):
        for path in ("shadow", "folder/file", "up/shadow", "folder/../../outside/file"):
            with pytest.raises((NotFound, UsageError)):
                await content(workspaces, where, path)
        with pytest.raises((NotFound, UsageError)):
            await workspaces.listing(UID, where, "folder")
    listed = {entry.name: entry for entry in await workspaces.listing(UID, moment)}
    assert (listed[b"shadow"].kind, listed[b"shadow"].target) == ("link", b"/etc/shadow")

    await workspaces.restore(UID, moment, "shadow")
    await workspaces.restore(UID, moment, "folder", "again")
    assert (root / "shadow").readlink() == Path("/etc/shadow")
    assert (root / "again").readlink() == outside
    with pytest.raises((NotFound, UsageError)):
        await workspaces.restore(UID, moment, "folder/file")


async def test_a_comparison_tells_where_a_link_points_and_not_what_is_there(
    workspaces: Workspaces, outside: Path
) -> None:
    root = await workspaces.open(UID)
    (root / "file").write_text("mine")
    (root / "folder").mkdir()
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    (root / "file").unlink()
    (root / "file").symlink_to(outside / "file")
    (root / "folder").rmdir()
    (root / "folder").symlink_to(outside)
    async with workspaces.view(UID, moment) as older:
        async with walking(older, root, Options()) as batches:
            told = b"".join([batch async for batch in batches])
        told += await one_file(older, root, "file", "")
    assert b"secret" not in told
    assert b"folder/file" not in told
    assert str(outside).encode() in told


@pytest.mark.parametrize("to", ["d/file", "d/new", "d/sub/new", "d"])
async def test_a_restore_below_a_link_is_refused(workspaces: Workspaces, outside: Path, to: str) -> None:
    root = await workspaces.open(UID)
    (root / "d").mkdir()
    (root / "d" / "file").write_text("mine")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    (root / "d" / "file").unlink()
    (root / "d").rmdir()
    (root / "d").symlink_to(outside)
    with pytest.raises((Conflict, NotFound)):
        await workspaces.restore(UID, moment, "d/file", to)
    assert os.listdir(root) == ["d"], "nothing is left beside it"
    await workspaces.restore(UID, moment, "d")
    assert (root / "d" / "file").read_text() == "mine"
    assert not (root / "d").is_symlink()


@pytest.mark.parametrize("path", ["..", "../outside/file", "d/../../outside/file", "d/..", "", "."])
async def test_a_path_that_leads_out_is_refused(workspaces: Workspaces, outside: Path, path: str) -> None:
    root = await workspaces.open(UID)
    (root / "d").mkdir()
    (root / "d" / "file").write_text("mine")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    with pytest.raises((UsageError, NotFound)):
        await content(workspaces, moment, path)
    with pytest.raises((UsageError, NotFound)):
        await workspaces.restore(UID, moment, path)
    if path not in ("", "."):
        with pytest.raises((UsageError, NotFound)):
            await workspaces.restore(UID, moment, "d/file", path)


async def test_an_absolute_path_begins_at_the_workspace(workspaces: Workspaces) -> None:
    root = await workspaces.open(UID)
    (root / "file").write_text("mine")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    with pytest.raises(NotFound):
        await content(workspaces, NOW, "/etc/shadow")
    await workspaces.restore(UID, moment, "file", "/etc/shadow")
    assert (root / "etc" / "shadow").read_text() == "mine"
    assert await content(workspaces, NOW, "/etc/shadow") == b"mine"


# -- a parent that is swapped meanwhile

SWAPPER = """
import ctypes, os, shutil, sys
os.chdir(sys.argv[1])
renameat2 = ctypes.CDLL(None).renameat2

def settle():
    for name in ("d", "link"):
        if os.path.lexists("aside") and not os.path.lexists(name):
            os.rename("aside", name)
    if os.path.islink("aside"):
        shutil.rmtree("d", ignore_errors=True)
        os.rename("aside", "d")
    shutil.rmtree("aside", ignore_errors=True)

print("ready", flush=True)
while os.getppid() == int(sys.argv[2]):
    if renameat2(-100, b"d", -100, b"link", 2):  # no exchange on this file system
        try:
            os.rename("d", "aside")
            os.rename("link", "d")
            os.rename("aside", "link")
        except OSError:  # a restore has made or moved one of them meanwhile
            try:
                settle()
            except OSError:
                pass
"""


@contextmanager
def swapping(root: Path, outside: Path) -> Iterator[Callable[[int], bool]]:
    """`d` and a link to `outside` trade places as fast as a process can do it, until `goes_on(successes)` says no."""
    (root / "link").symlink_to(outside)
    argv = [sys.executable, "-I", "-S", "-c", SWAPPER, str(root), str(os.getpid())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout
        assert swapper.stdout.readline() == b"ready\n"
        begun = time.monotonic()
        yield lambda successes: time.monotonic() < begun + (SWAP_S if successes else LONGEST_S)
        assert swapper.poll() is None, "the swapper ended by itself"
        swapper.kill()


async def test_a_parent_that_is_swapped_for_a_link_leads_no_restore_out(workspaces: Workspaces, outside: Path) -> None:
    root = await workspaces.open(UID)
    (root / "d" / "sub").mkdir(parents=True)
    (root / "d" / "file").write_text("mine")
    (root / "d" / "sub" / "deep").write_text("mine")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    counts: Counter[str] = Counter()
    with swapping(root, outside) as goes_on:
        while goes_on(counts["restored"]):
            path = ("d/file", "d/sub", "d/sub/deep")[sum(counts.values()) % 3]
            try:
                await workspaces.restore(UID, moment, path)
                counts["restored"] += 1
            except (Conflict, NotFound, StorageError):
                counts["refused"] += 1
    assert counts["restored"], counts
    leftovers = set(os.listdir(root)) - {"d", "link", "aside"}
    assert leftovers == set()


async def test_a_parent_that_is_swapped_for_a_link_shows_nothing_of_what_is_outside(
    workspaces: Workspaces, outside: Path
) -> None:
    root = await workspaces.open(UID)
    (root / "d").mkdir()
    (root / "d" / "file").write_text("mine")
    moment = (await workspaces.snapshot(UID, cause="manual")).id
    (root / "d" / "only-here").touch()
    counts: Counter[str] = Counter()
    with swapping(root, outside) as goes_on:
        while goes_on(counts["read"]):
            try:
                assert await content(workspaces, NOW, "d/file") == b"mine"
                names = {entry.name for entry in await workspaces.listing(UID, NOW, "d")}
                assert names == {b"file", b"only-here"}
                counts["read"] += 1
            except NotFound:
                counts["refused"] += 1
            if not sum(counts.values()) % 20:
                async with workspaces.view(UID, moment) as older, walking(older, root, Options()) as batches:
                    assert b"secret" not in b"".join([batch async for batch in batches])
    assert counts["read"], counts


async def test_a_snapshot_of_a_tree_that_is_swapped_holds_nothing_of_what_is_outside(
    workspaces: Workspaces, outside: Path
) -> None:
    root = await workspaces.open(UID)
    (root / "d").mkdir()
    (root / "d" / "file").write_text("mine")
    with swapping(root, outside) as goes_on:
        while goes_on(1):
            taken = await workspaces.snapshot(UID, cause="manual")
            async with workspaces.view(UID, taken.id) as path:
                found = [file.read_text() for file in path.rglob("*") if not file.is_symlink() and file.is_file()]
                assert set(found) <= {"mine"}


# -- archives


def member(name: str, kind: bytes = tarfile.REGTYPE, *, data: bytes = b"", target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


EVIL = {
    "up": [member("../outside/file", data=b"evil")],
    "up in the middle": [member("d/../../outside/file", data=b"evil")],
    "absolute": [member("/tmp/evil", data=b"evil")],
    "dot": [member("./.", data=b"evil")],
    "hard link out": [member("hard", tarfile.LNKTYPE, target="../outside/file")],
    "through a link": [member("l", tarfile.SYMTYPE, target="../outside"), member("l/file", data=b"evil")],
    "over a link": [member("l", tarfile.SYMTYPE, target="../outside/file"), member("l", data=b"evil")],
    "device": [member("device", tarfile.CHRTYPE)],
    "fifo": [member("fifo", tarfile.FIFOTYPE)],
    "twice": [member("a", data=b"one"), member("a", data=b"two")],
}


@pytest.mark.parametrize("kind", EVIL)
async def test_a_member_that_leads_out_refuses_the_whole_pack(tmp_path: Path, outside: Path, kind: str) -> None:
    pack = b"".join([member("good", data=b"good"), *EVIL[kind], bytes(1024)])
    with tarfile.open(fileobj=io.BytesIO(pack)) as archive:
        assert len(archive.getmembers()) >= 2, "any other program would take it"
    with pytest.raises(UsageError):
        extract.members(pack)


async def test_a_link_that_is_there_already_leads_no_member_out(tmp_path: Path, outside: Path) -> None:
    """Of two packs the first brings the link, the second what is to go through it."""
    root = tmp_path / "volume"
    root.mkdir()
    (root / "mine").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    tree = Tree(root)
    try:
        for name in ("mine/file", "mine/new", "mine/d/new"):
            with pytest.raises(Conflict):
                list(extract.store(tree, extract.members(member(name, data=b"evil") + bytes(1024)), replace=True))
        list(extract.store(tree, extract.members(member("file", data=b"good") + bytes(1024)), replace=True))
    finally:
        tree.close()
    assert (root / "file").read_bytes() == b"good"
    assert not (root / "file").is_symlink()


# -- fifos


async def test_a_fifo_is_kept_and_nobody_waits_for_it(workspaces: Workspaces) -> None:
    root = await workspaces.open(UID)
    os.mkfifo(root / "fifo")
    (root / "d").mkdir()
    os.mkfifo(root / "d" / "file")
    with anyio.fail_after(60):
        moment = (await workspaces.snapshot(UID, cause="manual")).id
        for where in (moment, NOW):
            with pytest.raises(NotFound):
                await content(workspaces, where, "fifo")
            assert (await workspaces.listing(UID, where, "d"))[0].kind == "other"
            with pytest.raises((NotFound, UsageError)):
                await workspaces.listing(UID, where, "fifo")
        (root / "fifo").unlink()
        (root / "fifo").write_text("a file now")
        async with workspaces.view(UID, moment) as older, walking(older, root, Options(checksum=True)) as batches:
            assert b'"fifo"' in b"".join([batch async for batch in batches])
        await workspaces.restore(UID, moment, "fifo")
        await workspaces.restore(UID, moment, "d", "again")
        await workspaces.rollback(UID, moment)
    back = await workspaces.open(UID)
    for path in (root / "fifo", root / "again" / "file", back / "fifo", back / "d" / "file"):
        assert stat.S_ISFIFO(path.lstat().st_mode)
