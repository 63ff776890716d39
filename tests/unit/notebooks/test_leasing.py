"""The GPUs of sessions: asked for, kept from one session to the next, given back; over an engine in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import GpuRefused
from appliance.notebooks.leasing import REFUSED_EVERY_S, stance
from appliance.notebooks.plan import LONG_SESSION_S, RESTARTS, Facts, Session, decide
from appliance.scheduler.leasing import LEASE, NO_GPU, NoGpus
from appliance.scheduler.types import LOCAL
from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.notebooks.test_controller import House
from tests.unit.scheduler.fakes import FakeLeases

pytestmark = pytest.mark.anyio
NOW = 10_000.0


@pytest.fixture
async def house(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    async def answers(*_: object) -> str:
        return ""

    monkeypatch.setattr("appliance.notebooks.jupyter.ask", answers)
    settings.home.mkdir(parents=True)
    house = House(settings, clock)
    try:
        yield house
    finally:
        await house.notebooks.close()
        house.db.close()


async def step(house: House) -> None:
    await house.controller.reconcile(house.row.uid)


async def test_a_session_has_its_cards_and_gives_them_back_when_it_is_gone(house: House) -> None:
    house.declare({"machine": "P4000", "owner": "anna", "priority": 7, "preemptible": True, "shutdown": "6h"})
    row = await house.run("Running")
    made = house.engine.specs[row.status["container"]]
    one = house.leases.of(row.uid)
    assert one
    assert tuple(made.gpus) == one.cards == ("GPU-0",)
    assert (made.labels[LEASE], one.container) == (one.lease, row.status["container"])
    assert (one.who.owner, one.priority, one.preemptible, one.bound_s) == ("anna", 7, True, 6 * 3600)
    house.ask("stopped")
    await house.run("Stopped")
    assert [who.uid for who in house.leases.released] == [row.uid]
    assert house.leases.left == ("GPU-0",)


@pytest.mark.parametrize("document", [{}, {"machine": "C5"}, {"machine": "P4000", "gpus": 0}])
async def test_a_notebook_without_gpus_asks_for_none(house: House, document: dict[str, Any]) -> None:
    house.declare(document)
    row = await house.run("Running")
    made = house.engine.specs[row.status["container"]]
    assert not made.gpus
    assert LEASE not in made.labels
    assert house.leases.left == ("GPU-0",)


async def test_it_waits_with_words_and_begins_when_it_is_its_turn(house: House) -> None:
    stranger = house.leases.take("other")
    house.declare({"gpus": 1})
    row = await house.run("Pending")
    assert row.message == "it waits for 1 GPU, behind run other"
    one = house.leases.of(row.uid)
    assert one
    assert (one.ready, one.who.owner) == (True, LOCAL)
    assert not house.engine.containers
    house.leases.release(stranger)
    assert (await house.run("Running")).message == ""


async def test_a_place_is_kept_and_no_card_idles_while_the_image_comes(house: House) -> None:
    house.images.gate.clear()
    row = house.declare({"gpus": 1, "image": "big"})
    await house.run("Preparing")
    one = house.leases.of(row.uid)
    assert one
    assert (one.ready, one.cards) == (False, ())
    place = one.place
    house.leases.take("other")
    house.images.gate.set()
    await house.run("Pending")
    one = house.leases.of(row.uid)
    assert one
    assert (one.ready, one.place) == (True, place)


async def test_one_that_cannot_begin_after_all_gives_its_card_to_others(house: House) -> None:
    house.declare({"gpus": 1})
    await house.run("Running")
    house.no_room = "the disk is full"
    uid = house.row.uid
    (container,) = house.engine.containers
    house.engine.end(container, 1)
    await house.run("Failed")
    house.clock.now += 60
    row = await house.run("Pending")
    assert row.message == "the disk is full"
    assert house.leases.left == ("GPU-0",)
    assert house.leases.of(uid), "its place in the queue stays"
    house.no_room = ""
    await house.run("Running")


async def test_a_crash_and_a_restart_keep_the_card_and_staying_down_does_not(house: House) -> None:
    house.declare({"gpus": 1})
    row = await house.run("Running")
    lease = house.leases.of(row.uid)
    assert lease
    await house.notebooks.changing.restart("nb")
    row = await house.run("Running")
    again = house.leases.of(row.uid)
    assert again
    assert again.lease == lease.lease
    assert house.leases.released == []
    for _ in range(RESTARTS + 1):
        kept = house.leases.of(row.uid)
        assert kept
        assert kept.lease == lease.lease
        house.engine.end(house.row.status["container"], 1)
        await step(house)
        house.clock.now += 31
        await step(house)
    assert house.row.phase == "Failed"
    assert house.leases.left == ("GPU-0",), "it stays down: others may have it"


async def test_another_machine_is_another_request_and_the_same_one_keeps_its_card(house: House) -> None:
    house.leases.total = ("GPU-0", "GPU-1")
    house.declare({"gpus": 1})
    row = await house.run("Running")
    before = house.leases.of(row.uid)
    assert before
    house.declare({"gpus": 1, "env": {"A": "1"}})
    row = await house.run("Running")
    await house.run("Running")
    same = house.leases.of(row.uid)
    assert same
    assert same.lease == before.lease
    house.declare({"gpus": 2})
    for _ in range(3):
        await step(house)
    row = house.row
    assert row.phase == "Running"
    assert len(house.engine.specs[row.status["container"]].gpus) == 2


async def test_a_session_is_not_ended_for_one_that_can_never_be(house: House) -> None:
    house.declare({"gpus": 1})
    container = (await house.run("Running")).status["container"]
    house.declare({"gpus": 16})
    for _ in range(3):
        await step(house)
    row = house.row
    assert (row.phase, row.status["container"]) == ("Running", container)
    assert row.message.startswith("the session of the spec before goes on; it asks for 16 GPUs")
    one = house.leases.of(row.uid)
    assert one
    assert (one.gpus, one.container) == (1, container), "its own lease is as it was"


async def test_without_a_driver_a_machine_type_runs_and_a_number_waits(house: House) -> None:
    class Without(NoGpus):
        def never(self, machine: str, gpus: int) -> str:
            return NO_GPU if gpus else ""

    house.leases = Without()  # type: ignore[assignment]
    house.notebooks = house.another()
    house.declare({"machine": "P4000"})
    await house.run("Running")
    house.declare({"gpus": 1})
    row = await house.run("Running")
    assert NO_GPU in row.message, "the session of before goes on"
    house.ask("stopped")
    await house.run("Stopped")
    house.ask("running")
    assert (await house.run("Pending")).message == NO_GPU


# -- making way, and a GPU that is lost


async def test_one_that_makes_way_ends_with_a_snapshot_and_waits_for_its_turn(house: House) -> None:
    house.declare({"gpus": 1})
    row = await house.run("Running")
    (house.store.path(house.workspaces.head(row.uid)) / "a.txt").write_text("work")
    house.notebooks.preempt(row.uid, "run urgent.3 is more urgent")
    house.notebooks.preempt(row.uid, "run urgent.3 is more urgent")
    urgent = house.leases.take("urgent.3")
    assert house.hints[-1] == row.uid
    row = await house.run("Pending")
    assert (row.desired, row.message) == ("running", "it waits for 1 GPU, behind run urgent.3")
    assert house.causes == ["start", "stop"]
    assert house.reasons.count("Preempted") == 1
    assert not house.engine.containers
    assert [who.uid for who in house.leases.released] == [row.uid]
    house.leases.release(urgent)
    await house.run("Running")
    assert house.leases.of(row.uid)


async def test_who_has_nothing_makes_no_way(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    house.notebooks.preempt(row.uid, "more urgent")
    house.notebooks.preempt("nobody", "more urgent")
    await step(house)
    assert house.row.status["container"] == row.status["container"]
    assert "Preempted" not in house.reasons


async def test_a_lost_gpu_means_another_session_but_not_for_ever(house: House) -> None:
    house.declare({"gpus": 1})
    row = await house.run("Running")
    seen = [row.status["container"]]
    for _ in range(RESTARTS):
        (house.store.path(house.workspaces.head(row.uid)) / "a.txt").write_text(str(seen))
        house.notebooks.gpu_lost(row.uid, "a reload of systemd took it away")
        await step(house)
        row = await house.run("Running")
        seen.append(row.status["container"])
    assert len(set(seen)) == RESTARTS + 1
    assert house.causes.count("stop") == RESTARTS
    assert house.leases.released == [], "the card itself is well: it stays the notebook's"
    for _ in range(3):
        house.notebooks.gpu_lost(row.uid, "a reload of systemd took it away")
        house.clock.now += LONG_SESSION_S
        await step(house)
    row = house.row
    assert row.status["container"] == seen[-1], "it goes on, for what it does without a GPU"
    assert "as those of 3 sessions before it" in row.message
    assert house.reasons.count("GpuLost") == RESTARTS + 1


async def test_what_the_engine_cannot_give_is_waited_for_and_is_no_crash(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(container_id: str) -> None:
        raise GpuRefused("no such device", hint="`appliance doctor` tells more")

    with monkeypatch.context() as patch:
        patch.setattr(house.engine, "start", refuse)
        house.declare({"gpus": 1})
        for _ in range(RESTARTS + 2):
            row = await house.run("Pending")
            assert row.message == "no such device; `appliance doctor` tells more"
            assert not house.engine.containers
            assert house.leases.left == ("GPU-0",), "it may be better off with another card"
            house.clock.now += REFUSED_EVERY_S
            await step(house)
    house.clock.now += REFUSED_EVERY_S
    await house.run("Running")
    assert "Failed" not in house.reasons


async def test_a_container_of_a_lease_that_is_gone_is_never_started(house: House) -> None:
    house.declare({"gpus": 1})
    start = house.engine.start

    async def killed(container_id: str) -> None:
        raise Killed

    house.engine.start = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await step(house)
    house.engine.start = start  # type: ignore[method-assign]
    (stale,) = house.engine.containers
    house.leases = FakeLeases()  # a backup of another day was restored: the card is somebody else's
    stranger = house.leases.take("other")
    house.notebooks = house.another()
    await house.run("Pending")
    assert stale not in house.engine.containers
    house.leases.release(stranger)
    row = await house.run("Running")
    assert row.status["container"] != stale


async def test_a_kill_at_any_instant_leads_to_one_session_with_the_card(house: House) -> None:
    house.declare({"gpus": 1})
    for instant in range(1000):
        mortality = Mortality(instant)
        house.notebooks = house.another()
        engine = {name: getattr(house.engine, name) for name in ("create", "start", "stop", "remove")}
        mortality.watch(house.engine, *engine)
        try:
            await house.run("Running")
            done = True
        except Killed:
            done = False
        for name, call in engine.items():
            setattr(house.engine, name, call)
        house.notebooks = house.another()
        row = await house.run("Running")
        one = house.leases.of(row.uid)
        assert one
        assert [found.labels[LEASE] for found in house.engine.containers.values()] == [one.lease]
        assert one.container == row.status["container"]
        house.ask("stopped")
        await house.run("Stopped")
        assert house.leases.left == ("GPU-0",)
        house.ask("running")
        if done:
            break
    else:
        raise AssertionError("there was always another instant")
    assert instant > 2


# -- the law

SESSIONS = st.builds(
    Session,
    id=st.just("s"),
    number=st.just(1),
    digest=st.sampled_from(["d", "other"]),
    state=st.sampled_from(["created", "running", "ended"]),
    crashes=st.integers(0, RESTARTS + 1),
    ready=st.booleans(),
    started=st.just(NOW - 60),
    ended=st.just(NOW - 40),
    closed=st.booleans(),
    interrupted=st.booleans(),
    lease=st.sampled_from(["", "mine", "of before"]),
)
FACTS = st.builds(
    Facts,
    wanted=st.booleans(),
    deleting=st.booleans(),
    digest=st.just("d"),
    asked=st.sampled_from([0.0, NOW]),
    sessions=st.lists(SESSIONS, max_size=1).map(tuple),
    image=st.sampled_from(["unknown", "busy", "ready", "failed"]),
    blocked=st.sampled_from(["", "blocked"]),
    lease=st.sampled_from(["unneeded", "waits", "granted", "impossible"]),
    lease_id=st.sampled_from(["", "mine"]),
    lease_message=st.just("it waits"),
    ousted=st.sampled_from(["", "it makes way"]),
)


@given(FACTS)
def test_what_is_done_agrees_with_what_is_had(facts: Facts) -> None:
    found, wanted = stance(facts), decide(facts, NOW)
    if wanted.verb == "begin":
        assert found == "ready", "a session begins with what was asked for just now"
        assert facts.lease in ("granted", "unneeded")
    if wanted.verb == "start":
        assert found == "ready"
        assert wanted.session
        assert wanted.session.lease == facts.lease_id, "it is on no card of somebody else's"
    if found == "release":
        assert not any(session.state != "ended" for session in facts.sessions), "nothing of it is on a card"
        assert wanted.verb in (None, "destroy")
    if any(session.state == "running" for session in facts.sessions):
        assert found == "keep"
    if facts.ousted and facts.sessions:
        assert wanted.verb in ("halt", "clear"), "it ends, and nothing begins before that"
