"""A backup that is cut short lets go of all that it held, and what it has published is a success."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from appliance.backup import child, work
from appliance.backup.backups import new_id
from appliance.backup.point import ID, PREFIX, Point
from appliance.backup.prune import work as prune
from appliance.backup.target import Target
from appliance.errors import NotFound, StorageError
from appliance.storage.directory.store import DirectoryStore
from tests.unit.backup.rooms import Rooms, opened
from tests.unit.backup.suite import leftovers

pytestmark = pytest.mark.anyio

FUTURE = 4_000_000_000.0


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    async with opened(tmp_path / "home", {}) as rooms:
        yield rooms


async def turns() -> None:
    """What the loop has to do for a cancellation is done."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_cancel_waits_for_one_volume_and_leaves_no_pin(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"datasets/d/{number}" for number in range(3)]
    for name in names:
        rooms.store.create(name)
    began, go_on = threading.Event(), threading.Event()
    frozen: list[str] = []
    whole = DirectoryStore.snapshot

    def snapshot(self: DirectoryStore, volume: str, name: str) -> None:
        frozen.append(volume)
        began.set()
        assert go_on.wait(60)
        whole(self, volume, name)

    monkeypatch.setattr(DirectoryStore, "snapshot", snapshot)
    row = await rooms.backups.start(str(tmp_path / "target"))
    assert await anyio.to_thread.run_sync(began.wait, 60)
    cancelling = asyncio.create_task(rooms.backups.cancel(row.id))
    await turns()
    go_on.set()
    await cancelling
    assert rooms.backups.find(row.id).phase == "Canceled"
    assert (frozen, leftovers(rooms.store)) == (names[:1], [])
    for name in names:
        rooms.store.destroy(name)
    assert rooms.store.volumes("datasets") == []


async def test_a_cancel_while_letting_go_changes_nothing(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms.store.create("datasets/d/1")
    began, go_on = threading.Event(), threading.Event()
    whole = work._clear

    def clear(*arguments: Any) -> None:
        began.set()
        assert go_on.wait(60)
        whole(*arguments)

    monkeypatch.setattr(work, "_clear", clear)
    row = await rooms.backups.start(str(tmp_path / "target"))
    assert await anyio.to_thread.run_sync(began.wait, 60)
    cancelling = [asyncio.create_task(rooms.backups.cancel(row.id))]
    await turns()
    cancelling.append(asyncio.create_task(rooms.backups.cancel(row.id)))
    await turns()
    go_on.set()
    await asyncio.gather(*cancelling)
    assert (rooms.backups.find(row.id).phase, leftovers(rooms.store)) == ("Succeeded", [])
    assert Target(tmp_path / "target").ids() == [row.id]


async def test_a_cancel_that_comes_while_the_point_is_published_comes_too_late(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms.store.create("datasets/d/1")
    target = tmp_path / "target"
    first = await rooms.back_up(target)
    began, go_on = threading.Event(), threading.Event()
    whole = Target.publish
    phase = "Succeeded"

    def publish(self: Target, point: Point) -> None:
        began.set()
        assert go_on.wait(60)
        if phase == "Failed":
            raise StorageError("the disk is gone")
        whole(self, point)

    monkeypatch.setattr(Target, "publish", publish)
    for phase in ("Succeeded", "Failed"):
        began.clear()
        go_on.clear()
        row = await rooms.backups.start(str(target), keep=1)
        assert await anyio.to_thread.run_sync(began.wait, 60)
        cancelling = [asyncio.create_task(rooms.backups.cancel(row.id))]
        await turns()
        cancelling.append(asyncio.create_task(rooms.backups.cancel(row.id)))
        await turns()
        go_on.set()
        await asyncio.gather(*cancelling)
        ended = rooms.backups.find(row.id)
        assert (ended.phase, leftovers(rooms.store)) == (phase, []), ended.message
        assert (row.id in Target(target).ids()) == (phase == "Succeeded")
        assert ("old points may be left" in ended.message) == (phase == "Succeeded")
    assert first.id in Target(target).ids(), "whoever cancels does not wait for old points to go"
    with Target(target).lock(write=True):
        pass


async def test_a_cancel_while_old_points_are_removed_ends_that_alone(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms.store.create("datasets/d/1")
    target = tmp_path / "target"
    await rooms.back_up(target)
    whole, begun = child.started, asyncio.Event()

    @asynccontextmanager
    async def started(name: str) -> AsyncIterator[Any]:
        if name == "prune":
            begun.set()
            await asyncio.Event().wait()
        async with whole(name) as program:
            yield program

    monkeypatch.setattr(child, "started", started)
    row = await rooms.backups.start(str(target), keep=1)
    async with asyncio.timeout(60):
        await begun.wait()
    await rooms.backups.cancel(row.id)
    ended = rooms.backups.find(row.id)
    assert (ended.phase, len(Target(target).ids()), leftovers(rooms.store)) == ("Succeeded", 2, [])
    assert "old points may be left" in ended.message
    monkeypatch.undo()
    assert (await rooms.back_up(target, keep=1)).phase == "Succeeded"
    assert len(Target(target).ids()) == 1


def store_of(tmp_path: Path, *volumes: str) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "volumes", "for tests", durable=False)
    for volume in volumes:
        store.create(volume)
        store.snapshot(volume, f"{PREFIX}x")
    return store


@pytest.mark.parametrize("error", [NotFound("it is gone"), StorageError("it cannot be read")])
def test_one_volume_keeps_no_other_from_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    store = store_of(tmp_path, "a", "b", "system/home/x")
    whole = DirectoryStore.snapshots

    def snapshots(self: DirectoryStore, volume: str) -> list[str]:
        assert not self.exists("system/home/x")
        if volume == "a":
            raise error
        return whole(self, volume)

    with monkeypatch.context() as broken:
        broken.setattr(DirectoryStore, "snapshots", snapshots)
        work._clear(store, set())
    assert leftovers(store) == [f"a@{PREFIX}x"]


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.snapshots("a"),
        lambda store: store.changed("a"),
        lambda store: store.written("a", "s"),
    ],
)
def test_a_volume_that_goes_away_meanwhile_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[DirectoryStore], object]
) -> None:
    store = store_of(tmp_path, "a")
    whole = DirectoryStore.path

    def path(self: DirectoryStore, volume: str) -> Path:
        found = whole(self, volume)
        self.destroy(volume)
        return found

    monkeypatch.setattr(DirectoryStore, "path", path)
    with pytest.raises(NotFound, match="no volume 'a'"):
        look(store)


