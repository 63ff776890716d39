"""Volumes to another dataset and back, on a real pool."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from appliance.errors import Conflict, NotFound, StorageError, UsageError
from appliance.storage.zfs import command as zfs_command
from appliance.storage.zfs import pipe as zfs_pipe
from appliance.storage.zfs import send as zfs_send
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call, dataset_in, file_pool
from tests.unit.storage.trees import describe, fill, write_random

pytestmark = [pytest.mark.zfs, pytest.mark.anyio]

MIB = 1 << 20


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(f"{zfs_dataset}/home", tmp_path / "volumes")


@pytest.fixture(scope="module")
def far_pools(zfs_pool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The backup's and the other machine's. In one pool ZFS would make a clone of any copy of its origin."""
    disks = tmp_path_factory.mktemp("far")
    with file_pool(disks / "1", 512 * MIB) as first, file_pool(disks / "2", 512 * MIB) as second:
        yield first, second


@pytest.fixture
def target(far_pools: tuple[str, str]) -> Iterator[str]:
    with dataset_in(far_pools[0]) as dataset:
        yield f"{dataset}/far/away"


@pytest.fixture
def other(far_pools: tuple[str, str], tmp_path: Path) -> Iterator[ZfsStore]:
    """The store of another machine."""
    with dataset_in(far_pools[1]) as dataset:
        yield ZfsStore(f"{dataset}/other", tmp_path / "other")


def grown(store: ZfsStore) -> None:
    """A workspace with a past, a head that is a clone of it, a fork, and a sealed version."""
    first = store.create("w/1")
    fill(first)
    store.snapshot("w/1", "s1")
    write_random(first / "large", 8 * MIB)
    store.snapshot("w/1", "s2")
    (store.clone("w/1", "s1", "w/2") / "head").write_text("head")
    (store.clone("w/1", "s2", "f/1") / "fork").write_text("fork")
    (store.create("d/v1") / "data").write_text("final")
    store.seal("d/v1")


def contents(store: ZfsStore, *moments: str) -> dict[str, object]:
    """Of all volumes, with the names of their snapshots, and of these moments, such as `v@s`."""
    found: dict[str, object] = {}
    for volume in store.volumes():
        found[volume] = describe(store.path(volume)), store.snapshots(volume)
    for moment in moments:
        volume, _, snapshot = moment.partition("@")
        with store.view(volume, snapshot) as path:
            found[moment] = describe(path)
    return found


async def backup(store: ZfsStore, point: str, target: str) -> zfs_send.Sent:
    volumes = store.volumes()
    store.snapshot_all(volumes, point)
    return await zfs_send.send(store, volumes, point, target)


async def test_everything_comes_back_as_it_was(store: ZfsStore, target: str, other: ZfsStore) -> None:
    grown(store)
    seen: list[tuple[str, int, int | None]] = []
    store.snapshot_all(store.volumes(), "b1")
    moments = ("w/1@s1", "w/1@s2", "w/2@b1")
    before = contents(store, *moments)
    sent = await zfs_send.send(store, store.volumes(), "b1", target, progress=lambda *args: seen.append(args))
    assert sent.volumes == 4
    assert 8 * MIB < sent.bytes < 10 * MIB, "what clones share is sent once"
    assert {volume for volume, _, _ in seen} == set(store.volumes())
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert await zfs_send.points(target) == ["b1"]
    assert await zfs_send.stored(target, "b1") == store.volumes()
    await zfs_send.receive(other, target, "b1")
    assert contents(other, *moments) == before
    with pytest.raises(OSError, match="Read-only"):
        (other.path("d/v1") / "new").touch()
    deadline = time.monotonic() + 180
    while (used := used_by(other)) >= 13 * MIB:  # zfs-fuse frees what was destroyed with a later write
        assert time.monotonic() < deadline, f"clones share their blocks there as well, but {used} bytes are used"
        (other.path("w/2") / "new").write_text(str(used))
        await asyncio.sleep(0.5)


def used_by(store: ZfsStore) -> int:
    return int(call("zfs", "get", "-H", "-p", "-o", "value", "used", store.base).stdout)


