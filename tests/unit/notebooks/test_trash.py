"""Deleted notebooks: kept whole, brought back by a word, destroyed late, and a kill at any instant loses nothing."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import Conflict, NotFound
from appliance.history.measuring import SpaceReports
from appliance.notebooks.trash import DAY_S
from appliance.settings import Settings
from appliance.state import events, resources, trash
from appliance.state.db import Database
from appliance.state.migrations import MIGRATIONS
from appliance.state.resources import Resource
from appliance.storage.room import Room
from tests.conftest import Clock
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as house

pytestmark = pytest.mark.anyio


async def begun(house: House) -> Resource:
    """A notebook with a file, a snapshot of it and a revision, that runs."""
    house.declare({"env": {"A": "1"}})
    house.declare({"env": {"A": "2"}})
    row = await house.run("Running")
    (await house.workspaces.open(row.uid) / "a.txt").write_text("precious")
    await house.notebooks.history.snapshot("nb", "good")
    return house.row


async def gone(house: House) -> None:
    house.delete()
    await house.drop()


def reasons(house: House, name: str = "nb") -> list[str]:
    return [event.reason for event in events.newest(house.db.read, kind="notebook", name=name)]


async def test_deleted_it_frees_its_name_and_keeps_the_rest(house: House) -> None:
    row = await begun(house)
    timeline = house.workspaces.timeline(row.uid)
    await gone(house)
    assert house.engine.containers == {}
    assert house.router.routes == {}
    assert resources.find(house.db.read, "notebook", "nb") is None
    (kept,) = house.notebooks.trash.rows()
    assert (kept.uid, kept.name, kept.until - kept.deleted) == (row.uid, "nb", 7 * DAY_S)
    assert house.workspaces.timeline(row.uid) == timeline
    told = events.newest(house.db.read, kind="notebook", name="nb")[-1]
    assert (told.reason, "undelete nb" in told.message) == ("Deleted", True)
    await house.workspaces.sweep()
    assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"


async def test_undeleted_it_is_as_it_was(house: House) -> None:
    row = await begun(house)
    timeline = house.workspaces.timeline(row.uid)
    revisions = list(resources.revisions(house.db.read, row.uid))
    await gone(house)
    back = await house.notebooks.trash.undelete("nb", author="ada")
    assert (back.uid, back.spec, back.generation, back.created) == (row.uid, row.spec, row.generation, row.created)
    assert (back.desired, back.deleting, back.status["token"]) == ("stopped", False, row.status["token"])
    assert list(resources.revisions(house.db.read, row.uid)) == revisions
    assert house.workspaces.timeline(row.uid) == timeline
    assert house.notebooks.trash.rows() == []
    assert reasons(house)[-1] == "Undeleted"
    assert house.hints[-1] == row.uid
    await house.run("Stopped")
    house.ask("running")
    await house.run("Running")
    assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"
    assert house.row.status["session"] == row.status["session"] + 1


async def test_its_name_may_be_taken_meanwhile(house: House) -> None:
    row = await begun(house)
    await gone(house)
    house.declare()
    with pytest.raises(Conflict, match="there is a notebook 'nb' again") as refused:
        await house.notebooks.trash.undelete("nb")
    assert "--as NEW" in refused.value.hint
    back = await house.notebooks.trash.undelete("nb", "old")
    assert (back.name, back.uid, back.status["url_path"]) == ("old", row.uid, "/notebooks/old/")


async def test_of_one_name_the_last_comes_first_and_each_by_its_id(house: House) -> None:
    first = (await begun(house)).uid
    await gone(house)
    house.clock.now += 5
    second = (await begun(house)).uid
    await gone(house)
    assert [row.uid for row in house.notebooks.trash.rows()] == [second, first]
    assert (await house.notebooks.trash.undelete(first, "one")).uid == first
    assert (await house.notebooks.trash.undelete("nb")).uid == second
    with pytest.raises(NotFound, match="no deleted notebook 'nb'"):
        await house.notebooks.trash.undelete("nb")


async def test_it_goes_when_its_time_has_come_and_the_clock_is_believed(house: House) -> None:
    await begun(house)
    await gone(house)
    house.clock.now += 7 * DAY_S - 1
    await house.notebooks.tend(house.clock(), by_age=True)
    (kept,) = house.notebooks.trash.rows()
    assert kept.bytes, "it is counted what it takes"
    house.clock.now += 1
    await house.notebooks.tend(house.clock(), by_age=False)
    assert house.notebooks.trash.rows(), "the clock may have been set wrong"
    await house.notebooks.tend(house.clock(), by_age=True)
    assert house.notebooks.trash.rows() == []
    assert house.store.volumes("workspaces") == []
    assert not (house.settings.home / "notebooks" / kept.uid).exists()
    assert reasons(house)[-1] == "Purged"


YEARS_S = 11 * 365 * DAY_S


def set_clock(house: House, seconds: float) -> None:
    house.clock.now += seconds
    house.set_by += seconds


async def test_one_that_was_deleted_while_the_clock_was_wrong_is_kept_for_as_long(house: House) -> None:
    await begun(house)
    await house.notebooks.tend(house.clock(), by_age=True)
    house.clock.now += 30
    await gone(house)
    house.clock.now += 30
    set_clock(house, YEARS_S)
    await house.notebooks.tend(house.clock(), by_age=True)
    (kept,) = house.notebooks.trash.rows()
    assert kept.until - house.clock() == pytest.approx(7 * DAY_S - 30)
    assert kept.until - kept.deleted == 7 * DAY_S
    house.clock.now += 7 * DAY_S - 60
    await house.notebooks.tend(house.clock(), by_age=True)
    assert house.notebooks.trash.rows()
    house.clock.now += 60
    await house.notebooks.tend(house.clock(), by_age=True)
    assert house.notebooks.trash.rows() == []


async def test_a_clock_that_goes_wrong_and_is_put_right_changes_nothing(house: House) -> None:
    await begun(house)
    await gone(house)
    (before,) = house.notebooks.trash.rows()
    for seconds in (YEARS_S, -YEARS_S, YEARS_S, -YEARS_S):
        set_clock(house, seconds)
        await house.notebooks.tend(house.clock(), by_age=True)
        (kept,) = house.notebooks.trash.rows()
        assert kept.until - house.clock() == pytest.approx(before.until - before.deleted)
    assert [row.until for row in house.notebooks.trash.rows()] == pytest.approx([before.until])


async def test_one_that_was_deleted_after_the_clock_was_put_right_is_as_old_as_it_is(house: House) -> None:
    """Also where nobody has looked since, and where the clock was wrong when the daemon began."""
    await begun(house)
    await gone(house)
    await house.notebooks.trash.undelete("nb")
    set_clock(house, -YEARS_S)
    await gone(house)
    await house.notebooks.tend(house.clock(), by_age=True)
    (kept,) = house.notebooks.trash.rows()
    assert kept.until - house.clock() == pytest.approx(7 * DAY_S)
    set_clock(house, -YEARS_S)
    await house.notebooks.close()
    house.notebooks = house.another()
    await house.notebooks.tend(house.clock(), by_age=True)
    set_clock(house, YEARS_S)
    await house.notebooks.tend(house.clock(), by_age=True)
    (kept,) = house.notebooks.trash.rows()
    assert kept.until - house.clock() == pytest.approx(7 * DAY_S)


async def test_low_disk_space_destroys_nothing_early(house: House) -> None:
    await begun(house)
    await gone(house)
    house.no_room = "waits: the disk is nearly full"
    await house.notebooks.tend(house.clock(), by_age=True)
    assert len(house.notebooks.trash.rows()) == 1


async def test_purged_it_is_gone_at_once(house: House) -> None:
    await begun(house)
    await gone(house)
    await house.notebooks.trash.purge("nb")
    assert house.store.volumes("workspaces") == []
    with pytest.raises(NotFound):
        await house.notebooks.trash.purge("nb")


async def test_without_a_trash_it_is_destroyed(settings: Settings, clock: Clock) -> None:
    settings.home.mkdir(parents=True)
    house = House(replace(settings, keep_deleted_days=0), clock)
    try:
        house.declare()
        house.ask("stopped")
        row = await house.run("Stopped")
        await house.workspaces.open(row.uid)
        await gone(house)
        assert house.notebooks.trash.rows() == []
        assert house.store.volumes("workspaces") == []
    finally:
        await house.notebooks.close()
        house.db.close()


async def test_the_space_report_names_who_holds_it(house: House) -> None:
    row = await begun(house)
    await gone(house)
    room = Room(house.store, house.settings.home, low=0, reserve=0)
    report = SpaceReports(house.db, house.store, room, low=0, clock=house.clock)
    answer = await report.ask(fresh=True, wait_s=60)
    assert answer.report
    owners = [(owner.kind, owner.name) for owner in answer.report.owners]
    assert ("deleted", "nb") in owners, row.uid
    assert "?" not in {kind for kind, _ in owners}


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_at_any_instant_loses_nothing_that_was_not_to_go(house: House, late: bool) -> None:
    """Deleted and, where it is late, destroyed; killed once, at every instant in turn."""
    rooms: tuple[tuple[object, tuple[str, ...]], ...] = (
        (house.engine, ("stop", "remove")),
        (house.router, ("set_route", "drop_route")),
        (house.telemetry, ("drain",)),
        (house.workspaces, ("destroy",)),
    )
    for instant in range(100):
        row = await begun(house)
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        try:
            await gone(house)
            house.clock.now += 8 * DAY_S if late else 0
            await house.notebooks.tend(house.clock(), by_age=True)
        except Killed:
            await house.notebooks.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        house.notebooks = house.another()
        await house.workspaces.sweep()
        if resources.find_uid(house.db.read, row.uid):
            assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"
            await house.drop()
        if late:
            house.clock.now += 8 * DAY_S
            await house.notebooks.tend(house.clock(), by_age=True)
            assert house.store.volumes("workspaces") == []
        else:
            await house.notebooks.trash.undelete("nb")
            assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"
            assert [moment.message for moment in house.workspaces.timeline(row.uid)].count("good") == 1
            await house.run("Stopped")
            house.delete(purge=True)
            await house.drop()
        assert house.notebooks.trash.rows() == []
        if not mortality.dead:
            assert instant > 5
            return
    raise AssertionError("it never ended")


async def test_a_surprise_with_one_holds_up_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = (await begun(house)).uid
    await gone(house)
    house.clock.now += 5
    second = (await begun(house)).uid
    await gone(house)
    destroy = house.workspaces.destroy

    async def broken(uid: str) -> None:
        if uid == second:
            raise RecursionError("a tree that is too deep")
        await destroy(uid)

    monkeypatch.setattr(house.workspaces, "destroy", broken)
    house.clock.now += 8 * DAY_S
    await house.notebooks.tend(house.clock(), by_age=True)
    assert [row.uid for row in house.notebooks.trash.rows()] == [second], first


async def test_a_name_of_two_is_not_enough_to_destroy_one(house: House) -> None:
    first = (await begun(house)).uid
    await gone(house)
    house.clock.now += 5
    second = (await begun(house)).uid
    await gone(house)
    with pytest.raises(Conflict, match="2 deleted notebooks") as refused:
        await house.notebooks.trash.purge("nb")
    assert first in refused.value.hint
    assert second in refused.value.hint
    await house.notebooks.trash.purge(second)
    assert [row.uid for row in house.notebooks.trash.rows()] == [first]


async def test_one_that_is_named_as_the_id_of_another(house: House) -> None:
    """A session knows its notebook's id, and an id is a name too."""
    first = (await begun(house)).uid
    await gone(house)
    house.clock.now += 5
    other = house.declare(name=first)
    house.notebooks.trash.put(other)
    with pytest.raises(Conflict):
        await house.notebooks.trash.purge(first)
    assert (await house.notebooks.trash.undelete(other.uid, "back")).uid == other.uid
    await house.notebooks.trash.purge(first)
    assert house.notebooks.trash.rows() == []


