"""Uploads: what is interrupted at any instant goes on where it was, and what is committed is what was sent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets import children
from appliance.datasets.datasets import Datasets
from appliance.datasets.uploads import KEPT_S, Upload, Uploads
from appliance.errors import Conflict, NotFound, StorageError, TooLarge, UsageError
from appliance.packs import build
from appliance.packs.entry import Entry
from appliance.packs.tree import Tree, walk
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a large file is the sender's choice."""
    monkeypatch.setattr(build, "PIECES", 1 << 16)
    monkeypatch.setattr(build, "LEAST_PIECE", 1 << 12)


@pytest.fixture
def make(
    tmp_path: Path, db: Database, store: DirectoryStore, datasets: Datasets, clock: Clock
) -> Callable[[], Uploads]:
    """Another daemon each time, on the same disk."""
    return lambda: Uploads(db, store, datasets, tmp_path / "uploads", clock)


@pytest.fixture
def uploads(make: Callable[[], Uploads], datasets: Datasets) -> Uploads:
    datasets.create("d")
    return make()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a").write_text("one")
    (root / "b").write_text("two")
    (root / "large").write_bytes(hashlib.shake_256(b"large").digest(300_000))
    (root / "link").symlink_to("/etc/shadow")
    return root


class Sender:
    """What a client does, step by step."""

    def __init__(self, uploads: Uploads, root: Path) -> None:
        self.uploads = uploads
        self.root = root

    async def open(self, **more: Any) -> Version:
        self.version, self.resumed = await self.uploads.open("d", Upload(str(self.root), **more))
        return self.version

    async def ask(self) -> list[tuple[Entry, int]]:
        tree = Tree(self.root)
        self.entries = [found for found in walk(tree) if isinstance(found, Entry)]
        tree.close()
        lines = b"".join(json.dumps(entry.to_json()).encode() + b"\n" for entry in self.entries)
        half = lines.index(b"\n") + 1
        assert await self.uploads.missing(self.version, body(lines[:half]), first=True, last=False) is None
        found = await self.uploads.missing(self.version, body(lines[half:]), first=False, last=True)
        assert found is not None
        offsets = found["offsets"]
        return [
            (self.entries[line], offsets.get(str(line), 0))
            for start, end in found["ranges"]
            for line in range(start, end)
        ]

    async def send(self, wanted: list[tuple[Entry, int]], *, most: int = 1 << 17, packs: int = 1000) -> int:
        tree = Tree(self.root)
        number = 0
        for number, pack in enumerate(build.packs(tree, wanted, most=most), start=1):
            digest = hashlib.sha256(pack).hexdigest()
            assert (await self.uploads.pack(self.version, body(pack), digest))["sha256"] == digest
            if number == packs:
                break
        tree.close()
        return number

    async def all(self, **more: Any) -> Version:
        await self.open(**more)
        await self.send(await self.ask())
        return await self.uploads.commit(self.version, message="whole")


async def body(content: bytes, *, pieces: int = 3) -> AsyncIterator[bytes]:
    step = len(content) // pieces + 1
    for start in range(0, len(content), step):
        yield content[start : start + step]


def same(one: Path, other: Path) -> bool:
    def told(root: Path) -> list[tuple[str, str, bytes]]:
        return sorted(
            (str(path.relative_to(root)), str(path.readlink()), b"")
            if path.is_symlink()
            else (str(path.relative_to(root)), "", path.read_bytes() if path.is_file() else b"d")
            for path in root.rglob("*")
        )

    return told(one) == told(other)


async def test_what_is_sent_is_what_is_committed(
    uploads: Uploads, datasets: Datasets, source: Path, tmp_path: Path
) -> None:
    version = await Sender(uploads, source).all()
    assert datasets.resolve("d") == version
    assert same(await datasets.path(version), source)
    assert version.message == "whole"
    assert len(version.digest) == 64
    again = await Sender(uploads, source).all()
    assert again.version != version.version, "what is committed is not gone on with"
    assert again.digest == version.digest
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_another_daemon_goes_on_where_the_one_before_was_killed(
    make: Callable[[], Uploads], datasets: Datasets, source: Path
) -> None:
    datasets.create("d")
    first = Sender(make(), source)
    version = await first.open()
    await first.send(await first.ask(), packs=2)
    second = Sender(make(), source)
    await second.uploads.sweep(at_start=True)
    await datasets.sweep()
    assert await second.open() == version
    assert second.resumed
    wanted = await second.ask()
    (large,) = [(entry, offset) for entry, offset in wanted if entry.path == b"large"]
    assert large[1] > 0
    assert {entry.path for entry, _ in wanted} < {entry.path for entry in second.entries}
    await second.send(wanted)
    done = await second.uploads.commit(version)
    assert same(await datasets.path(done), source)


