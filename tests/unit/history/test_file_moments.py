"""When a file of a workspace changed, over real files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import UsageError
from appliance.history import file_moments
from appliance.history.file_moments import FileMoments
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock

pytestmark = pytest.mark.anyio


class Room:
    def __init__(self, home: Path, clock: Clock) -> None:
        self.db = Database(home / "state.db")
        self.clock = clock
        self.workspaces = Workspaces(self.db, DirectoryStore(home / "volumes", "a test"), clock)
        self.files = FileMoments(self.workspaces)

    async def take(self) -> str:
        self.clock.now += 1
        return (await self.workspaces.snapshot("u", cause="manual")).id

    async def told(self, path: str = "a", **more: Any) -> list[tuple[bool, int | None]]:
        found = await self.files.of("u", path, **more)
        return [(each.changed, each.seen.size if each.seen else None) for each in found.moments]


@pytest.fixture
def room(tmp_path: Path, clock: Clock) -> Iterator[Room]:
    made = Room(tmp_path, clock)
    yield made
    made.db.close()


async def test_a_moment_counts_where_the_file_is_another_than_before(room: Room) -> None:
    root = await room.workspaces.open("u")
    await room.take()
    (root / "a").write_text("1")
    await room.take()
    await room.take()
    (root / "a").write_text("22")
    await room.take()
    (root / "a").unlink()
    await room.take()
    assert await room.told() == [(True, None), (True, 2), (False, 1), (True, 1), (False, None)]
    found = await room.files.of("u", "a")
    assert (found.now, found.now_changed, found.whole) == (None, False, True)
    (root / "a").write_text("4444")
    assert (await room.files.of("u", "./a")).now_changed


async def test_a_file_that_is_rewritten_with_as_many_bytes_is_seen(room: Room) -> None:
    root = await room.workspaces.open("u")
    (root / "a").write_text("one")
    when = (root / "a").stat().st_mtime_ns
    await room.take()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(when, when))  # zfs-fuse tells whole seconds
    await room.take()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(when + 10**9, when + 10**9))
    await room.take()
    assert await room.told() == [(False, 3), (True, 3), (True, 3)]


async def test_a_large_file_is_told_apart_by_its_times(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_moments, "READ", 2)
    root = await room.workspaces.open("u")
    for second, text in enumerate(("one", "two", "two")):
        (root / "a").write_text(text)
        os.utime(root / "a", (second, second))
        await room.take()
    await room.take()
    assert await room.told() == [(False, 3), (True, 3), (True, 3), (True, 3)]
    assert (await room.files.of("u", "a")).moments[0].seen == file_moments.look(root, "a")


async def test_what_was_left_out_is_not_said_to_have_changed(room: Room) -> None:
    root = await room.workspaces.open("u")
    (root / "a").write_text("1")
    for _ in range(3):
        await room.take()
    assert await room.told(most=2) == [(False, 1), (False, 1)]
    assert not (await room.files.of("u", "a", most=2)).whole


async def test_time_that_is_up_leaves_the_older_ones_for_the_next_look(room: Room) -> None:
    root = await room.workspaces.open("u")
    (root / "a").write_text("1")
    for _ in range(3):
        await room.take()
    ticks = iter((0.0, 0.0, file_moments.WITHIN_S + 1))
    hasty = FileMoments(room.workspaces, lambda: next(ticks))
    found = await hasty.of("u", "a")
    assert (len(found.moments), found.whole) == (1, False)


async def test_no_link_is_followed(room: Room, tmp_path: Path) -> None:
    root = await room.workspaces.open("u")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("secret")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "to").symlink_to(tmp_path / "outside" / "a")
    await room.take()
    assert await room.told("out/a") == [(False, None)]
    found = await room.files.of("u", "to")
    assert found.now is not None
    assert (found.now.kind, found.moments[0].seen) == ("link", found.now)
    with pytest.raises(UsageError):
        await room.files.of("u", "../a")


async def test_a_moment_is_looked_at_once(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    root = await room.workspaces.open("u")
    (root / "a").write_text("1")
    await room.take()
    looked = []
    real = file_moments.look

    def look(at: Path, path: str) -> file_moments.Seen | None:
        looked.append(at)
        return real(at, path)

    monkeypatch.setattr(file_moments, "look", look)
    for _ in range(3):
        await room.told()
    assert len(looked) == 1 + 3  # the moment once, and now each time
    monkeypatch.setattr(file_moments, "REMEMBERED", 0)
    await room.told("b")
    assert not room.files._known