async def test_later_points_send_what_is_new(store: ZfsStore, target: str, other: ZfsStore) -> None:
    grown(store)
    await backup(store, "b1", target)
    write_random(store.path("w/2") / "new", MIB)
    store.snapshot("w/2", "s3")
    (store.create("late") / "x").touch()
    sent = await backup(store, "b2", target)
    assert sent.bytes < 2 * MIB
    again = await zfs_send.send(store, store.volumes(), "b2", target)
    assert (again.volumes, again.bytes) == (0, 0)
    assert await zfs_send.points(target) == ["b1", "b2"]
    assert "late" not in await zfs_send.stored(target, "b1")
    await zfs_send.receive(other, target, "b2")
    assert contents(other) == contents(store)
    store.destroy_snapshot("late", "b2")
    with pytest.raises(NotFound):
        await zfs_send.send(store, ["late"], "b2", target)


async def test_what_was_handed_over_to_a_clone_is_recognised(store: ZfsStore, target: str, other: ZfsStore) -> None:
    grown(store)
    await backup(store, "b1", target)
    store.destroy("w/1")
    (store.path("w/2") / "more").write_text("more")
    sent = await backup(store, "b2", target)
    assert sent.bytes < MIB, "nothing that is there already is sent again"
    await zfs_send.receive(other, target, "b2")
    assert contents(other) == contents(store)


async def test_old_points_go_and_take_along_what_only_they_need(store: ZfsStore, target: str, other: ZfsStore) -> None:
    grown(store)
    await backup(store, "b1", target)
    store.destroy_snapshot("w/1", "b1")
    for volume in ("w/2", "f/1"):
        (store.path(volume) / "x").touch()
    store.destroy("d/v1")
    store.snapshot("w/2", "pruned")
    await backup(store, "b2", target)
    store.destroy_snapshot("w/2", "pruned")
    for point in ("b3", "b4"):
        await backup(store, point, target)
    datasets = call("zfs", "list", "-H", "-r", "-t", "all", "-o", "name", target).stdout
    assert "/w/2@pruned" in datasets
    assert "/d/v1" in datasets
    await zfs_send.prune(target, ["b3", "b4"])
    assert await zfs_send.points(target) == ["b3", "b4"]
    datasets = call("zfs", "list", "-H", "-r", "-t", "all", "-o", "name", target).stdout
    for name in ("pruned", "/d/v1", "@b1", "@b2"):
        assert name not in datasets, datasets
    await zfs_send.receive(other, target, "b4")
    for point in ("b1", "b2"):
        for volume in store.volumes():
            store.destroy_snapshot(volume, point)
    assert contents(other) == contents(store)
    await zfs_send.prune(target, [])
    assert await zfs_send.points(target) == []
    assert call("zfs", "list", "-H", "-r", "-t", "snapshot", "-o", "name", target).stdout == ""


async def test_a_volume_that_took_another_course_is_sent_beside_it(
    store: ZfsStore, target: str, other: ZfsStore
) -> None:
    (store.create("v") / "file").write_text("one")
    await backup(store, "b1", target)
    store.destroy("v")
    (store.create("v") / "file").write_text("two")
    await backup(store, "b2", target)
    (store.path("v") / "file").write_text("three")
    await backup(store, "b3", target)
    for point, text in (("b1", "one"), ("b3", "three")):
        assert await zfs_send.stored(target, point) == ["v"]
        await zfs_send.receive(other, target, point)
        assert (other.path("v") / "file").read_text() == text
        other.destroy("v")


async def test_a_store_with_another_volume_of_that_name_is_left_alone(
    store: ZfsStore, target: str, other: ZfsStore
) -> None:
    (store.create("v") / "file").write_text("one")
    await backup(store, "b1", target)
    (other.create("v") / "file").write_text("theirs")
    with pytest.raises(Conflict, match="another volume"):
        await zfs_send.receive(other, target, "b1")
    assert (other.path("v") / "file").read_text() == "theirs"
    with pytest.raises(NotFound):
        await zfs_send.receive(other, target, "none")


async def test_targets_that_cannot_be_are_refused(store: ZfsStore, zfs_dataset: str, target: str) -> None:
    store.create("v")
    store.snapshot("v", "b1")
    inside = f"{store.base}/v/backup"
    for name, error in (
        (inside, Conflict),
        (f"{zfs_dataset}/home", Conflict),
        ("-o", UsageError),
        ("a/-x@y", UsageError),
        (zfs_dataset.split("/")[0], (UsageError, Conflict)),
        (f"nopool{secrets.token_hex(3)}/x", NotFound),
    ):
        with pytest.raises(error):
            await zfs_send.send(store, ["v"], "b1", name)
    call("zfs", "create", "-p", "-o", "mountpoint=none", f"{zfs_dataset}/theirs/data")
    with pytest.raises(Conflict, match="belongs to something else"):
        await zfs_send.send(store, ["v"], "b1", f"{zfs_dataset}/theirs")
    await zfs_send.send(store, ["v"], "b1", target, owner="one")
    with pytest.raises(Conflict, match="the backups of 'one'"):
        await zfs_send.send(store, ["v"], "b1", target, owner="two")


