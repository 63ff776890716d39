"""What the front door is told: who waits for a replica, who may call, and within which bounds."""

from __future__ import annotations

import pytest

from appliance import revisions
from appliance.deployments.content import Prepared
from appliance.router.table import Access, Hold, Limits, Route
from appliance.state import resources, rollouts
from tests.unit.deployments.house import House, short, spec

pytestmark = pytest.mark.anyio


def route(house: House) -> Route:
    return house.router.routes["/deployments/web"]


async def test_requests_wait_for_a_replica_that_comes_back(house: House) -> None:
    house.declare(spec("one", replicas=1))
    await house.settle()
    held = Hold(house.settings.hold_s, house.settings.hold_most)
    assert route(house).hold == held
    house.engine.end(house.running()[0].id, 137)
    await house.until(lambda: not house.served)
    assert route(house).hold == held
    await house.settle()


async def test_nobody_waits_for_what_is_off_or_not_there_yet_or_ends_again_and_again(house: House) -> None:
    house.images.gate.clear()
    house.engine.exit_codes["one"] = 1
    house.declare(spec("one", replicas=1))
    await house.run("Preparing")
    assert route(house).hold is None, "an image may take an hour"
    house.images.gate.set()
    await house.run("Starting")
    assert route(house).hold is not None

    def crash() -> bool:
        for container in house.running():
            house.engine.end(container.id, 1)
        return house.row.phase == "Failed"

    await house.until(crash)
    assert route(house).hold is None
    house.engine.exit_codes["one"] = 0
    await house.settle()
    assert route(house).hold is not None
    with house.db.write() as db:
        resources.set_desired(db, house.row.uid, "stopped", now=house.clock())
    await house.run("Disabled")
    assert route(house).hold is None


async def test_asleep_it_keeps_what_it_is_made_of_and_wakes_as_it_was(house: House) -> None:
    document = spec("one", replicas=1)
    document["resources"]["scaleToZero"] = {"after": 60, "hold": 120}
    house.declare(document)
    await house.settle()
    house.load.asleep = True
    row = await house.run("Asleep")
    assert (row.message, house.engine.containers, house.served) == ("no request for 900 s", {}, set())
    assert route(house).hold == Hold(120.0, house.settings.hold_most)
    found = rollouts.find(house.db.read, row.uid, 1)
    assert found is not None
    assert (found.phase, found.began is None, row.status["generation_ready"]) == ("Serving", False, 1)
    house.images.missing.add("one")  # nobody looks for it by name
    house.load.asleep = False
    await house.settle()
    assert house.served == short(house.running("one"))


async def test_the_load_says_how_many_there_are_of_the_new_and_of_the_old_one(house: House) -> None:
    house.load.replicas_now = 3
    house.declare(spec("one", replicas=1))
    await house.settle()
    assert len(house.served) == 3
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad", replicas=1))
    await house.until(lambda: len(house.running("bad")) == 3)
    assert len(house.running("one")) == 3, "the one that serves does not shrink meanwhile"
    house.load.replicas_now = 4
    await house.until(lambda: len(house.served) == 4)
    assert len(rollouts_of(house)) == 2, "it is no revision"


def rollouts_of(house: House) -> list[rollouts.Rollout]:
    return list(rollouts.every(house.db.read, house.row.uid))


async def test_the_old_rules_hold_until_the_new_revision_has_taken_over(house: House) -> None:
    house.vault.set("OLD", "an-old-key")
    house.vault.set("NEW", "a-new-key")
    house.declare(spec("one", endpoint={"keys": ["secret:OLD"], "rate": "100/10s"}))
    await house.settle()
    old = route(house)
    assert old.access is not None
    assert (old.access.kind, len(old.access.sums), old.limits) == ("key", 1, Limits(100, 10.0))
    house.engine.exit_codes["two"] = 1
    house.declare(spec("two", endpoint={"keys": ["secret:NEW"], "timeout": 600}))
    await house.until(lambda: len(house.running("two")) == 2)
    assert (route(house).access, route(house).limits) == (old.access, old.limits)
    house.engine.exit_codes["two"] = 0
    await house.settle()
    assert route(house).access not in (None, old.access)
    assert route(house).limits == Limits(timeout_s=600.0)


