"""Backups from the directory store into a directory, and what may come in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from appliance.backup import objects
from appliance.backup.manifest import Damaged
from appliance.backup.rebuild import Rebuilding
from appliance.backup.target import Target
from appliance.errors import ApplianceError, Conflict, NotFound, UsageError
from appliance.state import backups, holds
from appliance.state.backups import Backup
from appliance.storage.scratch import volume_name
from tests.unit.backup.rooms import Rooms, opened, restored
from tests.unit.backup.suite import BackupSuite, Places, begun, leftovers, live, tree_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path, str(tmp_path / "target"))


class TestDirectoryToDirectory(BackupSuite):
    @pytest.fixture
    def places(self, tmp_path: Path) -> Places:
        return Places(tmp_path, str(tmp_path / "target"))


@pytest.fixture
async def rooms(places: Places) -> AsyncIterator[Rooms]:
    async with opened(places.home, places.source) as rooms:
        yield rooms


async def test_an_unchanged_appliance_costs_next_to_nothing_again(rooms: Rooms, places: Places) -> None:
    await live(rooms)
    first = await rooms.back_up(places.target)
    second = await rooms.back_up(places.target)
    assert second.phase == "Succeeded"
    assert second.bytes < first.bytes / 3, "the state and the logs, and no file of a volume"
    checked = await rooms.back_up(places.target, verify=True)
    assert checked.phase == "Succeeded"
    assert "all 2 points are whole" in checked.message


async def test_damage_is_told_by_a_check_and_in_the_status(rooms: Rooms, places: Places) -> None:
    assert rooms.backups.health() is None
    await live(rooms)
    assert (await rooms.back_up(places.target)).phase == "Succeeded"
    health = rooms.backups.health()
    assert health is not None
    assert health[0]
    largest = max((Path(places.target) / "objects").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[7] ^= 1
    largest.write_bytes(data)
    checked = await rooms.back_up(places.target, verify=True)
    assert checked.phase == "Failed"
    assert largest.name in checked.message
    health = rooms.backups.health()
    assert health is not None
    assert not health[0]
    assert places.target in health[1]
    with pytest.raises(Damaged):
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored)


async def test_a_target_is_refused_before_anything_is_done(rooms: Rooms, places: Places, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await rooms.backups.start("relative/path")
    with pytest.raises(UsageError):
        await rooms.backups.start(str(places.home / "volumes" / "backup"))
    (tmp_path / "link").symlink_to(places.home)
    with pytest.raises(UsageError):
        await rooms.backups.start(str(tmp_path / "link"))
    with pytest.raises(UsageError):
        await rooms.backups.start("zfs:tank/backup")
    assert rooms.backups.every() == []


async def test_a_directory_with_something_else_in_it_is_left_alone(rooms: Rooms, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("all of it")
    ended = await rooms.back_up(full)
    assert (ended.phase, leftovers(rooms.store)) == ("Failed", [])
    assert "thesis.tex" in ended.message
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]


async def test_the_backups_of_another_appliance_are_left_alone(rooms: Rooms, places: Places) -> None:
    assert (await rooms.back_up(places.target)).phase == "Succeeded"
    async with opened(places.root / "other", {}) as other:
        ended = await other.back_up(places.target)
    assert ended.phase == "Failed"
    assert "another appliance" in ended.message


async def test_a_restored_appliance_goes_on_with_the_same_target(rooms: Rooms, places: Places) -> None:
    await live(rooms)
    first = await rooms.back_up(places.target)
    await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    async with opened(places.new_home, {}) as again:
        ended = await again.back_up(places.target)
        assert ended.phase == "Succeeded", ended.message
        assert ended.bytes < first.bytes / 2
        assert await again.everything() == await rooms.everything()


async def test_a_full_disk_leaves_the_older_points_good(rooms: Rooms, places: Places, small_disk: Path) -> None:
    await live(rooms)
    target = small_disk / "backup"
    first = await rooms.back_up(target)
    assert first.phase == "Succeeded", first.message
    points = tree_of(target / "points")
    uid = rooms.declare("nb")
    (await rooms.workspaces.open(uid) / "huge").write_bytes(os.urandom(40 << 20))
    ended = await rooms.back_up(target)
    assert ended.phase == "Failed"
    assert "full" in ended.message
    assert tree_of(target / "points") == points
    assert leftovers(rooms.store) == []
    assert (await rooms.back_up(target, verify=True)).phase == "Succeeded"
    (await rooms.workspaces.open(uid) / "huge").unlink()
    await anyio.to_thread.run_sync(restored, places.new_home, target, {}, first.id)


async def test_what_a_killed_daemon_left_is_swept(places: Places) -> None:
    async with opened(places.home, {}) as rooms:
        await live(rooms)
        uid = rooms.declare("nb")
        head = rooms.workspaces.head(uid)
        rooms.store.create("system/home/20260101T000000Z-abcdef")
        rooms.store.snapshot(head, "backup-20260101T000000Z-abcdef")
        with rooms.db.write() as db:
            backups.add(db, Backup("20260101T000000Z-abcdef", places.target, "Running", "", 0, 1.0, None))
            holds.put(db, holds.Hold("version/x/y", "backup/20260101T000000Z-abcdef", "", 1.0))
            holds.put(db, holds.Hold("version/x/y", "user", "mine", 1.0))
    async with opened(places.home, {}) as rooms:
        assert leftovers(rooms.store) == []
        (row,) = rooms.backups.every()
        assert row.phase == "Failed"
        assert [hold.owner for hold in holds.of(rooms.db.read, "version/x/y")] == ["user"]
        health = rooms.backups.health()
        assert health is not None
        assert not health[0]


async def test_what_was_archived_before_a_kill_is_not_archived_again(
    rooms: Rooms, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live(rooms)

    def fail(self: Target, point: object) -> None:
        raise ApplianceError("killed at the very last step")

    with monkeypatch.context() as broken:
        broken.setattr(Target, "publish", fail)
        first = await rooms.back_up(places.target)
    assert (first.phase, Target(Path(places.target)).ids()) == ("Failed", [])
    second = await rooms.back_up(places.target)
    assert second.phase == "Succeeded"
    assert second.bytes < first.bytes / 3
    assert not (Path(places.target) / "unfinished.jsonl").exists()


async def test_a_restore_that_was_killed_goes_on(rooms: Rooms, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    await live(rooms)
    await rooms.back_up(places.target)
    before = await rooms.everything()
    made: list[str] = []
    whole = Rebuilding._make

    class Killed(BaseException):
        pass

    def make(self: Rebuilding, volume: object) -> None:
        if len(made) in (2, 5) and made[-1] != "killed":
            made.append("killed")
            self._store.create(volume.name)  # type: ignore[attr-defined]
            raise Killed
        made.append(volume.name)  # type: ignore[attr-defined]
        whole(self, volume)  # type: ignore[arg-type]

    monkeypatch.setattr(Rebuilding, "_make", make)
    for _ in range(2):
        with pytest.raises(Killed):
            await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
        with pytest.raises(Conflict, match="has not ended"):
            async with opened(places.new_home, {}):
                pass
    await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    assert len(made) - made.count("killed") == len(set(made)) - 1, "no volume was made twice"
    async with opened(places.new_home, {}) as again:
        assert await again.everything() == before


async def test_a_home_that_is_not_empty_is_left_alone(rooms: Rooms, places: Places) -> None:
    await live(rooms)
    await rooms.back_up(places.target)
    before = await rooms.everything()
    with pytest.raises(Conflict, match="runs on this home"):
        await anyio.to_thread.run_sync(restored, places.home, places.target, places.source)
    async with opened(places.new_home, places.restored) as other:
        other.secrets.set("MINE", "value")
    with pytest.raises(Conflict, match="not empty"):
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored)
    with pytest.raises(NotFound):
        await anyio.to_thread.run_sync(
            restored, places.root / "x", places.target, places.restored, "20200101T000000Z-abcdef"
        )
    assert await rooms.everything() == before


async def test_another_point_begins_anew(rooms: Rooms, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    await live(rooms)
    first = await rooms.back_up(places.target)
    before = await rooms.everything()
    rooms.declare("later")
    await rooms.back_up(places.target)
    with monkeypatch.context() as broken:
        broken.setattr("appliance.backup.homefiles.place", None)
        with pytest.raises(TypeError):
            await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    await anyio.to_thread.run_sync(restored, places.new_home, places.target, {}, first.id)
    async with opened(places.new_home, {}) as again:
        assert await again.everything() == before


async def test_settings_come_along_unless_there_are_some(rooms: Rooms, places: Places) -> None:
    (places.home / "config.toml").write_text('port = 7171\nzpool = "tank/gone"\nstorage = "zfs"\n')
    await rooms.back_up(places.target)
    with pytest.raises(ApplianceError, match="tank") as refused:
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    assert "APPLIANCE_STORAGE" in refused.value.hint
    environ = {"APPLIANCE_STORAGE": "directory", "APPLIANCE_ZPOOL": ""}
    await anyio.to_thread.run_sync(restored, places.new_home, places.target, environ)
    async with opened(places.new_home, {}) as again:
        assert (again.settings.port, again.settings.storage) == (7171, "directory")
    own = places.root / "own"
    own.mkdir()
    (own / "config.toml").write_text("port = 7272\n")
    done = await anyio.to_thread.run_sync(restored, own, places.target, {})
    assert any("config.toml.restored" in note for note in done.notes)
    async with opened(own, {}) as again:
        assert again.settings.port == 7272


async def test_a_backup_that_somebody_has_forged_is_refused(rooms: Rooms, places: Places) -> None:
    await live(rooms)
    ended = await rooms.back_up(places.target)
    path = Path(places.target) / "points" / f"{ended.id}.json"
    good = json.loads(path.read_text())
    for name in ("../../../tmp/out", "/etc", "a/../../b", "system/home/.."):
        bad = json.loads(path.read_text())
        bad["volumes"][0]["name"] = name
        path.write_text(json.dumps(bad))
        with pytest.raises(Damaged):
            await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
        path.write_text(json.dumps(good))
    with pytest.raises(NotFound):
        await anyio.to_thread.run_sync(restored, places.new_home, places.root / "nothing", {})


async def test_a_run_that_ends_meanwhile_takes_its_volumes_along(
    rooms: Rooms, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (volume_name(begun(rooms, "flow").id, "train", "model") for _ in range(2))
    for volume in (first, second):
        (rooms.store.create(volume) / "model").write_text("half trained")
    put = Target.known

    def known(self: Target) -> object:
        rooms.store.destroy(first)
        return put(self)

    monkeypatch.setattr(Target, "known", known)
    ended = await rooms.back_up(places.target)
    assert ended.phase == "Succeeded", ended.message
    done = await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    assert any(first in note for note in done.notes)
    async with opened(places.new_home, {}) as again:
        assert again.store.volumes("runs") == [second]


async def test_what_can_be_fetched_again_is_left_out_and_that_is_said(rooms: Rooms, places: Places) -> None:
    fetched, written = "content/a-deployment/a-key", "integrations/a-deployment/notes"
    for volume in (fetched, written):
        (rooms.store.create(volume) / "file").write_text(volume)
    ended = await rooms.back_up(places.target)
    assert ended.phase == "Succeeded", ended.message
    assert "without 1 volume that can be made or fetched again" in ended.message
    assert rooms.store.volumes("content") == [fetched], "here all is as it was"
    await anyio.to_thread.run_sync(restored, places.new_home, places.target, {})
    async with opened(places.new_home, {}) as again:
        assert (again.store.volumes("content"), again.store.volumes("integrations")) == ([], [written])
        assert (again.store.path(written) / "file").read_text() == written


async def test_pruning_keeps_what_the_points_that_stay_need(rooms: Rooms, places: Places) -> None:
    uid = rooms.declare("nb")
    path = await rooms.workspaces.open(uid)
    (path / "first").write_bytes(os.urandom(2_000_000))
    await rooms.back_up(places.target)
    (path / "first").unlink()
    await rooms.workspaces.destroy(uid)
    other = rooms.declare("other")
    (await rooms.workspaces.open(other) / "second").write_bytes(os.urandom(1000))

    def held() -> int:
        return sum(path.stat().st_size for path in (Path(places.target) / objects.OBJECTS).rglob("*") if path.is_file())

    before = held()
    assert (await rooms.back_up(places.target)).phase == "Succeeded"
    assert held() > before
    assert (await rooms.back_up(places.target, keep=1)).phase == "Succeeded"
    assert held() < before - 1_900_000
    assert (await rooms.back_up(places.target, verify=True)).phase == "Succeeded"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    target = Target.create(tmp_path / "t", "origin")
    with target.lock(write=True), pytest.raises(Conflict), target.lock(write=False):
        pass
    with target.lock(write=False), target.lock(write=False):
        pass
    shutil.rmtree(tmp_path / "t")