async def test_a_body_that_breaks_off_stores_nothing_of_it(uploads: Uploads, datasets: Datasets, source: Path) -> None:
    sender = Sender(uploads, source)
    await sender.open()
    wanted = await sender.ask()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise ConnectionError("the client has gone")

    with pytest.raises(ConnectionError):
        await uploads.pack(sender.version, broken())
    assert await sender.ask() == wanted
    await sender.send(wanted)
    assert same(await datasets.path(await uploads.commit(sender.version)), source)


async def test_a_damaged_pack_changes_nothing(uploads: Uploads, datasets: Datasets, source: Path) -> None:
    sender = Sender(uploads, source)
    await sender.open()
    wanted = await sender.ask()
    tree = Tree(source)
    pack = build.first_pack(tree, wanted)
    tree.close()
    with pytest.raises(Conflict, match="damaged"):
        await uploads.pack(sender.version, body(pack), hashlib.sha256(pack[:-1]).hexdigest())
    with pytest.raises(UsageError):
        await uploads.pack(sender.version, body(b"rubbish" * 100))
    assert list((await datasets.path(sender.version)).iterdir()) == []


async def test_a_commit_wants_everything_and_says_what_is_missing(
    uploads: Uploads, datasets: Datasets, source: Path
) -> None:
    sender = Sender(uploads, source)
    await sender.open()
    wanted = await sender.ask()
    await sender.send(wanted, packs=1)
    with pytest.raises(Conflict, match="not here yet"):
        await uploads.commit(sender.version)
    with pytest.raises(NotFound):
        datasets.resolve("d")
    await sender.send(await sender.ask())
    done = await uploads.commit(sender.version)
    assert await uploads.commit(sender.version) == done
    with pytest.raises(Conflict, match="committed"):
        await sender.ask()
    with pytest.raises(Conflict, match="committed"):
        await uploads.abandon(done)


async def test_a_source_that_has_changed_meanwhile_is_what_counts(
    uploads: Uploads, datasets: Datasets, source: Path
) -> None:
    sender = Sender(uploads, source)
    await sender.open()
    await sender.send(await sender.ask(), packs=2)
    (source / "b").unlink()
    (source / "new").write_text("new")
    (source / "deep" / "a").write_text("other")
    (source / "link").unlink()
    (source / "link").mkdir()
    await sender.open()
    assert sender.resumed
    await sender.send(await sender.ask())
    assert same(await datasets.path(await uploads.commit(sender.version)), source)


async def test_a_base_sends_the_difference_only(
    uploads: Uploads, datasets: Datasets, source: Path, store: DirectoryStore
) -> None:
    base = await Sender(uploads, source).all()
    (source / "b").write_text("changed")
    (source / "deep" / "a").unlink()
    os.utime(source / "b", (5, 5))
    sender = Sender(uploads, source)
    await sender.open(base="d")
    wanted = await sender.ask()
    assert [entry.path for entry, _ in wanted] == [b"b"]
    await sender.send(wanted)
    merged = await uploads.commit(sender.version)
    path = await datasets.path(merged)
    assert ((path / "b").read_text(), (path / "deep" / "a").read_text()) == ("changed", "one")
    assert merged.parent == f"{base.dataset}:{base.version}"
    assert merged.digest == "", "nobody has read the files of the base"
    mirrored = await Sender(uploads, source).all(base=f"d:{base.version}", mirror=True)
    assert same(await datasets.path(mirrored), source)
    assert (await datasets.path(base) / "b").read_text() == "two"


async def test_what_replaced_a_file_of_the_base_cannot_be_taken_back(uploads: Uploads, source: Path) -> None:
    await Sender(uploads, source).all()
    (source / "b").write_text("changed")
    sender = Sender(uploads, source)
    await sender.open(base="d")
    await sender.send(await sender.ask())
    (source / "b").unlink()
    await sender.ask()
    with pytest.raises(Conflict, match="not in the source any more") as caught:
        await uploads.commit(sender.version)
    assert "--restart" in caught.value.hint


async def test_another_base_or_source_is_another_upload(uploads: Uploads, datasets: Datasets, source: Path) -> None:
    base = await Sender(uploads, source).all()
    plain = await Sender(uploads, source).open()
    based = await Sender(uploads, source).open(base="d")
    assert await Sender(uploads, source).open(base=f"d:{base.version}") == based
    other, resumed = await uploads.open("d", Upload("elsewhere"))
    assert len({plain.version, based.version, other.version}) == 3
    anew, resumed = await uploads.open("d", Upload("elsewhere"), anew=True)
    assert not resumed
    with pytest.raises(NotFound):
        datasets.find("d", other.version)
    assert anew.volume != other.volume


async def test_what_was_lost_in_a_crash_of_the_machine_is_sent_again(
    make: Callable[[], Uploads], datasets: Datasets, source: Path, tmp_path: Path
) -> None:
    datasets.create("d")
    sender = Sender(make(), source)
    version = await sender.open()
    await sender.send(await sender.ask())
    path = await datasets.path(version)
    lost = (path / "b").stat()
    (path / "b").write_text("\0\0\0")
    os.utime(path / "b", ns=(lost.st_mtime_ns, lost.st_mtime_ns))
    assert await sender.ask() == [], "as long as the machine has not been down, the ledger is believed"
    sender.uploads._boot = "another boot"
    assert [entry.path for entry, _ in await sender.ask()] == [b"b"]
    await sender.send(await sender.ask())
    assert same(await datasets.path(await sender.uploads.commit(version)), source)