async def test_where_the_password_is_not_known_any_more_nobody_gets_in(house: House) -> None:
    """A revision that an earlier version pinned, which froze no password."""
    house.vault.set("PW", "hunter2-long")
    document = {
        "apiVersion": "v1",
        "image": "one",
        "basicAuthKey": "secret:PW",
        "resources": {"machineType": "C4", "ports": [8000], "replicas": 1},
        "healthChecks": spec()["healthChecks"],
    }
    house.declare(document)
    row = await house.settle()
    frozen = route(house).access
    found = rollouts.find(house.db.read, row.uid, 1)
    assert found is not None
    former = {key: value for key, value in (found.pin or {}).items() if key != "access"}
    rollouts.set_pin(house.db.read, row.uid, 1, former, began=found.began)
    for lost in (False, True):
        if lost:
            assert "let everybody call it" in house.events[-1].message
            house.vault.delete("PW")
            rollouts.set_pin(house.db.read, row.uid, 1, former, began=found.began)
        await house.controller.close()
        house.controller = house.another()
        await house.controller.reconcile(row.uid)
        assert route(house).access == (Access("basic", frozenset()) if lost else frozen)
    assert house.row.phase == "Degraded"
    assert house.row.message.startswith("nobody is let in: no secret named 'PW'")
    assert house.reasons.count("KeysAsked") == 1
    house.vault.set("PW", "hunter2-long")
    await house.settle()
    assert route(house).access == frozen
    assert house.reasons.count("KeysAsked") == 2


async def test_keys_that_are_exchanged_and_not_known_say_that_those_of_before_still_let_in(house: House) -> None:
    house.vault.set("OLD", "an-old-key")
    house.declare(spec("one", endpoint={"keys": ["secret:OLD"]}))
    await house.settle()
    before = route(house).access
    with house.db.write() as db:
        revisions.declare(db, house.declare(spec("one", endpoint={"keys": ["secret:NEW"]})), now=house.clock())
    row = await house.run("Degraded")
    assert "no secret named 'NEW'" in row.message
    assert "the keys of before still let callers in" in row.message
    assert route(house).access == before
    house.vault.set("NEW", "a-new-key")
    await house.settle()
    assert route(house).access != before


async def test_keys_that_are_asked_for_later_and_not_known_let_nobody_in_and_the_deployment_says_so(
    house: House,
) -> None:
    """The replicas stay: only who may call is another."""
    house.declare(spec("one"))
    await house.settle()
    assert route(house).access is None
    running = {one.id for one in house.running()}
    house.declare(spec("one", endpoint={"keys": ["secret:LATER"]}))
    row = await house.run("Degraded")
    assert route(house).access == Access("basic", frozenset())
    assert "LATER" in row.message
    assert row.status["generation_ready"] == 1
    assert [("LATER" in one.message) for one in house.events if one.reason == "Degraded"] == [True]
    house.vault.set("LATER", "a-later-key")
    await house.settle()
    found = route(house).access
    assert found is not None
    assert (found.kind, len(found.sums)) == ("key", 1)
    house.declare(spec("one", endpoint={"keys": ["secret:LATER", "secret:TYPO"]}))
    await house.run("Degraded")
    assert route(house).access == found, "who had a key before still has it"
    assert {one.id for one in house.running()} == running


async def test_keys_need_no_disk(house: House) -> None:
    house.vault.set("KEY", "a-long-key")
    house.declare(spec("one"))
    await house.settle()
    house.no_room = "waits for disk space"
    house.declare(spec("one", endpoint={"keys": ["secret:KEY"]}))
    row = await house.settle()
    assert route(house).access is not None
    found = rollouts.find(house.db.read, row.uid, 2)
    assert found is not None
    assert found.phase == "Serving"
    assert (found.pin or {})["access"] is not None


async def test_content_is_fetched_before_the_first_replica_and_pinned(house: House) -> None:
    house.content.prepared = Prepared("unknown")
    house.declare(spec("one", replicas=1))
    await house.until(lambda: house.content.ensured)
    house.content.prepared = Prepared("busy", "repository web: 40 %")
    await house.until(lambda: "40 %" in house.row.message)
    assert house.engine.containers == {}
    house.content.prepared = Prepared("ready", pin={"/opt/repos": {"volume": "content/web/abc"}})
    row = await house.settle()
    (mount,) = house.engine.specs[house.running()[0].id].mounts
    assert (str(mount.source), mount.target, mount.read_only) == ("/volumes/content/web/abc", "/opt/repos", True)
    assert house.content.kept[-1] == {"content/web/abc"}
    found = rollouts.find(house.db.read, row.uid, 1)
    assert found is not None
    assert found.pin is not None
    assert found.pin["content"] == {"/opt/repos": {"volume": "content/web/abc"}}


async def test_requests_that_are_cut_are_told(house: House) -> None:
    house.declare(spec("one", replicas=1, rollout={"drain": 5}))
    await house.settle()
    house.router.in_time = False
    house.declare(spec("two", replicas=1, rollout={"drain": 5}))
    await house.settle()
    (cut,) = [event for event in house.events if event.reason == "Cut"]
    assert "were not done after 5 s" in cut.message or "not done after 5 s" in cut.message
    assert house.router.deadlines == [5.0]
