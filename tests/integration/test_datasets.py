"""Datasets on a real pool: branches and bases cost what they change, and what others need of a version outlives it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.uploads import Upload, Uploads
from appliance.packs import build
from appliance.packs.entry import Entry
from appliance.packs.tree import Tree, walk
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.zfs.store import ZfsStore
from tests.conftest import Clock

pytestmark = [pytest.mark.anyio, pytest.mark.zfs]

LARGE = 8 << 20
SMALL = 1 << 20


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(zfs_dataset, tmp_path / "volumes")


@pytest.fixture
def datasets(db: Database, store: ZfsStore, clock: Clock) -> Datasets:
    return Datasets(db, store, clock)


@pytest.fixture
def uploads(db: Database, store: ZfsStore, datasets: Datasets, tmp_path: Path, clock: Clock) -> Uploads:
    return Uploads(db, store, datasets, tmp_path / "uploads", clock)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    (root / "large").write_bytes(os.urandom(LARGE))
    (root / "small").write_bytes(os.urandom(1000))
    (root / "link").symlink_to("/etc/shadow")
    return root


class Killed(Exception):
    """The daemon is gone."""


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def put(uploads: Uploads, source: Path, *, base: str = "", mirror: bool = False) -> Version:
    """A version, by the steps that a client takes; only what is missing is sent."""
    version, _ = await uploads.open("d", Upload(str(source), base, mirror))
    tree = Tree(source)
    entries = [found for found in walk(tree) if isinstance(found, Entry)]
    lines = b"".join(json.dumps(entry.to_json()).encode() + b"\n" for entry in entries)
    found = await uploads.missing(version, body(lines), first=True, last=True)
    assert found is not None
    wanted = [(entries[line], 0) for start, end in found["ranges"] for line in range(start, end)]
    for pack in build.packs(tree, wanted):
        await uploads.pack(version, body(pack))
    tree.close()
    return await uploads.commit(version)


async def test_a_base_costs_what_differs_and_outlives_the_version_it_was(
    uploads: Uploads, datasets: Datasets, store: ZfsStore, source: Path
) -> None:
    datasets.create("d")
    base = await put(uploads, source)
    (source / "small").write_bytes(os.urandom(2000))
    (source / "more").write_bytes(os.urandom(1000))
    child = await put(uploads, source, base="d")
    alone, shares = await datasets.sizes.of([base, child])
    assert alone.referenced >= LARGE
    assert shares.referenced >= LARGE
    assert shares.unique < SMALL
    assert shares.shared >= LARGE - SMALL
    assert alone.unique < SMALL, "what the child needs does not come back with its base"
    content = (source / "large").read_bytes()
    await datasets.remove(base)
    assert store.volumes() == [child.volume]
    path = await datasets.path(datasets.resolve("d"))
    assert (path / "large").read_bytes() == content
    assert (path / "link").readlink() == Path("/etc/shadow")
    assert sorted(entry.name for entry in path.iterdir()) == ["large", "link", "more", "small"]
    (size,) = await datasets.sizes.of([child])
    assert size.unique >= LARGE


async def test_a_chain_of_bases_can_lose_any_link(
    uploads: Uploads, datasets: Datasets, store: ZfsStore, source: Path
) -> None:
    datasets.create("d")
    chain = [await put(uploads, source)]
    for number in range(3):
        (source / "small").write_text(f"state {number}")
        os.utime(source / "small", (number, number))
        chain.append(await put(uploads, source, base=f"d:{chain[-1].version}", mirror=True))
    for gone in (chain[1], chain[0], chain[3]):
        await datasets.remove(gone)
    assert store.volumes() == [chain[2].volume]
    path = await datasets.path(chain[2])
    assert ((path / "small").read_text(), (path / "large").stat().st_size) == ("state 1", LARGE)


async def test_a_branch_moves_no_byte_and_neither_can_be_written(
    uploads: Uploads, datasets: Datasets, store: ZfsStore, source: Path
) -> None:
    datasets.create("d")
    version = await put(uploads, source)
    before = store.volumes()
    branch = datasets.branch(version, "mine")
    assert store.volumes() == before
    assert [size.unique for size in await datasets.sizes.of([version, branch])] == [0, 0]
    path = await datasets.path(branch)
    with pytest.raises(OSError, match="Read-only") as caught:
        (path / "small").write_text("x")
    assert caught.value.errno == errno.EROFS
    await datasets.destroy(version.dataset)
    assert (path / "large").stat().st_size == LARGE
    await datasets.destroy(branch.dataset)
    assert store.volumes() == []


async def test_an_upload_that_was_killed_after_the_seal_is_committed_by_the_next_try(
    uploads: Uploads, datasets: Datasets, store: ZfsStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.create("d")

    def killed(volume: str) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, "used_bytes", killed)
        with pytest.raises(Killed):
            await put(uploads, source)
    assert datasets.versions("d")[0].committed is None
    done = await put(uploads, source)
    assert datasets.versions("d") == [done]
    assert (await datasets.path(done) / "large").stat().st_size == LARGE