async def test_the_ledger_survives_a_line_that_was_cut(
    uploads: Uploads, datasets: Datasets, source: Path, tmp_path: Path
) -> None:
    sender = Sender(uploads, source)
    version = await sender.open()
    await sender.send(await sender.ask(), packs=1)
    ledger = tmp_path / "uploads" / f"{version.dataset}.{version.version}" / "ledger"
    with ledger.open("ab") as file:
        file.write(b'["deep/a", 3, 17')
    await sender.send(await sender.ask())
    assert same(await datasets.path(await uploads.commit(version)), source)


async def test_uploads_that_nobody_goes_on_with_are_dropped(
    uploads: Uploads, datasets: Datasets, source: Path, store: DirectoryStore, clock: Clock, tmp_path: Path
) -> None:
    old = await Sender(uploads, source).open()
    clock.now += KEPT_S - 10
    young, _ = await uploads.open("d", Upload("another"))
    clock.now += 20
    await uploads.sweep()
    assert [row.version for row in datasets.versions("d")] == [young.version]
    assert store.volumes() == [young.volume]
    left = tmp_path / "uploads" / "0123456789abcdef.orphan0"
    left.mkdir()
    half_begun = await datasets.begin("d")
    await uploads.sweep()
    assert not left.exists()
    assert datasets.find("d", half_begun.version) == half_begun
    await uploads.sweep(at_start=True)
    with pytest.raises(NotFound):
        datasets.find("d", half_begun.version)
    assert old.volume not in store.volumes()


@pytest.mark.parametrize("error", [Conflict("read by a backup"), StorageError("a bad disk"), OSError("a bad disk")])
async def test_an_upload_that_cannot_be_dropped_is_only_told(
    uploads: Uploads,
    datasets: Datasets,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    first, second = await datasets.begin("d"), await datasets.begin("d")
    real, stuck = datasets.abandon, first.version

    async def abandon(version: Version) -> None:
        if version.version == stuck:
            raise error
        await real(version)

    monkeypatch.setattr(datasets, "abandon", abandon)
    await uploads.sweep(at_start=True)
    assert datasets.find("d", first.version) == first
    with pytest.raises(NotFound):
        datasets.find("d", second.version)
    assert f"upload {stuck}" in caplog.text
    assert "stays for now" in caplog.text


async def test_a_version_that_a_job_writes_is_not_for_uploads(uploads: Uploads, datasets: Datasets) -> None:
    of_job = await datasets.begin("d", run="r", job="j")
    for attempt in (uploads.pack(of_job, body(b"")), uploads.commit(of_job), uploads.abandon(of_job)):
        with pytest.raises(Conflict):
            await attempt
    with pytest.raises(NotFound):
        await uploads.commit(replace(of_job, version="none000"))


async def test_without_a_manifest_all_that_was_sent_is_the_version(
    uploads: Uploads, datasets: Datasets, source: Path
) -> None:
    """Such as `tar c . | curl --data-binary @- .../pack`."""
    version, _ = await uploads.open("d", Upload("curl"))
    tree = Tree(source)
    pack = build.first_pack(tree, ((found, 0) for found in walk(tree) if isinstance(found, Entry)))
    tree.close()
    await uploads.pack(version, body(pack))
    done = await uploads.commit(version, tags=["v1"])
    assert same(await datasets.path(datasets.resolve("d:v1")), source)
    assert done.digest == (await Sender(uploads, source).all()).digest


@pytest.mark.parametrize(
    "lines",
    [b"x\n", b"[]\n", b'["../a","f",1,1,0,""]\n', b'["a","f",1,1,0,""]\n["a","f",1,1,0,""]\n', b'["a","l",0,0,0,""]\n'],
)
async def test_a_manifest_that_is_none_is_refused(uploads: Uploads, lines: bytes) -> None:
    version, _ = await uploads.open("d", Upload("x"))
    with pytest.raises(UsageError):
        await uploads.missing(version, body(lines), first=True, last=True)


async def test_a_manifest_is_bounded_in_all_its_parts(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.datasets.uploads.MOST_MANIFEST", 100)
    version, _ = await uploads.open("d", Upload("x"))
    line = b'["a","f",1,1,0,""]\n'
    await uploads.missing(version, body(line * 3), first=True, last=False)
    with pytest.raises(TooLarge):
        await uploads.missing(version, body(line * 3), first=False, last=False)


async def test_a_program_that_dies_is_told_and_one_that_is_given_up_ends(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="program failed"):
        await children.ask("no such verb", tmp_path)
    (tmp_path / "many").mkdir()
    for number in range(3000):
        (tmp_path / "many" / str(number)).touch()
    listing = children.stream("list", tmp_path)
    assert await anext(listing)
    await listing.aclose()  # type: ignore[attr-defined]