async def test_a_target_that_is_full_is_said_and_older_points_stay(
    store: ZfsStore, target: str, other: ZfsStore
) -> None:
    (store.create("v") / "file").write_text("one")
    await backup(store, "b1", target)
    call("zfs", "set", "quota=3M", target)
    write_random(store.path("v") / "large", 20 * MIB)
    with pytest.raises(StorageError) as caught:
        await backup(store, "b2", target)
    assert "zfs receive" in caught.value.message
    assert await zfs_send.points(target) == ["b1"]
    call("zfs", "set", "quota=none", target)
    await zfs_send.send(store, ["v"], "b2", target)
    await zfs_send.receive(other, target, "b2")
    assert contents(other) == contents(store)


async def test_a_cancelled_transfer_ends_soon_and_goes_on_later(store: ZfsStore, target: str, other: ZfsStore) -> None:
    write_random(store.create("v") / "large", 60 * MIB)
    store.snapshot("v", "b1")
    begun, cancelled = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def note(_volume: str, done: int, _total: int | None) -> None:
        if done > MIB:  # nothing more is sent until it is cancelled
            loop.call_soon_threadsafe(begun.set)
            assert cancelled.wait(120)

    task = asyncio.ensure_future(zfs_send.send(store, ["v"], "b1", target, progress=note))
    async with asyncio.timeout(120):
        await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await zfs_send.points(target) == []
    await zfs_send.send(store, ["v"], "b1", target)
    await zfs_send.receive(other, target, "b1")
    assert (other.path("v") / "large").read_bytes() == (store.path("v") / "large").read_bytes()


async def test_a_cancel_that_finds_the_point_made_comes_too_late(
    store: ZfsStore, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("v")
    store.snapshot("v", "b1")
    began, go_on = threading.Event(), threading.Event()
    whole = zfs_send._quietly

    def quietly(*arguments: str) -> None:
        if arguments == ("snapshot", f"{target}@b1"):
            began.set()
            assert go_on.wait(60)
        whole(*arguments)

    monkeypatch.setattr(zfs_send, "_quietly", quietly)
    task = asyncio.ensure_future(zfs_send.send(store, ["v"], "b1", target))
    assert await anyio.to_thread.run_sync(began.wait, 60)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert (await task).volumes == 1
    assert await zfs_send.points(target) == ["b1"]


async def test_a_kill_between_any_two_commands_is_made_good(
    store: ZfsStore, zfs_dataset: str, other: ZfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        (store.create(f"v{number}") / "file").write_text(f"{number}")
        store.snapshot(f"v{number}", "s")
    (store.clone("v1", "s", "w") / "more").write_text("w")
    store.seal("v2")
    store.snapshot_all(store.volumes(), "b1")
    left = 0

    class Killed(Exception):
        pass

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **options)

        return step

    target = ""
    for steps in range(2, 40, 6):
        target = f"{zfs_dataset}/far{steps}"
        with monkeypatch.context() as patch:
            patch.setattr(zfs_send, "zfs", counted(zfs_command.zfs))
            patch.setattr(zfs_send, "pipe", counted(zfs_pipe.pipe))
            left = steps
            with contextlib.suppress(Killed):
                await zfs_send.send(store, store.volumes(), "b1", target)
        await zfs_send.send(store, store.volumes(), "b1", target)
        assert await zfs_send.stored(target, "b1") == ["v0", "v1", "v2", "w"]
    with monkeypatch.context() as patch:
        patch.setattr(zfs_send, "zfs", counted(zfs_command.zfs))
        patch.setattr(zfs_send, "pipe", counted(zfs_pipe.pipe))
        for steps in range(3, 30, 6):
            left = steps
            with contextlib.suppress(Killed):
                await zfs_send.receive(other, target, "b1")
    await zfs_send.receive(other, target, "b1")
    assert contents(other) == contents(store)
    with pytest.raises(OSError, match="Read-only"):
        (other.path("v2") / "new").touch()