async def test_what_is_being_destroyed_cannot_come_back_and_goes_with_the_next_round(house: House) -> None:
    await begun(house)
    await gone(house)
    (kept,) = house.notebooks.trash.rows()
    with house.db.write() as db:
        trash.set_going(db, kept.uid)
    with pytest.raises(Conflict, match="being destroyed"):
        await house.notebooks.trash.undelete("nb")
    await house.notebooks.tend(house.clock())
    assert house.notebooks.trash.rows() == []


async def test_one_that_a_file_declared_comes_back_as_nobodys_file(house: House) -> None:
    row = await begun(house)
    with house.db.write() as db:
        resources.set_source(db, row.uid, "removed:file:a.yaml")
    await gone(house)
    assert (await house.notebooks.trash.undelete("nb")).source == "cli"


def test_the_table_comes_with_the_migration(tmp_path: Path) -> None:
    raw = sqlite3.connect(tmp_path / "state.db")
    try:
        for migration in MIGRATIONS[:7]:
            migration(raw)
        raw.execute("PRAGMA user_version = 7")
        raw.commit()
    finally:
        raw.close()
    db = Database(tmp_path / "state.db")
    try:
        assert trash.every(db.read) == []
    finally:
        db.close()


def test_asked_to_go_for_ever_it_does_whatever_is_asked_afterwards(tmp_path: Path) -> None:
    db = Database(tmp_path / "state.db")
    try:
        with db.write() as writing:
            row, _ = resources.put(writing, "notebook", "nb", {}, source="cli", now=1.0)
            seen = []
            for purge in (False, True, False):
                resources.set_deleting(writing, row.uid, now=2.0, purge=purge)
                found = resources.get(writing, "notebook", "nb")
                seen.append((found.deleting, found.purging))
        assert seen == [(True, False), (True, True), (True, True)]
    finally:
        db.close()
