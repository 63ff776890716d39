"""Quotas and low space, as a notebook's user meets them."""

from __future__ import annotations

import pytest

from appliance.notebooks.plan import Facts, Session, decide
from appliance.notebooks.quotas import Count, problem
from appliance.state import events, snapshots
from tests.unit.notebooks.test_controller import House, house

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio

MIB = 1 << 20


def grow(house: House, size: int, name: str = "big") -> None:
    head = snapshots.head(house.db.read, house.row.uid)
    assert head
    (house.store.path(head) / name).write_bytes(b"x" * size)


async def tend(house: House) -> None:
    house.clock.now += 60
    await house.notebooks.tend(house.clock())


async def stop(house: House) -> None:
    house.ask("stopped")
    await house.run("Stopped")


async def test_who_has_grown_beyond_the_quota_goes_on_is_told_and_begins_no_other_session(house: House) -> None:
    house.declare({"quota": "1M"})
    row = await house.run("Running")
    assert (row.status["quota"], row.status["quota_used"] < MIB) == (MIB, True)
    grow(house, 2 * MIB)
    await tend(house)
    assert house.hints[-1] == row.uid
    assert (await house.run("Running")).message.startswith("over its quota of 1M: its files take 2")
    assert house.engine.stopped == []
    assert house.reasons.count("OverQuota") == 1
    await tend(house)
    assert house.reasons.count("OverQuota") == 1, "told once"
    await stop(house)
    house.ask("running")
    row = await house.run("Pending")
    assert "over its quota" in row.message
    assert "larger `quota`" in row.message
    assert house.engine.containers == {}
    house.declare({"quota": "8M"})
    assert (await house.run("Running")).message == ""
    assert house.reasons.count("WithinQuota") == 1


async def test_after_a_restart_of_the_daemon_it_is_counted_before_a_session_begins(house: House) -> None:
    house.declare({"quota": "1M"})
    await house.run("Running")
    await stop(house)
    grow(house, 2 * MIB)
    house.ask("running")
    await house.notebooks.close()
    house.notebooks = house.another()
    assert "over its quota" in (await house.run("Pending")).message
    assert house.engine.containers == {}


async def test_a_rollback_to_fewer_files_is_a_way_out(house: House) -> None:
    house.declare({"quota": "1M"})
    await house.run("Running")
    small = await house.notebooks.history.snapshot("nb", "small")
    grow(house, 2 * MIB)
    await stop(house)
    house.ask("running")
    await house.run("Pending")
    await house.notebooks.history.rollback("nb", small.id)
    await house.run("Running")


async def test_deleting_files_while_it_runs_is_another(house: House) -> None:
    house.declare({"quota": "1M"})
    await house.run("Running")
    grow(house, 2 * MIB)
    await tend(house)
    assert (await house.run("Running")).message
    grow(house, 10)
    await tend(house)
    assert (await house.run("Running")).message == ""


async def test_another_quota_asks_for_no_other_session(house: House) -> None:
    house.declare({"quota": "1M"})
    (container,) = [(await house.run("Running")).status["container"]]
    house.declare({"quota": "2G"})
    row = await house.run("Running")
    assert (row.status["container"], row.status["quota"]) == (container, 2 << 30)
    house.declare({})
    row = await house.run("Running")
    assert (row.status["container"], row.status["quota"]) == (container, None)


async def test_a_store_that_bounds_is_given_the_quota_of_each_head(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int | None]] = []

    def set_quota(volume: str, most: int | None) -> bool:
        given.append((volume, most))
        return True

    monkeypatch.setattr(house.store, "set_quota", set_quota)
    house.declare({"quota": "1M"})
    await house.run("Running")
    kept = await house.notebooks.history.snapshot("nb")
    uid = house.row.uid
    await tend(house)
    assert given == [(f"workspaces/{uid}/1", MIB)]
    await house.notebooks.history.rollback("nb", kept.id)
    await house.run("Running")
    assert given[1:] == [(f"workspaces/{uid}/2", MIB)]
    grow(house, 2 * MIB)
    await tend(house)
    assert "delete files or raise" in (await house.run("Running")).message
    await stop(house)
    house.ask("running")
    await house.run("Running")  # the store lets it only shrink, so its user may get in and delete


def test_a_bound_quota_is_said_to_be_full_just_before_it_is() -> None:
    assert (
        problem(None)
        == problem(Count("v", 90, 100, True, 0.0, 0.0))
        == problem(Count("v", 99, 100, False, 0.0, 0.0))
        == ""
    )
    assert "is full" in problem(Count("v", 99 * MIB, 100 * MIB, True, 0.0, 0.0))


async def test_without_disk_space_a_notebook_waits_says_so_and_begins_by_itself(house: House) -> None:
    house.no_room = "waits for disk space"
    house.declare()
    row = await house.run("Pending")
    assert row.message == "waits for disk space"
    assert house.engine.containers == {}
    house.no_room = ""
    await house.run("Running")
    house.no_room = "waits for disk space"
    house.declare({"env": {"A": "1"}})
    row = await house.run("Running")
    assert "waits for disk space" in row.message
    assert house.engine.stopped == [], "what runs goes on"
    assert [event.level for event in events.newest(house.db.read, kind="notebook", name="nb")].count("error") == 0


def test_what_is_said_of_a_running_session_does_not_end_it() -> None:
    live = Session("c", 1, "d", "running", ready=True)
    step = decide(
        Facts(wanted=True, deleting=False, digest="d", asked=0.0, sessions=(live,), note="over its quota"), 1.0
    )
    assert (step.phase, step.message, step.verb) == ("Running", "over its quota", None)
