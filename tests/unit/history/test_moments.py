"""What is done with single moments: looked at, brought back, forked, held, pruned; on the directory store."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Conflict, NoSpace, NotFound, StorageError, UsageError
from appliance.history.retention import Policy
from appliance.history.workspaces import NOW, Workspaces
from appliance.state import snapshots
from appliance.state.db import Database
from appliance.storage.directory import looking
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.trees import replacing, tree
from tests.conftest import Clock
from tests.unit.storage.trees import describe, fill

pytestmark = pytest.mark.anyio
UID, OTHER = "0123456789abcdef", "fedcba9876543210"
NONE = Policy(recent_s=0, hourly=0, daily=0, weekly=0, monthly=0)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


@pytest.fixture
def workspaces(db: Database, store: DirectoryStore, clock: Clock) -> Workspaces:
    return Workspaces(db, store, clock)


async def write(workspaces: Workspaces, files: dict[str, str], uid: str = UID) -> None:
    root = await workspaces.open(uid)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


async def read(workspaces: Workspaces, uid: str = UID) -> dict[str, str]:
    root = await workspaces.open(uid)
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


async def names(workspaces: Workspaces, moment: str, path: str = "") -> list[bytes]:
    return [entry.name for entry in await workspaces.listing(UID, moment, path)]


async def content(workspaces: Workspaces, moment: str, path: str) -> bytes:
    async with workspaces.reading(UID, moment, path) as file:
        return file.read()


class Killed(BaseException):
    """Stands for a `kill -9`: no code of the appliance runs after it."""


# -- the timeline


async def test_a_moment_says_who_why_and_how_much(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "x" * 100_000})
    first = await workspaces.snapshot(UID, cause="manual", message="m", author="ada", subject="session 3")
    assert (first.author, first.subject, first.message) == ("ada", "session 3", "m")
    assert first.bytes is not None
    assert first.bytes >= 100_000
    await write(workspaces, {"b": "y"})
    second = await workspaces.snapshot(UID, cause="interval")
    assert second.bytes is not None
    assert 1 <= second.bytes <= 100_001  # what was written a moment before the snapshot is copied again
    assert workspaces.timeline(UID) == [second, first]


async def test_it_is_known_whether_something_has_changed(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "1"})
    assert await workspaces.changed(UID)
    await workspaces.snapshot(UID, cause="interval")
    os.utime(await workspaces.open(UID) / "a", (1, 1))  # a time that was set back hides nothing
    assert await workspaces.changed(UID)


# -- looking


async def test_every_moment_can_be_listed_and_read(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "one", "d/b": "two"})
    (await workspaces.open(UID) / "out").symlink_to("/etc/shadow")
    kept = await workspaces.snapshot(UID, cause="manual")
    (await workspaces.open(UID) / "d" / "b").unlink()
    await write(workspaces, {"a": "three"})

    assert await names(workspaces, kept.id) == [b"a", b"d", b"out"]
    assert await names(workspaces, kept.id, "d") == [b"b"]
    assert await names(workspaces, NOW, "d") == []
    assert await content(workspaces, kept.id, "a") == b"one"
    assert await content(workspaces, NOW, "a") == b"three"
    link = (await workspaces.listing(UID, kept.id))[-1]
    assert (link.kind, link.target) == ("link", b"/etc/shadow")


async def test_nothing_leads_out_of_a_moment(workspaces: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    root = await workspaces.open(UID)
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    kept = await workspaces.snapshot(UID, cause="manual")
    for moment in (NOW, kept.id):
        for path in ("link", "folder/secret", "fifo", "nothing"):
            with pytest.raises(NotFound):
                await content(workspaces, moment, path)
        for path in ("../secret", "folder/../../secret", ""):
            with pytest.raises(UsageError):
                await content(workspaces, moment, path)
        with pytest.raises(NotFound):
            await workspaces.listing(UID, moment, "folder")


async def test_a_moment_of_somebody_else_cannot_be_looked_at(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "1"})
    await write(workspaces, {"a": "2"}, OTHER)
    theirs = await workspaces.snapshot(OTHER, cause="manual")
    for moment in (theirs.id, "../1", ""):
        with pytest.raises(NotFound):
            workspaces.view(UID, moment)
    with pytest.raises(NotFound):
        workspaces.view("nobody", NOW)


async def test_what_is_looked_at_stays_while_it_is_pruned(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "BUSY_S", 0.1)
    await write(workspaces, {"a": "1"})
    old = await workspaces.snapshot(UID, cause="interval")
    await workspaces.snapshot(UID, cause="interval")
    async with workspaces.view(UID, old.id) as path:
        await workspaces.prune(UID, NONE, 2e9)
        assert (path / "a").read_text() == "1"
    await workspaces.prune(UID, NONE, 2e9)
    assert old.id not in store.snapshots(f"workspaces/{UID}/1")


# -- restore


async def test_one_file_comes_back_and_what_it_replaced_is_kept(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "one", "b": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two", "b": "two"})
    before = await workspaces.restore(UID, kept.id, "a", author="ada")
    assert await read(workspaces) == {"a": "one", "b": "two"}
    assert (before.cause, before.author, workspaces.timeline(UID)[0]) == ("restore", "ada", before)
    assert await content(workspaces, before.id, "a") == b"two"
    await workspaces.rollback(UID, before.id)
    assert await read(workspaces) == {"a": "two", "b": "two"}


async def test_a_folder_comes_back_with_everything_in_it(workspaces: Workspaces) -> None:
    root = await workspaces.open(UID)
    (root / "d").mkdir()
    fill(root / "d")
    expected = describe(root / "d")
    kept = await workspaces.snapshot(UID, cause="manual")
    (root / "d" / "plain").write_text("damaged")
    (root / "d" / "later").write_text("not there then")
    await workspaces.restore(UID, kept.id, "d")
    assert describe(root / "d") == expected
    assert sorted(path.name for path in root.iterdir()) == ["d"]


async def test_folders_that_are_gone_come_back_for_a_file(workspaces: Workspaces) -> None:
    await write(workspaces, {"deep/er/a": "one", "deep/b": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    root = await workspaces.open(UID)
    for path in ("deep/er/a", "deep/b"):
        (root / path).unlink()
    (root / "deep" / "er").rmdir()
    (root / "deep").rmdir()
    await workspaces.restore(UID, kept.id, "deep/er/a")
    assert await read(workspaces) == {"deep/er/a": "one"}


async def test_it_may_be_put_beside_what_is_there(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two"})
    await workspaces.restore(UID, kept.id, "a", "old/a")
    assert await read(workspaces) == {"a": "two", "old/a": "one"}
    count = len(workspaces.timeline(UID))
    with pytest.raises(Conflict, match="there already"):
        await workspaces.restore(UID, kept.id, "a", "old/a")
    assert len(workspaces.timeline(UID)) == count


@pytest.mark.parametrize(
    ("path", "to", "error"),
    [
        ("nothing", "", NotFound),
        ("", "", UsageError),
        (".", "", UsageError),
        ("../a", "", UsageError),
        ("a", "../b", UsageError),
        ("a", "/../../b", UsageError),
    ],
)
async def test_a_restore_that_makes_no_sense_changes_nothing(
    workspaces: Workspaces, store: DirectoryStore, path: str, to: str, error: type[Exception]
) -> None:
    await write(workspaces, {"a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two"})
    with pytest.raises(error):
        await workspaces.restore(UID, kept.id, path, to)
    assert await read(workspaces) == {"a": "two"}
    assert workspaces.timeline(UID) == [kept]
    assert store.snapshots(kept.volume) == [kept.id]


async def test_a_restore_without_space_changes_nothing(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(workspaces, {"a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two"})

    def full(*_: object, **__: object) -> None:
        raise NoSpace("full")

    monkeypatch.setattr(replacing, "copy_entry", full)
    with pytest.raises(NoSpace):
        await workspaces.restore(UID, kept.id, "a")
    assert workspaces.timeline(UID) == [kept]
    assert store.snapshots(kept.volume) == [kept.id]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_around_a_restore_loses_nothing(
    db: Database, store: DirectoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    workspaces = Workspaces(db, store, clock)
    await write(workspaces, {"a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two"})
    real = tree.Replacement.put
    root = await workspaces.open(UID)

    def killed(replacement: tree.Replacement) -> None:
        (root / ".appliance-0123456789abcdef").write_text("half a copy")
        if when == "after":
            real(replacement)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(tree.Replacement, "put", killed)
        with pytest.raises(Killed):
            await workspaces.restore(UID, kept.id, "a")
    again = Workspaces(db, store, clock)
    await again.sweep()
    assert await read(again) == {"a": "one" if when == "after" else "two"}
    before = again.timeline(UID)[0]
    assert before.cause == "restore"
    async with again.reading(UID, before.id, "a") as file:
        assert file.read() == b"two"


@pytest.mark.parametrize("path", ["d", "d/a"])
@pytest.mark.parametrize("during", ["copy", "put"])
@pytest.mark.parametrize("disk", ["exchange", "no exchange"])
async def test_what_a_session_writes_during_a_restore_is_in_the_history(
    workspaces: Workspaces, monkeypatch: pytest.MonkeyPatch, path: str, during: str, disk: str
) -> None:
    await write(workspaces, {"d/a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"d/a": "two"})
    file = await workspaces.open(UID) / "d" / "a"
    if disk != "exchange":
        monkeypatch.setattr(replacing, "_rename", unable)
    name = "copy_entry" if during == "copy" else "_put"
    real = getattr(replacing, name)

    def busy(*args: Any, **named: Any) -> None:
        if during == "copy":
            real(*args, **named)
        file.write_text("three, by a session")
        if during == "put":
            real(*args, **named)

    monkeypatch.setattr(replacing, name, busy)
    before = await workspaces.restore(UID, kept.id, path)
    assert await read(workspaces) == {"d/a": "one"}
    if during == "copy":
        assert await content(workspaces, before.id, "d/a") == b"three, by a session"
    else:
        assert await content(workspaces, before.id, "d/a") == b"two"
        last = workspaces.timeline(UID)[0]
        async with workspaces.view(UID, last.id) as root:
            held = [found.read_text() for found in root.rglob("*") if found.is_file()]
        assert sorted(held) == ["one", "three, by a session"]
        assert ".appliance-" in last.message
    assert [moment.cause for moment in workspaces.timeline(UID)] == ["restore", "restore", "manual"]


async def test_a_restored_file_is_new_and_what_is_in_a_folder_keeps_its_time(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "one", "d/b": "one"})
    root = await workspaces.open(UID)
    for name in ("a", "d/b"):
        os.utime(root / name, (1e9, 1e9))
    kept = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two", "d/b": "two"})
    before = (root / "a").stat().st_mtime_ns
    for name in ("a", "d"):
        await workspaces.restore(UID, kept.id, name)
    assert await read(workspaces) == {"a": "one", "d/b": "one"}
    assert (root / "a").stat().st_mtime_ns >= before
    assert (root / "d/b").stat().st_mtime == 1e9
    async with workspaces.view(UID, kept.id) as moment:
        assert (moment / "a").stat().st_mtime == 1e9


async def test_a_restore_that_fails_late_leaves_no_moment(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(workspaces, {"a": "one"})
    kept = await workspaces.snapshot(UID, cause="manual")
    file = await workspaces.open(UID) / "a"

    def fail(*_: Any) -> None:
        raise StorageError("no")

    def busy(*_: Any, **__: Any) -> None:
        file.write_text("two")

    monkeypatch.setattr(replacing, "copy_entry", busy)
    monkeypatch.setattr(replacing, "_put", fail)
    with pytest.raises(StorageError):
        await workspaces.restore(UID, kept.id, "a")
    assert workspaces.timeline(UID) == [kept]
    assert store.snapshots(kept.volume) == [kept.id]
    assert await read(workspaces) == {"a": "two"}


def unable(*_: object) -> None:
    raise OSError(errno.EINVAL, "no flags here")


# -- fork


async def test_a_fork_goes_its_own_way(workspaces: Workspaces, db: Database) -> None:
    await write(workspaces, {"a": "one"})
    taken = await workspaces.fork(UID, OTHER, author="ada")
    assert (taken.uid, taken.cause, taken.author) == (UID, "fork", "ada")
    assert workspaces.timeline(UID) == [taken]
    assert workspaces.timeline(OTHER) == []
    assert snapshots.origin(db.read, OTHER) == f"{UID}@{taken.id}"
    await write(workspaces, {"a": "two"}, OTHER)
    await write(workspaces, {"b": "three"})
    assert await read(workspaces) == {"a": "one", "b": "three"}
    assert await read(workspaces, OTHER) == {"a": "two"}


async def test_a_fork_of_any_moment_outlives_its_source(workspaces: Workspaces, store: DirectoryStore) -> None:
    await write(workspaces, {"a": "one"})
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, {"a": "two"})
    assert await workspaces.fork(UID, OTHER, one.id) == one
    assert workspaces.timeline(UID) == [one]
    await workspaces.destroy(UID)
    await workspaces.sweep()
    assert await read(workspaces, OTHER) == {"a": "one"}
    assert store.volumes() == [f"workspaces/{OTHER}/1"]


async def test_a_fork_that_may_not_be_leaves_nothing(workspaces: Workspaces, store: DirectoryStore) -> None:
    await write(workspaces, {"a": "one"})

    def taken(_: object) -> None:
        raise Conflict("the name is taken")

    with pytest.raises(Conflict, match="taken"):
        await workspaces.fork(UID, OTHER, declare=taken)
    with pytest.raises(NotFound):
        await workspaces.fork(UID, OTHER, "0123456789")
    with pytest.raises(NotFound):
        await workspaces.fork("nobody", OTHER)
    assert store.volumes() == [f"workspaces/{UID}/1"]
    assert store.snapshots(f"workspaces/{UID}/1") == []
    assert workspaces.timeline(UID) == []


@pytest.mark.parametrize("step", ["snapshot", "clone"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_around_any_step_of_a_fork_leaves_nothing(
    db: Database, store: DirectoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    workspaces = Workspaces(db, store, clock)
    await write(workspaces, {"a": "one"})
    real = getattr(store, step)

    def killed(*arguments: str) -> None:
        if when == "after":
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, step, killed)
        with pytest.raises(Killed):
            await workspaces.fork(UID, OTHER)
    again = Workspaces(db, store, clock)
    await again.sweep()
    assert store.volumes() == [f"workspaces/{UID}/1"]
    assert store.snapshots(f"workspaces/{UID}/1") == []
    assert await read(again) == {"a": "one"}


# -- keeping and letting go


async def test_pruning_tells_first_and_then_does_just_that(
    workspaces: Workspaces, store: DirectoryStore, clock: Clock
) -> None:
    taken = []
    for number in range(4):
        await write(workspaces, {"a": str(number) * 100_000})
        taken.append(await workspaces.snapshot(UID, cause="interval"))
        clock.now += 86_400
    volume = taken[0].volume
    await workspaces.hold(UID, taken[1].id, reason="the paper")
    policy = Policy(recent_s=0, hourly=0, daily=2, weekly=0, monthly=0)

    told = await workspaces.prune(UID, policy, clock.now, dry_run=True)
    assert told.going == [taken[0]]
    assert [verdict.why for verdict in told.verdicts] == ["", "held: user: the paper", "daily", "the newest, daily"]
    assert told.reclaim is not None
    assert told.reclaim.exact
    assert 100_000 <= told.reclaim.bytes < 200_000
    assert len(store.snapshots(volume)) == 4

    assert (await workspaces.prune(UID, policy, clock.now)).going == told.going
    assert [moment.id for moment in workspaces.timeline(UID)] == [moment.id for moment in taken[:0:-1]]
    assert store.snapshots(volume) == [moment.id for moment in taken[1:]]
    assert await content(workspaces, taken[1].id, "a") == b"1" * 100_000
    assert (await workspaces.prune(UID, policy, clock.now)).going == []

    await workspaces.release(UID, taken[1].id)
    assert (await workspaces.prune(UID, policy, clock.now)).going == [taken[1]]


async def test_only_our_own_snapshots_are_pruned(workspaces: Workspaces, store: DirectoryStore, clock: Clock) -> None:
    await write(workspaces, {"a": "1"})
    await workspaces.snapshot(UID, cause="interval")
    store.snapshot(f"workspaces/{UID}/1", "backup-1")
    store.snapshot(f"workspaces/{UID}/1", "by-hand")
    last = await workspaces.snapshot(UID, cause="interval")
    await workspaces.prune(UID, NONE, clock.now)
    assert store.snapshots(f"workspaces/{UID}/1") == ["backup-1", "by-hand", last.id]


async def test_an_old_head_goes_with_its_last_moment(workspaces: Workspaces, store: DirectoryStore) -> None:
    await write(workspaces, {"a": "1"})
    one = await workspaces.snapshot(UID, cause="interval")
    await write(workspaces, {"a": "2"})
    await workspaces.rollback(UID, one.id)
    await workspaces.undo(UID)
    last = await workspaces.snapshot(UID, cause="interval")
    assert len(store.volumes()) == 3
    told = await workspaces.prune(UID, NONE, 2e9, dry_run=True)
    assert len(told.going) == 3
    await workspaces.prune(UID, NONE, 2e9)
    assert workspaces.timeline(UID) == [last]
    assert store.volumes() == [f"workspaces/{UID}/3"]
    assert await read(workspaces) == {"a": "2"}


async def test_what_the_next_undo_goes_back_to_is_never_pruned(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "1"})
    one = await workspaces.snapshot(UID, cause="interval")
    await write(workspaces, {"a": "2"})
    await workspaces.rollback(UID, one.id)
    await workspaces.snapshot(UID, cause="stop")
    await workspaces.prune(UID, NONE, 2e9)
    await workspaces.undo(UID)
    assert await read(workspaces) == {"a": "2"}


async def test_a_snapshot_that_cannot_go_now_goes_the_next_time(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(workspaces, {"a": "1"})
    old = await workspaces.snapshot(UID, cause="interval")
    last = await workspaces.snapshot(UID, cause="interval")

    def busy(volume: str, snapshot: str) -> None:
        raise Conflict("a clone needs it")

    with monkeypatch.context() as patch:
        patch.setattr(store, "destroy_snapshot", busy)
        await workspaces.prune(UID, NONE, 2e9)
    assert workspaces.timeline(UID) == [last]
    assert store.snapshots(old.volume) == [old.id, last.id]
    await workspaces.prune(UID, NONE, 2e9)
    assert store.snapshots(old.volume) == [last.id]


async def test_what_a_clone_needs_is_told_once_and_in_one_line(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await write(workspaces, {"a": "1"})
    old = await workspaces.snapshot(UID, cause="interval")
    await workspaces.snapshot(UID, cause="interval")
    clones = "\n".join(f"tank/clone{number}" for number in range(15))

    def needed(volume: str, snapshot: str) -> None:
        raise Conflict(f"cannot destroy '{snapshot}': snapshot has dependent clones\n{clones}", hint="delete them")

    caplog.set_level("INFO", "appliance.history")
    with monkeypatch.context() as patch:
        patch.setattr(store, "destroy_snapshot", needed)
        await workspaces.prune(UID, NONE, 2e9)
        for _ in range(3):
            await workspaces.sweep()
    (told,) = [record for record in caplog.records if old.id in record.getMessage()]
    assert (told.levelname, told.getMessage().count("\n")) == ("INFO", 0)
    assert "dependent clones" in told.getMessage()
    await workspaces.sweep()
    assert old.id not in store.snapshots(old.volume)
    assert "is destroyed" in caplog.records[-1].getMessage()


async def test_holds_are_of_moments_that_exist_and_go_with_them(workspaces: Workspaces) -> None:
    await write(workspaces, {"a": "1"})
    kept = await workspaces.snapshot(UID, cause="manual")
    with pytest.raises(NotFound):
        await workspaces.hold(UID, "0123456789")
    with pytest.raises(NotFound):
        await workspaces.release(UID, kept.id)
    await workspaces.hold(UID, kept.id)
    await workspaces.hold(UID, kept.id, owner="run/7", reason="its input")
    assert workspaces.held(UID) == {kept.id: ["user", "run/7: its input"]}
    await workspaces.release(UID, kept.id)
    assert workspaces.held(UID) == {kept.id: ["run/7: its input"]}
    await workspaces.destroy(UID)
    assert workspaces.held(UID) == {}