def test_a_snapshot_of_a_volume_that_goes_away_meanwhile_counts_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    monkeypatch.setattr(DirectoryStore, "exists", lambda self, volume: True)
    store.destroy_snapshot("a", "s")


def test_an_id_comes_after_the_newest_one() -> None:
    newest = new_id(FUTURE)
    made = new_id(FUTURE - 1e6, newest)
    assert made > newest
    assert made.startswith(new_id(FUTURE + 1).partition("-")[0])
    assert new_id(FUTURE + 5, newest).startswith(new_id(FUTURE + 5).partition("-")[0])
    assert ID.fullmatch(new_id(1.0, "99999999T999999Z-ffffff"))


async def test_a_point_of_a_clock_that_was_ahead_does_not_outlive_the_newest(tmp_path: Path) -> None:
    target = tmp_path / "target"
    times = [FUTURE]
    async with opened(tmp_path / "home", {}, lambda: times[0]) as rooms:
        first = await rooms.back_up(target)
        times[0] -= 1e6
        second = await rooms.back_up(target, keep=1)
    assert (first.phase, second.phase) == ("Succeeded", "Succeeded"), second.message
    assert second.id > first.id
    assert Target(target).ids() == [second.id]


async def test_pruning_leaves_the_new_point_and_what_is_none_of_its_own(rooms: Rooms, tmp_path: Path) -> None:
    target = tmp_path / "target"
    ids = [(await rooms.back_up(target)).id for _ in range(3)]
    strays = [target / "objects" / ".DS_Store", target / "manifests" / "Thumbs.db"]
    strays += [next(path for path in (target / "objects").iterdir() if path.is_dir()) / ".DS_Store"]
    for stray in strays:
        stray.write_bytes(b"icons")
    list(prune({"target": str(target), "keep": 1, "new": ids[1]}))
    assert Target(target).ids() == ids[1:]
    assert all(stray.exists() for stray in strays)
    assert (await rooms.back_up(target, verify=True)).phase == "Succeeded"


async def test_a_target_is_only_touched_in_threads(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hang, and the loop must not."""
    target, here = tmp_path / "target", threading.get_ident()
    on_loop: list[object] = []

    def watched(of: Any, name: str) -> None:
        whole = getattr(of, name)

        def call(first: Any, *arguments: Any, **more: Any) -> Any:
            if threading.get_ident() == here and str(first).startswith(str(target)):
                on_loop.append((name, first))
            return whole(first, *arguments, **more)

        monkeypatch.setattr(of, name, call)

    watched(Path, "resolve")
    watched(os, "open")
    assert (await rooms.back_up(target, keep=1)).phase == "Succeeded"
    assert (await rooms.back_up(target, verify=True)).phase == "Succeeded"
    assert on_loop == []
    with Target(target).lock(write=True):
        pass
