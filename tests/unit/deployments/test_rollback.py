"""A revision that fails is undone, and the one before it goes on; and the way back that a person asks for."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest

from appliance import revisions
from appliance.deployments.content import Prepared
from appliance.errors import Conflict, EngineError
from appliance.state import resources, rollouts
from appliance.state.resources import Resource
from appliance.state.rollouts import Rollout
from tests.unit.deployments.house import House, short, spec
from tests.unit.notebooks.rooms import Killed, Mortality

pytestmark = pytest.mark.anyio


def rows(house: House) -> dict[int, Rollout]:
    return {row.generation: row for row in rollouts.every(house.db.read, house.row.uid)}


def roll_back(house: House, to: int | None = None) -> Resource:
    house.clock.now += 0.5
    with house.db.write() as db:
        return revisions.roll_back(db, house.row, to, source="cli", now=house.clock())


async def undo(house: House, generation: int) -> Resource:
    """Until it is undone, and nothing of it is left."""
    await house.until(lambda: rows(house)[generation].phase == "Undone")
    return await house.until(lambda: len(house.engine.containers) == len(house.running()) == len(house.served))


async def bad(house: House) -> None:
    """A revision that serves, and another whose replicas never become ready."""
    house.declare(spec("one"))
    await house.settle()
    house.engine.log = "boot\nImportError: no module named torch"
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    await house.until(lambda: len(house.running("bad")) == 2)


async def test_what_is_not_ready_by_its_deadline_is_undone_with_its_last_words(house: House) -> None:
    await bad(house)
    before = house.served
    for container in house.running("bad"):
        house.engine.end(container.id, 1)
    await house.until(lambda: "restart 1" in house.row.message)
    house.clock.now += house.settings.deploy_deadline_s
    row = await undo(house, 2)
    assert house.served == before == short(house.running("one"))
    assert (row.phase, row.generation, row.observed, row.status["generation_ready"]) == ("Degraded", 2, 2, 1)
    assert row.status["undone"]["generation"] == 2
    assert "generation 2 was undone: it was not ready after 300 s" in row.message
    assert "generation 1 serves" in row.message
    assert "appliance deployment restart web" in row.message
    (event,) = [event for event in house.events if event.reason == "Undone"]
    assert event.level == "error"
    assert "ImportError: no module named torch" in event.message
    assert "ImportError: no module named torch" in rows(house)[2].words
    later = house.events[house.events.index(event) :]
    assert not [one.message for one in later if re.search(r"restart \d+ in", one.message)], "nothing is restarted"
    assert all("bad" not in (target or "") for target in house.served)


async def test_a_crash_loop_is_undone_long_before_the_deadline(house: House) -> None:
    await bad(house)
    began = house.clock()

    def crash() -> bool:
        for container in house.running("bad"):
            house.engine.end(container.id, 1)
        return rows(house)[2].phase == "Undone"

    await house.until(crash)
    assert house.clock() - began < 30
    assert "end again and again" in rows(house)[2].message


async def test_what_is_stopped_in_the_middle_still_has_a_way_back_when_it_is_started(house: House) -> None:
    await bad(house)
    for desired, phase in (("stopped", "Disabled"), ("running", "Updating")):
        with house.db.write() as db:
            resources.set_desired(db, house.row.uid, desired, now=house.clock())
        await house.run(phase)
    assert len(house.row.status["replicas"]) >= 2
    await house.until(lambda: house.served and house.served == short(house.running("one")))
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    assert house.served == short(house.running("one"))


async def test_what_was_undone_does_not_come_back_by_itself(house: House) -> None:
    await bad(house)
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    house.engine.exit_codes["bad"] = 0
    await house.controller.close()
    house.controller = house.another()
    house.clock.now += 10_000
    await house.until(lambda: house.row.phase == "Degraded" and len(house.served) == 2)
    assert house.running("bad") == []
    for desired in ("stopped", "running"):
        with house.db.write() as db:
            resources.set_desired(db, house.row.uid, desired, now=house.clock())
        left = 2 if desired == "running" else 0
        await house.until(lambda left=left: len(house.engine.containers) == len(house.served) == left)  # type: ignore[misc]
    assert house.running("bad") == []
    assert rows(house)[2].phase == "Undone"


async def test_it_is_tried_again_when_somebody_asks(house: House) -> None:
    await bad(house)
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    house.engine.exit_codes["bad"] = 0
    with house.db.write() as db:
        revisions.restart(db, house.row, source="cli", now=house.clock())
    row = await house.settle()
    assert house.served == short(house.running("bad"))
    assert "undone" not in row.status
    assert rows(house)[1].phase == "Superseded"


async def test_another_revision_takes_over_from_the_one_that_came_back(house: House) -> None:
    await bad(house)
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    house.declare(spec("two"))
    await house.settle()
    assert house.served == short(house.running("two"))
    assert [row.phase for row in rows(house).values()] == ["Serving", "Undone", "Superseded"]


async def test_an_image_that_cannot_be_had_is_undone_by_the_deadline(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.images.missing.add("nowhere")
    house.declare(spec("nowhere"))
    await house.until(lambda: "nowhere" in house.row.message)
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    assert "could not begin within 300 s" in rows(house)[2].message
    assert "no image nowhere" in rows(house)[2].message
    assert house.served == short(house.running("one"))


async def test_who_wants_no_way_back_has_it_tried_for_ever(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad", rollout={"onFailure": "keep"}))
    await house.until(lambda: len(house.running("bad")) == 2)
    house.clock.now += house.settings.deploy_deadline_s
    await house.until(lambda: house.row.phase == "Degraded")
    assert "generation 1 goes on serving" in house.row.message
    house.engine.exit_codes["bad"] = 0
    await house.settle()
    assert house.served == short(house.running("bad"))


async def test_without_an_earlier_revision_it_fails_and_is_tried_again(house: House) -> None:
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    await house.until(lambda: len(house.running("bad")) == 2)
    house.clock.now += house.settings.deploy_deadline_s
    row = await house.run("Failed")
    assert rows(house)[1].phase == "Failed"
    house.engine.exit_codes["bad"] = 0
    row = await house.settle()
    assert (row.phase, rows(house)[1].phase) == ("Ready", "Serving")


async def test_a_daemon_that_comes_back_late_looks_before_it_judges(house: House) -> None:
    await bad(house)
    await house.controller.close()
    house.clock.now += 10 * house.settings.deploy_deadline_s
    house.engine.exit_codes["bad"] = 0  # ready, but no probe has said so yet
    house.controller = house.another()
    await house.settle()
    assert house.served == short(house.running("bad"))
    assert "Undone" not in house.reasons


async def test_a_rollback_runs_the_very_image_again_and_says_so(house: House) -> None:
    house.declare(spec("one", replicas=1))
    await house.settle()
    house.declare(spec("two", replicas=3))
    await house.settle()
    assert set(house.images.kept.values()) == {"one", "two"}
    found = roll_back(house)
    await house.settle()
    assert len(house.running("one")) == 3
    assert rows(house)[found.generation].copies == 1
    assert "RolledBack" in house.reasons


async def test_a_rollback_whose_image_is_gone_is_refused_in_words_and_harms_nobody(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    house.declare(spec("two"))
    await house.settle()
    house.images.missing.add("one")
    roll_back(house)
    row = await house.until(lambda: "gone" in house.row.message)
    assert "its image one is not on this machine" in row.message
    assert house.served == short(house.running("two"))
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 3)
    assert house.served == short(house.running("two"))


async def test_what_nobody_goes_back_to_is_let_go(house: House) -> None:
    for number in range(4):
        house.declare(spec(f"image-{number}"))
        await house.settle()
    await house.until(lambda: set(house.images.kept.values()) == {"image-2", "image-3"})
    with house.db.write() as db:
        resources.set_deleting(db, house.row.uid, now=house.clock())
    uid = house.row.uid
    while resources.find_uid(house.db.read, uid):
        await house.controller.reconcile(uid)
        await asyncio.sleep(0)
    assert house.images.kept == {}
    assert house.content.kept[-1] == set()


async def test_what_a_pin_names_and_is_gone_is_looked_up_anew_and_said(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    for desired in ("stopped", "running"):
        with house.db.write() as db:
            resources.set_desired(db, house.row.uid, desired, now=house.clock())
        if desired == "stopped":
            await house.run("Disabled")
            house.images.missing.add("one")
    await house.until(lambda: "LookedUpAnew" in house.reasons)
    assert "its image one is not on this machine" in next(e for e in house.events if e.reason == "LookedUpAnew").message
    house.images.missing.clear()
    await house.settle()


async def test_a_replica_of_the_serving_revision_that_cannot_be_made_makes_nobody_busy(house: House) -> None:
    """Its image is gone while another revision fails: told once, and tried every few seconds."""
    house.declare(spec("one"))
    await house.settle()
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad", rollout={"onFailure": "keep"}))
    await house.until(lambda: len(house.running("bad")) == 2)
    house.engine.missing_images.add("one")
    house.engine.end(house.running("one")[0].id, 1)
    await house.until(lambda: "NotMade" in house.reasons)
    again = await house.controller.reconcile(house.row.uid)
    assert again is not None
    assert again.after > 0.1
    assert house.reasons.count("NotMade") == 1
    house.engine.missing_images.clear()
    await house.until(lambda: len(house.running("one")) == 2 == len(house.served))


async def test_a_kill_at_any_instant_of_an_undoing_is_healed(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    rooms: tuple[tuple[object, tuple[str, ...]], ...] = (
        (house.engine, ("create", "start", "stop", "remove")),
        (house.router, ("set_route", "drain")),
    )
    house.engine.exit_codes["bad"] = 1
    for instant in range(100):
        house.declare(spec("bad", env=[{"name": "N", "value": str(instant)}]))
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        house.router.history.clear()
        generation = house.row.generation

        def over(mortality: Mortality = mortality, generation: int = generation) -> bool:
            house.clock.now += 30
            left = house.running("bad")
            return mortality.dead or (rows(house)[generation].phase == "Undone" and not left)

        survived = False
        try:
            await house.until(over)
            survived = not mortality.dead
        except Killed:
            pass
        await house.controller.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        house.controller = house.another()
        house.clock.now += house.settings.deploy_deadline_s
        await undo(house, generation)
        await house.until(lambda: len(house.engine.containers) == 2 == len(house.served))
        assert house.served == short(house.running("one"))
        assert all(targets for _, targets in house.router.history), "nobody served for a moment"
        if survived:
            assert instant > 8
            return
    raise AssertionError("it never ended")


async def passes(house: House, count: int = 10) -> list[float | None]:
    """When each of so many passes wants the next; the clock stands."""
    found = []
    for _ in range(count):
        again = await house.controller.reconcile(house.row.uid)
        found.append(again.after if again else None)
        await asyncio.sleep(0.002)
    return found


def desire(house: House, desired: str) -> None:
    house.clock.now += 1
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, desired, now=house.clock())


async def test_content_that_is_gone_whenever_a_replica_is_made_of_it_makes_nobody_busy(house: House) -> None:
    house.content.prepared = Prepared("ready", pin={"/d": {"name": "d", "volume": "content/x/y"}})
    house.declare(spec("one", replicas=4))
    await house.settle()
    house.content.gone = True
    for container in house.running():
        house.engine.end(container.id, 1)
    house.clock.now += 30
    assert all(after is None or after > 0.1 for after in (await passes(house, 20))[2:])
    assert house.reasons.count("LookedUpAnew") == 2
    assert house.content.looked_up_anew >= 2
    assert "was gone when one was made" in house.row.message
    house.content.gone = False
    await house.settle()
    assert len(house.served) == 4


async def test_what_an_earlier_revision_was_made_from_and_nobody_knows_makes_nobody_busy(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    with house.db.write() as db:
        rollouts.set_pin(db, house.row.uid, 1, None, began=house.clock())
    house.engine.end(house.running()[0].id, 1)
    house.images.gate.clear()
    house.declare(spec("two"))
    house.clock.now += 30
    assert all(after is not None and after > 0.1 for after in await passes(house))
    (event,) = [event for event in house.events if event.reason == "NotMade"]
    assert "what it was made from is not known any more" in event.message
    house.images.gate.set()
    await house.settle()


async def test_a_scale_lets_go_of_nothing_that_a_rollback_needs(house: House) -> None:
    for name in ("one", "two"):
        house.content.prepared = Prepared("ready", pin={"/d": {"name": "d", "volume": f"content/x/{name}"}})
        house.declare(spec(name))
        await house.settle()
    with house.db.write() as db:
        revisions.scale(db, house.row, 3, source="cli", now=house.clock())
    await house.until(lambda: rows(house)[3].phase == "Serving" and len(house.served) == 3)
    await passes(house, 3)
    assert set(house.images.kept.values()) == {"one", "two"}
    assert house.content.kept[-1] == {"content/x/one", "content/x/two"}


async def test_what_is_switched_off_keeps_the_image_that_it_goes_on_with(house: House) -> None:
    for document in (spec("one"), spec("two")):
        house.declare(document)
        await house.settle()
    house.declare(spec("two", enabled=False))
    await house.run("Disabled")
    await passes(house, 3)
    assert set(house.images.kept.values()) == {"one", "two"}


async def test_a_machine_that_was_off_in_the_middle_takes_no_time_from_a_revision(house: House) -> None:
    await bad(house)
    house.clock.now += 20
    await house.controller.close()
    for container in list(house.engine.containers.values()):
        house.engine.end(container.id, 143)
    house.clock.now += 600
    house.controller = house.another()
    began = house.clock.now
    while house.clock.now < began + 60:
        await house.controller.reconcile(house.row.uid)
        house.clock.now += 2
        await asyncio.sleep(0.005)
    assert rows(house)[2].phase == "Rolling"
    house.engine.exit_codes["bad"] = 0
    await house.settle()
    assert house.served == short(house.running("bad"))


async def test_what_is_applied_while_it_is_stopped_has_a_way_back(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    desire(house, "stopped")
    await house.run("Disabled")
    house.engine.exit_codes["bad"] = 1
    with house.db.write() as db:
        revisions.declare(db, house.declare(spec("bad")), now=house.clock())
    await house.run("Disabled")
    desire(house, "running")
    await house.until(lambda: len(house.running("bad")) == 2)
    assert not house.running("one"), "what was stopped does not come back beside it"
    house.clock.now += house.settings.deploy_deadline_s
    await undo(house, 2)
    await house.until(lambda: len(house.served) == 2)
    assert house.served == short(house.running("one"))
    assert rows(house)[1].phase == "Serving"


async def test_what_is_applied_while_it_is_stopped_and_is_good_takes_over(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    desire(house, "stopped")
    await house.run("Disabled")
    house.declare(spec("two"))
    desire(house, "running")
    await house.settle()
    assert {generation: row.phase for generation, row in rows(house).items()} == {1: "Superseded", 2: "Serving"}


async def test_a_secret_that_is_missing_for_a_while_changes_nothing_of_what_it_is_made_from(house: House) -> None:
    house.vault.set("TOKEN", "abcdefghijkl")
    house.declare(spec("one", env=[{"name": "T", "value": "secret:TOKEN"}]))
    await house.settle()
    pin = rows(house)[1].pin
    house.vault.delete("TOKEN")
    house.engine.end(house.running()[0].id, 1)
    house.clock.now += 30
    with pytest.raises(Conflict, match="no secret named 'TOKEN'"):
        await passes(house)
    assert rows(house)[1].pin == pin
    assert "LookedUpAnew" not in house.reasons
    house.vault.set("TOKEN", "abcdefghijkl")
    await house.settle()


async def test_who_has_to_leave_does_so_though_nobody_can_be_made(house: House) -> None:
    await bad(house)
    house.engine.missing_images.add("one")
    house.engine.end(house.running("one")[0].id, 1)
    house.clock.now += house.settings.deploy_deadline_s + 1
    async with asyncio.timeout(20):
        while house.running("bad"):
            with suppress(Conflict):
                await house.controller.reconcile(house.row.uid)
            house.clock.now += 0.05
            await asyncio.sleep(0.005)
    assert rows(house)[2].phase == "Undone"


async def test_an_undoing_says_that_it_lets_everybody_in_again(house: House) -> None:
    house.vault.set("KEY", "a-long-key")
    house.declare(spec("one"))
    await house.settle()
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad", endpoint={"keys": ["secret:KEY"]}))
    await house.until(lambda: len(house.running("bad")) == 2)
    house.clock.now += house.settings.deploy_deadline_s
    row = await undo(house, 2)
    assert "generation 1 lets callers in without a key" in row.message


async def test_what_cannot_be_let_go_now_is_let_go_later(house: House) -> None:
    for number in range(2):
        house.declare(spec(f"image-{number}"))
        await house.settle()
    let_go = house.images.let_go

    async def refuse(prefix: str, keep: object) -> None:
        raise EngineError("the engine is away")

    house.images.let_go = refuse  # type: ignore[method-assign]
    house.content.kept.clear()
    house.declare(spec("image-2"))
    await house.settle()
    await passes(house, 3)
    assert house.content.kept, "one that refuses keeps nothing else"
    assert "image-0" in house.images.kept.values()
    house.images.let_go = let_go  # type: ignore[method-assign]
    await passes(house, 3)
    assert set(house.images.kept.values()) == {"image-1", "image-2"}


async def test_a_clock_that_is_set_undoes_no_revision_and_keeps_none_waiting(house: House) -> None:
    await house.controller.close()
    set_by = 0.0
    house.counter = lambda: house.clock.now - set_by
    house.controller = house.another()
    await bad(house)
    for jump in (3600.0, -7200.0, 86_400.0):
        house.clock.now += jump
        set_by += jump
        await passes(house, 20)
        assert rows(house)[2].phase == "Rolling"
        assert house.row.phase == "Updating"
    house.clock.now += house.settings.deploy_deadline_s / 2
    await passes(house)
    assert rows(house)[2].phase == "Rolling"
    house.clock.now += house.settings.deploy_deadline_s / 2
    await undo(house, 2)
    began = house.clock.now - set_by
    house.engine.end(house.running("one")[0].id, 1)
    await house.until(lambda: len(house.served) == 1)
    house.clock.now -= 3600
    set_by -= 3600
    await house.until(lambda: len(house.served) == 2)
    assert house.clock.now - set_by - began < 60
