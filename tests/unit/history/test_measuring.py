"""The space report over a real store: who, which snapshots, in the background, and what it cannot tell."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import StorageError
from appliance.history.measuring import KEPT_S, LOW_KEPT_S, Report, SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.state import resources, runs
from appliance.state.db import Database
from appliance.storage.base import Usage
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.room import Room
from appliance.storage.scratch import Scratch
from tests.conftest import Clock

pytestmark = pytest.mark.anyio
MIB = 1 << 20
DAY_S = 86_400.0


class Bench:
    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(home / "state.db")
        self.store = DirectoryStore(home / "volumes", "a test", durable=False)
        self.workspaces = Workspaces(self.db, self.store, clock)
        self.room = Room(self.store, home, low=0, reserve=0)
        self.reports = SpaceReports(self.db, self.store, self.room, low=0, clock=clock)
        with self.db.write() as db:
            self.uid = resources.put(db, "notebook", "lab", {}, source="cli", now=clock())[0].uid

    async def write(self, name: str, size: int) -> None:
        (await self.workspaces.open(self.uid) / name).write_bytes(b"x" * size)

    async def report(self) -> Report:
        answer = await self.reports.ask(fresh=True, wait_s=60)
        assert answer.report
        assert answer.progress is None
        return answer.report


@pytest.fixture
def bench(tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    made = Bench(tmp_path, clock)
    yield made
    made.db.close()


async def test_it_names_the_snapshots_that_hold_a_deleted_file(bench: Bench) -> None:
    await bench.write("kept", MIB)
    await bench.write("big", 70 * MIB)
    first = await bench.workspaces.snapshot(bench.uid, cause="manual", message="with the big one")
    second = await bench.workspaces.snapshot(bench.uid, cause="stop")
    await bench.workspaces.hold(bench.uid, second.id, reason="a paper")
    (await bench.workspaces.open(bench.uid) / "big").unlink()
    third = await bench.workspaces.snapshot(bench.uid, cause="start")
    held = await bench.report()
    (owner,) = held.owners
    assert (owner.kind, owner.name) == ("notebook", "lab")
    assert MIB <= owner.live < 2 * MIB
    assert 70 * MIB <= owner.history <= owner.disk
    await bench.workspaces.release(bench.uid, second.id)
    found = (await bench.report()).holders[0]
    assert set(found.snapshots) >= {first.id, second.id}
    assert found.bytes >= 70 * MIB
    assert (found.kind, found.name, found.held) == ("notebook", "lab", False)
    assert third.id


async def test_a_report_is_kept_for_a_while_and_made_once_for_all_who_ask(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.write("a", 1)
    asked, go_on = [], threading.Event()
    usage = bench.store.usage

    def slow(volume: str) -> Usage:
        asked.append(volume)
        assert go_on.wait(60)
        return usage(volume)

    monkeypatch.setattr(bench.store, "usage", slow)
    first = await bench.reports.ask(fresh=False, wait_s=0.1)
    async with asyncio.timeout(60):
        while not asked:  # noqa: ASYNC110 - another thread asks
            await asyncio.sleep(0.01)
    second = await bench.reports.ask(fresh=True, wait_s=0.1)
    assert first.report is second.report is None
    assert second.progress is not None
    assert (second.progress.done, second.progress.total) == (0, 1)
    go_on.set()
    assert (await bench.reports.ask(fresh=False, wait_s=60)).report
    await bench.reports.ask(fresh=False, wait_s=60)
    assert len(asked) == 1
    bench.clock.now += KEPT_S
    assert (await bench.reports.ask(fresh=False, wait_s=60)).report
    assert len(asked) == 2


async def test_while_space_is_low_it_is_measured_sooner(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has filled the disk is not in a report of minutes ago."""
    first = (await bench.reports.ask(fresh=False, wait_s=60)).report
    assert first
    assert first.owners == ()
    await bench.write("big", MIB)
    bench.clock.now += LOW_KEPT_S
    assert (await bench.reports.ask(fresh=False, wait_s=60)).report is first
    monkeypatch.setattr(bench.room, "why", lambda: "waits for disk space")
    second = (await bench.reports.ask(fresh=False, wait_s=60)).report
    assert second
    assert [owner.name for owner in second.owners] == ["lab"]
    assert (await bench.reports.ask(fresh=False, wait_s=60)).report is second


async def test_what_cannot_be_measured_is_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.write("a", 1)
    bench.store.create("storage")
    usage = bench.store.usage

    def fail(volume: str) -> Usage:
        if volume == "storage":
            raise StorageError("the disk does not answer")
        return usage(volume)

    monkeypatch.setattr(bench.store, "usage", fail)
    report = await bench.report()
    assert report.problems == ("storage is not counted: the disk does not answer",)
    assert [owner.name for owner in report.owners] == ["lab"]
    monkeypatch.setattr(bench.store, "volumes", lambda prefix="": 1 / 0)
    assert "log says why" in (await bench.report()).problems[0]


async def test_the_pace_is_that_of_what_was_written(bench: Bench) -> None:
    assert bench.reports.pace().per_day is None
    bench.clock.now -= 4 * DAY_S
    await bench.write("a", MIB)
    await bench.workspaces.snapshot(bench.uid, cause="manual")
    bench.clock.now += 2 * DAY_S
    await bench.write("b", 3 * MIB)
    await bench.workspaces.snapshot(bench.uid, cause="manual")
    bench.clock.now += 2 * DAY_S
    pace = bench.reports.pace()
    assert pace.days == 4
    assert pace.per_day is not None
    assert pace.per_day == pytest.approx(MIB, rel=0.1)


async def test_the_warning_comes_before_the_disk_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.reports.warning(7) == ""
    await bench.room.look()
    assert bench.reports.warning(7) == "", "nothing is known yet"
    outlook = bench.room.outlook
    assert outlook
    bench.clock.now -= 2 * DAY_S
    with bench.db.write() as db:
        db.execute(
            "INSERT INTO snapshots (id, uid, volume, cause, message, created, bytes) "
            " VALUES ('s', '', 'v', '', '', ?, ?)",
            (bench.clock(), outlook.places[0].free),
        )
    bench.clock.now += 2 * DAY_S
    assert "full in about 2 days" in bench.reports.warning(7)
    assert bench.reports.warning(1) == ""


async def test_it_ends_with_the_daemon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.write("a", 1)
    await bench.reports.ask(fresh=False, wait_s=0)
    await bench.reports.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "space report"]


async def test_the_outputs_of_a_run_have_its_age(bench: Bench) -> None:
    scratch = Scratch(bench.store)
    with bench.db.write() as db:
        run = runs.create(db, workflow_uid="u", workflow="train", spec={}, inputs={}, jobs=["a"], now=bench.clock())
    output = await scratch.create(run.id, "a", "model")
    (output / "big").write_bytes(b"x" * MIB)
    await scratch.finish(run.id, "a", "model")
    bench.clock.now += 60
    with bench.db.write() as db:
        runs.set_phase(db, run.id, "Succeeded", finished=bench.clock())
    (output / "big").unlink()
    (held,) = (await bench.report()).holders
    assert (held.name, held.snapshots, held.created, held.cause) == ("train.1", ("done",), bench.clock(), "run")
