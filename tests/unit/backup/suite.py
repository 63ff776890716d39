"""What a backup is for, whichever stores it is from and to. Subclasses give the fixture `places`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from appliance.backup.point import PREFIX
from appliance.errors import Conflict, NotFound
from appliance.history.retention import Policy
from appliance.state import capsules, holds, kept, runs, step_cache
from appliance.state.capsules import Capsule
from appliance.storage.base import Store
from appliance.storage.scratch import DONE, volume_name
from appliance.workflows import exchange
from appliance.workflows.kept import keeping
from tests.unit.backup.rooms import Rooms, opened, restored
from tests.unit.storage.trees import fill, set_xattrs


@dataclass
class Places:
    """Where an appliance, its backups and the restored one are. Settings as variables."""

    root: Path
    target: str
    source: dict[str, str] = field(default_factory=dict)
    restored: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def new_home(self) -> Path:
        return self.root / "new"


async def live(rooms: Rooms) -> None:
    """Some life: notebooks with a past, a fork, a rollback, a dataset with versions, a secret, odd files."""
    uid = rooms.declare("nb")
    path = await rooms.workspaces.open(uid)
    fill(path)
    set_xattrs(path)
    (path / "large").write_bytes(os.urandom(600_000))
    first = await rooms.workspaces.snapshot(uid, cause="manual", message="first")
    (path / "plain").write_bytes(b"changed\n")
    (path / "deep" / "er" / "new").write_text("new")
    (path / "fifo").unlink()
    await rooms.workspaces.snapshot(uid, cause="stop")
    await rooms.workspaces.rollback(uid, first.id)
    path = await rooms.workspaces.open(uid)
    (path / "after").write_text("after the rollback")
    await rooms.workspaces.undo(uid)
    fork = rooms.declare("fork")
    await rooms.workspaces.fork(uid, fork, first.id)
    (await rooms.workspaces.open(fork) / "forked").write_text("forked")
    rooms.datasets.create("data")
    version = await rooms.datasets.begin("data")
    (await rooms.datasets.path(version) / "rows").write_bytes(os.urandom(50_000))
    await rooms.datasets.commit(version, message="v1")
    source = rooms.settings.home.parent / "to-put"
    source.mkdir(exist_ok=True)
    (source / "b").write_text("b")
    await rooms.datasets.put("data", source)
    rooms.secrets.set("TOKEN", "s3cr3t-value")
    (rooms.settings.specs_dir / "kept.yaml").write_text("kind: dataset\nname: data\n")


def begun(rooms: Rooms, workflow: str, *, over: bool = False) -> runs.Run:
    """A run with the jobs `train` and `use`."""
    with rooms.db.write() as db:
        jobs = ("train", "use")
        run = runs.create(db, workflow_uid=workflow, workflow=workflow, spec={}, inputs={}, jobs=jobs, now=1.0)
        if over:
            runs.set_phase(db, run.id, "Failed", finished=2.0)
    return run


def makes(rooms: Rooms, run: runs.Run) -> str:
    """The volume that its job `train` has made, which `use` was given."""
    document = {"model": {"type": "volume", "run": run.id, "job": "train", "output": "model"}}
    volume = volume_name(run.id, "train", "model")
    (rooms.store.create(volume) / "model").write_text(run.workflow)
    rooms.store.snapshot(volume, DONE)
    with rooms.db.write() as db:
        runs.move_job(db, run.id, "train", "Pending", "Succeeded", outputs=document)
        runs.move_job(db, run.id, "use", "Pending", "Failed", inputs=document)
    return volume


def leftovers(store: Store) -> list[str]:
    """What only a backup makes."""
    found = [name for name in store.volumes() if name.startswith("system/")]
    snapshots = [(name, snapshot) for name in store.volumes() for snapshot in store.snapshots(name)]
    return found + [f"{name}@{snapshot}" for name, snapshot in snapshots if snapshot.startswith(PREFIX)]


class BackupSuite:
    """On every pair of stores."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def rooms(self, places: Places) -> AsyncIterator[Rooms]:
        async with opened(places.home, places.source) as rooms:
            yield rooms

    async def test_an_appliance_comes_back_in_an_empty_home(self, rooms: Rooms, places: Places) -> None:
        await live(rooms)
        ended = await rooms.back_up(places.target)
        assert (ended.phase, ended.finished is not None) == ("Succeeded", True), ended.message
        before = await rooms.everything()
        assert sum(" backup" in name for name in before) == 2, "each workspace that had changed has a moment of it"
        done = await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored)
        assert done.point == ended.id
        assert not (places.new_home / "restoring.json").exists()
        async with opened(places.new_home, places.restored) as again:
            assert await again.everything() == before
            sent = places.target.startswith("zfs:")
            assert {name.split("@")[-1] for name in leftovers(again.store)} == (
                {f"backup-{ended.id}"} if sent else set()
            )
            assert (again.settings.specs_dir / "kept.yaml").exists()
            assert again.settings.token_file.exists() == rooms.settings.token_file.exists()
            assert (places.new_home / "instance").read_text() != (places.home / "instance").read_text()
            assert (places.new_home / "origin").read_text() == (places.home / "instance").read_text()
            assert again.backups.find(ended.id).phase == "Succeeded"
            uid = next(value for name, value in before.items() if name == "notebook/nb")
            await again.workspaces.rollback(uid, again.workspaces.timeline(uid)[-1].id)
            await again.workspaces.undo(uid)

    async def test_the_next_one_goes_on_and_every_point_can_be_had(self, rooms: Rooms, places: Places) -> None:
        await live(rooms)
        first = await rooms.back_up(places.target)
        then = await rooms.everything()
        uid = rooms.declare("nb")
        path = await rooms.workspaces.open(uid)
        (path / "later").write_bytes(b"later")
        (path / "large").unlink()
        rooms.secrets.set("OTHER", "another value")
        second = await rooms.back_up(places.target)
        now = await rooms.everything()
        assert (first.phase, second.phase) == ("Succeeded", "Succeeded"), second.message
        assert second.bytes < first.bytes
        for home, point, expected in (("old", first.id, then), ("new", "", now)):
            place = places.root / home
            environ = {**places.restored}
            if "APPLIANCE_ZPOOL" in environ:
                environ["APPLIANCE_ZPOOL"] += f"/{home}"
            await anyio.to_thread.run_sync(restored, place, places.target, environ, point)
            async with opened(place, environ) as again:
                assert await again.everything() == expected

    async def test_what_it_reads_is_not_destroyed_meanwhile_but_afterwards(self, rooms: Rooms, places: Places) -> None:
        await live(rooms)
        uid = rooms.declare("nb")
        before = await rooms.everything()
        row = await rooms.backups.start(places.target)
        gone = refused = False
        async for _, progress in rooms.backups.follow(row.id):
            if not progress or not progress.total or gone:
                continue
            gone = True
            with pytest.raises(Conflict):
                await rooms.datasets.destroy(rooms.datasets.get("data").uid)
            refused = True
            await rooms.workspaces.destroy(uid)
            await rooms.workspaces.prune(rooms.declare("fork"), Policy(0, 0, 0, 0, 0), 1e12)
        assert (gone, refused) == (True, True)
        assert rooms.backups.find(row.id).phase == "Succeeded", rooms.backups.find(row.id).message
        assert [name for name in rooms.store.volumes("workspaces") if uid in name] == [], "it has waited for the backup"
        assert holds.every(rooms.db.read) == {}
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored)
        async with opened(places.new_home, places.restored) as again:
            found = await again.everything()
            assert {name: value for name, value in found.items() if " backup" not in name} == before

    async def test_one_that_is_cancelled_leaves_nothing_but_a_start_for_the_next(
        self, rooms: Rooms, places: Places
    ) -> None:
        await live(rooms)
        row = await rooms.backups.start(places.target)
        with pytest.raises(Conflict):
            await rooms.backups.start(places.target)
        async for _, progress in rooms.backups.follow(row.id):
            if progress and progress.total:
                break
        await rooms.backups.cancel(row.id)
        assert rooms.backups.find(row.id).phase == "Canceled"
        assert holds.every(rooms.db.read) == {}
        assert (await rooms.back_up(places.target)).phase == "Succeeded"

    async def test_a_point_may_be_too_many(self, rooms: Rooms, places: Places) -> None:
        await live(rooms)
        uid = rooms.declare("nb")
        ids = []
        for number in range(3):
            (await rooms.workspaces.open(uid) / "n").write_text(str(number))
            ended = await rooms.back_up(places.target, keep=2)
            assert ended.phase == "Succeeded", ended.message
            ids.append(ended.id)
        before = await rooms.everything()
        with pytest.raises(NotFound):
            await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored, ids[0])
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored, ids[2])
        async with opened(places.new_home, places.restored) as again:
            assert await again.everything() == before

    async def test_what_failed_comes_back_and_what_the_cache_held_is_left_out(
        self, rooms: Rooms, places: Places
    ) -> None:
        """No row of the restored home names a volume that is not there."""
        cached, resumable, opened_up, open_still, words = (
            begun(rooms, name, over=name != "open") for name in ("cached", "kept", "capsule", "open", "words")
        )
        gone, *there = (makes(rooms, run) for run in (cached, resumable, opened_up, open_still))
        with rooms.db.write() as db:
            kept.keep(db, resumable.id, True)
            given = runs.job(db, opened_up.id, "use").inputs
            capsules.put(db, Capsule(opened_up.id, "use", 2.0, "Failed", [], given, {}))
            for run in (cached, resumable, words):
                step_cache.put(db, f"key of {run.workflow}", run.id, "train", now=2.0)
        folders = volume_name(opened_up.id, "use", exchange.VOLUME)
        rooms.store.create(folders)
        rooms.store.create("runs/unknown/train/out-model")
        ended = await rooms.back_up(places.target)
        assert ended.phase == "Succeeded", ended.message
        assert gone in rooms.store.volumes("runs"), "here all is as it was"
        assert len(step_cache.every(rooms.db.read)) == 3
        await anyio.to_thread.run_sync(restored, places.new_home, places.target, places.restored)
        async with opened(places.new_home, places.restored) as again:
            found = again.store.volumes("runs")
            assert sorted(found) == sorted([*there, folders])
            for volume, run in zip(there, (resumable, opened_up, open_still), strict=True):
                assert (again.store.path(volume) / "model").read_text() == run.workflow
                assert DONE in again.store.snapshots(volume), "it can be given to a job"
            assert keeping.needed(again.db.read) == set(found)
            assert [entry.run for entry in step_cache.every(again.db.read)] == [words.id]
            assert len(runs.names(again.db.read)) == 5


def tree_of(root: Path) -> dict[str, Any]:
    """Path -> content of every file, to see that nothing changes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
