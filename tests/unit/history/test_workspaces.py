"""Workspaces on the directory store: going back loses nothing, and what was interrupted leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from appliance.errors import Conflict, NoSpace, NotFound, StorageError
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock
from tests.unit.storage.trees import describe, fill

pytestmark = pytest.mark.anyio
UID = "0123456789abcdef"


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


async def text(workspaces: Workspaces) -> str:
    return (await workspaces.open(UID) / "file").read_text()


async def write(workspaces: Workspaces, content: str) -> None:
    (await workspaces.open(UID) / "file").write_text(content)


async def test_a_workspace_is_made_once(workspaces: Workspaces, store: DirectoryStore) -> None:
    path = await workspaces.open(UID)
    assert path == store.path(f"workspaces/{UID}/1")
    await write(workspaces, "x")
    assert await workspaces.open(UID) == path
    assert await text(workspaces) == "x"


async def test_rollback_and_undo_give_the_exact_bytes(workspaces: Workspaces, clock: Clock) -> None:
    path = await workspaces.open(UID)
    fill(path)
    first = describe(path)
    snapshot = await workspaces.snapshot(UID, cause="manual", message="one of everything")
    assert (snapshot.cause, snapshot.message, snapshot.created) == ("manual", "one of everything", clock.now)
    (path / "plain").write_text("damaged")
    (path / "deep" / "er" / "file").unlink()
    second = describe(path)

    before = await workspaces.rollback(UID, snapshot.id)
    assert describe(await workspaces.open(UID)) == first
    assert before.cause == "rollback"
    await workspaces.undo(UID)
    assert describe(await workspaces.open(UID)) == second
    assert [entry.cause for entry in workspaces.timeline(UID)] == ["undo", "rollback", "manual"]


async def test_what_was_written_after_a_rollback_is_in_the_timeline_after_its_undo(workspaces: Workspaces) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")
    await workspaces.rollback(UID, one.id)
    await write(workspaces, "three, on top of one")
    await workspaces.undo(UID)
    assert await text(workspaces) == "two"
    await workspaces.rollback(UID, workspaces.timeline(UID)[0].id)
    assert await text(workspaces) == "three, on top of one"
    await workspaces.undo(UID)
    assert await text(workspaces) == "two"


async def test_undo_goes_back_any_number_of_rollbacks_and_no_further(workspaces: Workspaces) -> None:
    with pytest.raises(Conflict, match="no rollback"):
        await workspaces.undo(UID)
    snapshots = []
    for number in range(4):
        await write(workspaces, str(number))
        snapshots.append(await workspaces.snapshot(UID, cause="manual"))
    for number in (2, 0, 1):
        await workspaces.rollback(UID, snapshots[number].id)
        assert await text(workspaces) == str(number)
    for expected in ("0", "2", "3"):
        await workspaces.undo(UID)
        assert await text(workspaces) == expected
    with pytest.raises(Conflict):
        await workspaces.undo(UID)
    assert await text(workspaces) == "3"


async def test_a_moment_of_somebody_else_is_not_found(workspaces: Workspaces) -> None:
    with pytest.raises(NotFound, match="no files yet"):
        await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "x")
    await workspaces.open("fedcba9876543210")
    other = await workspaces.snapshot("fedcba9876543210", cause="manual")
    with pytest.raises(NotFound, match=other.id):
        await workspaces.rollback(UID, other.id)
    assert await text(workspaces) == "x"


async def test_a_rollback_without_space_changes_nothing(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")

    def full(volume: str, snapshot: str, new: str) -> Path:
        raise NoSpace("full")

    monkeypatch.setattr(store, "clone", full)
    with pytest.raises(NoSpace):
        await workspaces.rollback(UID, one.id)
    assert await text(workspaces) == "two"
    assert workspaces.timeline(UID) == [one]
    assert store.snapshots(f"workspaces/{UID}/1") == [one.id]


class Killed(BaseException):
    """Stands for a `kill -9`: no code of the appliance runs after it."""


@pytest.mark.parametrize("step", ["snapshot", "clone"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_around_any_step_of_a_rollback_leaves_the_state_before(
    db: Database, store: DirectoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    workspaces = Workspaces(db, store, clock)
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")
    real = getattr(store, step)

    def killed(*arguments: str) -> None:
        if when == "after":
            real(*arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, step, killed)
        with pytest.raises(Killed):
            await workspaces.rollback(UID, one.id)

    for after_a_sweep in (False, True):
        again = Workspaces(db, store, clock)
        if after_a_sweep:
            await again.sweep()
            assert store.volumes() == [f"workspaces/{UID}/1"]
            assert store.snapshots(f"workspaces/{UID}/1") == [one.id]
        assert await text(again) == "two"
        assert again.timeline(UID) == [one]


async def test_a_clone_left_by_a_kill_is_never_taken_for_another_one(
    workspaces: Workspaces, store: DirectoryStore
) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")
    two = await workspaces.snapshot(UID, cause="manual")
    store.clone(f"workspaces/{UID}/1", one.id, f"workspaces/{UID}/2")
    await write(workspaces, "three")
    await workspaces.rollback(UID, two.id)
    assert await text(workspaces) == "two"


async def test_a_sweep_takes_only_what_no_row_knows(workspaces: Workspaces, store: DirectoryStore) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")
    await workspaces.rollback(UID, one.id)
    known = store.volumes()
    store.snapshot(f"workspaces/{UID}/2", "0123456789")
    store.snapshot(f"workspaces/{UID}/2", "backup-7")
    store.snapshot(f"workspaces/{UID}/2", "by-hand")
    store.clone(f"workspaces/{UID}/1", one.id, f"workspaces/{UID}/3")
    store.create("workspaces/deleted/1")
    store.create("datasets/not/mine")
    await workspaces.sweep()
    assert store.volumes() == ["datasets/not/mine", *known]
    assert store.snapshots(f"workspaces/{UID}/2") == ["backup-7", "by-hand"]
    assert await text(workspaces) == "one"
    await workspaces.undo(UID)
    assert await text(workspaces) == "two"


async def test_a_workspace_goes_with_all_its_past(workspaces: Workspaces, store: DirectoryStore) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await workspaces.rollback(UID, one.id)
    await workspaces.open("fedcba9876543210")
    await workspaces.destroy(UID)
    await workspaces.destroy(UID)
    assert store.volumes() == ["workspaces/fedcba9876543210/1"]
    assert workspaces.timeline(UID) == []
    assert list((await workspaces.open(UID)).iterdir()) == []


async def test_a_workspace_whose_files_are_lost_is_not_silently_empty(
    workspaces: Workspaces, store: DirectoryStore
) -> None:
    await write(workspaces, "one")
    store.destroy(f"workspaces/{UID}/1")
    with pytest.raises(NotFound):
        await workspaces.open(UID)
    await workspaces.sweep()


async def test_operations_at_the_same_time_do_not_mix(workspaces: Workspaces) -> None:
    await write(workspaces, "one")
    one = await workspaces.snapshot(UID, cause="manual")
    await write(workspaces, "two")
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(workspaces.rollback, UID, one.id)
            group.start_soon(partial(workspaces.snapshot, UID, cause="manual"))
            group.start_soon(workspaces.sweep)
    assert len(workspaces.timeline(UID)) == 7
    assert await text(workspaces) == "one"
    for expected in ("one", "one", "two"):
        await workspaces.undo(UID)
        assert await text(workspaces) == expected


@pytest.mark.parametrize("place", ["/", "x" * 300, ".appliance-0123456789abcdef-was/x"])
async def test_a_session_cannot_stop_the_sweep(workspaces: Workspaces, place: str) -> None:
    root, other = await workspaces.open(UID), await workspaces.open("fedcba9876543210")
    ours = ".appliance-0123456789abcdef"
    (root / f"{ours}-was").mkdir()
    (root / f"{ours}-for").symlink_to(place)
    (other / ours).write_text("half a copy")
    await workspaces.sweep()
    assert list(other.iterdir()) == []


async def test_a_head_that_cannot_be_mounted_is_only_told(
    workspaces: Workspaces, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await workspaces.open(UID)
    other = await workspaces.open("fedcba9876543210")
    (other / ".appliance-0123456789abcdef").write_text("half a copy")
    real = store.path

    def path(volume: str) -> Path:
        if UID in volume:
            raise StorageError("cannot be mounted")
        return real(volume)

    monkeypatch.setattr(store, "path", path)
    await workspaces.sweep()
    assert list(other.iterdir()) == []
    assert "cannot be mounted" in caplog.text
