"""Leases as controllers meet them: asked for, given, told, let go and given on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import Conflict
from appliance.gpu.types import Device, Inventory
from appliance.scheduler.freeing import BLIND_S
from appliance.scheduler.leasing import NO_GPU
from appliance.scheduler.scheduler import MOST_FREE
from appliance.scheduler.types import Policy, Who
from appliance.spec.machines import Shape
from appliance.state import leases, ledger
from tests.unit.scheduler.house import GIB, NOW, House, job, notebook, split

pytestmark = pytest.mark.anyio

ANNA, BEN, CLEO = notebook("anna"), notebook("ben"), notebook("cleo")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def house(path: Path) -> Iterator[House]:
    house = House(path)
    yield house
    house.db.close()


async def test_what_is_free_is_given_at_once_and_what_is_taken_is_waited_for(house: House) -> None:
    await house.scheduler.begin()
    first = house.ask(ANNA)
    assert (first.state, first.cards, bool(first.lease)) == ("granted", ("GPU-0",), True)
    second = house.ask(BEN)
    assert second.state == "waits"
    assert "notebook anna" in second.words
    assert house.ask(ANNA) == first
    assert house.scheduler.peek(BEN) == house.ask(BEN)
    assert house.reasons("anna") == ["Granted"]
    assert house.reasons("ben") == ["Waits"]
    assert house.changed == [], "who asks is answered and needs no hint"


async def test_a_card_goes_to_the_next_only_when_nothing_of_the_container_is_on_it(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    container = house.make(ANNA)
    house.run_on(container)
    house.ask(BEN)
    house.scheduler.release(ANNA)
    assert house.scheduler.peek(ANNA).state == "none"
    await house.passes()
    assert house.scheduler.peek(BEN).state == "waits", "the container runs"
    house.state(container, "exited")
    house.scheduler.noticed(container, "die")
    for _ in range(40):  # longer than what is not seen is waited for
        await house.passes()
        assert house.scheduler.peek(BEN).state == "waits", "its process is on the card"
    assert "100" in house.scheduler.snapshot().leases[0].message
    del house.containers[container]
    await house.passes()
    assert house.scheduler.peek(BEN).state == "waits", "the container is gone, and its process is not"
    house.card(processes=())
    await house.passes()
    assert house.scheduler.peek(BEN).cards == ("GPU-0",)
    assert house.changed[-1] == BEN
    assert house.reasons("anna") == ["Granted", "Freed"]
    assert house.reasons("ben") == ["Waits", "Granted"]


async def test_a_look_from_before_the_end_says_nothing(house: House) -> None:
    """The program may have been begun after it."""
    await house.scheduler.begin()
    house.ask(ANNA)
    container = house.make(ANNA)
    house.ask(BEN)
    house.scheduler.release(ANNA)
    house.now += 1
    house.state(container, "exited")
    await house.passes(looks=False)
    assert house.scheduler.peek(BEN).state == "waits"
    await house.passes()
    assert house.scheduler.peek(BEN).state == "granted"


async def test_what_the_driver_does_not_tell_is_waited_for_some_time_and_said(house: House) -> None:
    await house.scheduler.begin()
    house.card(processes=None)
    house.ask(ANNA)
    container = house.make(ANNA)
    house.ask(BEN)
    house.scheduler.release(ANNA)
    del house.containers[container]
    await house.passes()
    await house.passes(BLIND_S - 1)
    assert house.scheduler.peek(BEN).state == "waits"
    await house.passes(2)
    assert house.scheduler.peek(BEN).state == "granted"
    assert "cannot be seen" in next(words for name, why, words in house.events() if (name, why) == ("anna", "Freed"))


async def test_pids_of_another_world_are_not_taken_for_nobody(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    container = house.make(ANNA)
    house.run_on(container)
    house.ask(BEN)
    house.groups.clear()
    assert house.scheduler.health()[0], "its card is not lost for that"
    house.scheduler.release(ANNA)
    del house.containers[container]
    await house.passes()
    await house.passes()
    assert house.scheduler.peek(BEN).state == "waits"


async def test_a_container_that_was_being_made_when_it_was_let_go_is_waited_for(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.ask(BEN)
    lease = house.scheduler.peek(ANNA)
    container = house.make(ANNA, tell=False)
    made = house.containers.pop(container)
    house.scheduler.release(ANNA)
    house.containers[container] = replace(made, state="created")  # between the release and the next listing
    await house.passes()
    assert house.scheduler.peek(BEN).state == "waits"
    house.state(container, "running")
    await house.passes(120)
    assert house.scheduler.peek(BEN).state == "waits"
    del house.containers[container]
    await house.passes(3)
    await house.passes()
    assert house.scheduler.peek(BEN).cards == lease.cards


async def test_a_container_that_appears_after_its_lease_is_gone_is_adopted(house: House) -> None:
    house.ask(ANNA)
    await house.scheduler.begin()
    container = house.make(ANNA, tell=False)
    made = house.containers.pop(container)
    house.scheduler.release(ANNA)
    await house.passes()
    await house.passes()
    assert house.owners() == {}
    house.containers[container] = made
    house.scheduler.noticed(container, "start")
    await house.passes()
    assert house.owners() == {"GPU-0": "anna"}
    assert house.ask(BEN).state == "waits"
    assert house.reasons("anna")[-1] == "Adopted"


async def test_while_nothing_changes_nothing_is_written(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    house.ask(BEN)
    await house.passes()
    before = house.db.read.total_changes
    for _ in range(25):
        await house.passes()
        house.ask(BEN)
        house.scheduler.peek(ANNA)
    assert house.db.read.total_changes == before
    assert house.changed.count(ANNA) == 0


async def test_nobody_is_given_anything_before_it_is_known_what_runs(house: House) -> None:
    house.down = True
    await house.scheduler.begin()
    assert house.ask(ANNA).state == "waits"
    assert "engine is away" in house.ask(ANNA).words
    house.down = False
    await house.passes()
    assert house.scheduler.peek(ANNA).state == "granted"
    assert house.changed == [ANNA, ANNA] or house.changed == [ANNA]


async def test_an_engine_that_is_away_frees_nothing(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    house.ask(BEN)
    house.down = True
    house.scheduler.release(ANNA)
    for _ in range(100):
        await house.passes(30)
    assert house.scheduler.peek(BEN).state == "waits"
    assert "away" in house.scheduler.snapshot().leases[0].message


async def test_without_a_driver_a_machine_type_runs_without_and_a_number_waits(house: House) -> None:
    house.look(devices=(), present=False, message="no driver")
    await house.scheduler.begin()
    assert house.ask(ANNA, "P4000").state == "unneeded"
    explicit = house.ask(BEN, "", gpus=2)
    assert (explicit.state, explicit.words) == ("waits", NO_GPU)
    assert house.scheduler.never("", 1) == NO_GPU
    assert house.scheduler.free_cards(Shape(gpus=1)) is None
    assert house.scheduler.health() == (True, "no driver")
    assert leases.every(house.db.read) == []


async def test_before_the_driver_was_asked_nobody_runs_without(path: Path) -> None:
    house = House(path)
    house.watch.known = False
    house.watch.latest = Inventory(NOW, message="being looked for", present=True)
    await house.scheduler.begin()
    assert house.ask(ANNA, "P4000").state == "waits"
    assert house.ask(BEN, "C5").state == "unneeded"
    house.watch.known = True
    house.look(devices=(), present=False)
    await house.scheduler.tick()
    assert ANNA in house.changed
    assert house.ask(ANNA, "P4000").state == "unneeded"
    assert house.scheduler.peek(ANNA).state == "none"
    house.db.close()


async def test_a_driver_that_goes_away_takes_no_lease(house: House) -> None:
    await house.scheduler.begin()
    before = house.ask(ANNA)
    house.look(devices=(), present=False, ok=False, message="the driver is gone")
    await house.passes()
    assert house.ask(ANNA) == before
    assert "the driver is gone" in house.ask(BEN).words
    assert house.lost == []


async def test_one_whose_image_is_not_here_keeps_its_place_and_holds_nothing(house: House) -> None:
    await house.scheduler.begin()
    assert house.ask(ANNA, ready=False).state == "waits"
    house.now += 10
    assert house.ask(BEN).state == "granted"
    assert "Waits" not in house.reasons("anna")
    house.now += 10
    house.ask(CLEO)
    house.ask(ANNA)
    house.scheduler.release(BEN)
    await house.passes()
    await house.passes()
    assert house.owners() == {"GPU-0": "anna"}


async def test_another_shape_begins_anew_and_the_same_one_stays_whatever_the_cards_are(house: House) -> None:
    house.card(name="A100")
    await house.scheduler.begin()
    first = house.ask(ANNA, "P4000")
    house.make(ANNA)
    house.look(devices=(*house.inventory.devices, Device("GPU-9", 9, "tiny", memory=GIB, processes=())))
    assert house.ask(ANNA, "P4000") == first
    assert house.ask(ANNA, "pair").state in ("waits", "impossible")
    assert [row.state for row in leases.every(house.db.read)] == ["Freeing", "Waiting"]


async def test_a_change_of_terms_changes_no_place(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.ask(BEN)
    asked = leases.live(house.db.read, "notebook", BEN.uid, "")
    house.now += 100
    house.ask(BEN, priority=40, bound_s=60.0, preemptible=True)
    after = leases.live(house.db.read, "notebook", BEN.uid, "")
    assert asked
    assert after
    assert (after.id, after.asked, after.priority, after.bound_s, after.preemptible) == (
        *(asked.id, asked.asked),
        *(40, 60.0, True),
    )


async def test_a_successor_has_the_cards_before_any_stranger(house: House) -> None:
    old, new = Who("deployment", "web", "uid-web", "old-0"), Who("deployment", "web", "uid-web", "new-0")
    await house.scheduler.begin()
    house.ask(old)
    container = house.make(old)
    house.run_on(container)
    house.ask(ANNA, priority=100)
    house.ask(new, priority=-100)
    house.scheduler.release(old, successor=new)
    assert house.scheduler.peek(new).state == "waits", "the old one is still on it"
    await house.passes()
    del house.containers[container]
    house.card(processes=())
    await house.passes(3)
    await house.passes()
    assert house.scheduler.peek(new).cards == ("GPU-0",)
    assert house.scheduler.peek(ANNA).state == "waits"
    assert new in house.changed


async def test_a_successor_that_is_let_go_before_leaves_the_cards_to_all(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.ask(CLEO)
    house.scheduler.release(ANNA, successor=BEN)
    house.scheduler.release(BEN)
    await house.passes()
    await house.passes()
    assert house.owners() == {"GPU-0": "cleo"}


async def test_who_makes_way_is_told_once_and_keeps_its_place(path: Path) -> None:
    house = House(path, options={"policy": Policy(preempt_after_s=60)})
    await house.scheduler.begin()
    house.ask(ANNA, preemptible=True, priority=-50)
    container = house.make(ANNA)
    house.now += 5
    house.ask(BEN, priority=50)
    house.ask(CLEO, priority=-50)
    for _ in range(10):
        await house.passes(10)
        house.ask(BEN, priority=50)
    assert [who for who, _ in house.preempted] == [ANNA]
    del house.containers[container]
    house.scheduler.release(ANNA)
    house.scheduler.release(ANNA)
    house.ask(ANNA, preemptible=True, priority=-50)
    await house.passes()
    await house.passes()
    assert house.owners() == {"GPU-0": "ben"}
    places = [one.request.who.name for one in house.scheduler.snapshot().waiting]
    assert places == ["anna", "cleo"]
    house.db.close()


async def test_a_release_that_is_undone_was_none(house: House) -> None:
    """Controllers release in the transaction of whatever ended; that may fail."""
    await house.scheduler.begin()
    before = house.ask(ANNA)
    with pytest.raises(RuntimeError), house.db.write():  # noqa: PT012 -- the block is the transaction
        house.scheduler.release(ANNA)
        raise RuntimeError
    await house.passes()
    await house.passes()
    assert house.ask(ANNA) == before
    with pytest.raises(RuntimeError), house.db.write():  # noqa: PT012 -- the block is the transaction
        house.ask(BEN)
        raise RuntimeError
    assert house.scheduler.peek(BEN).state == "none"


async def test_shares_lie_side_by_side_and_whole_cards_do_not(house: House) -> None:
    await house.scheduler.begin()
    assert house.scheduler.free_cards(Shape(gpus=1, share=10 * GIB)) == 7
    assert house.scheduler.free_cards(Shape(gpus=1)) == 1
    assert house.ask(ANNA, "part").state == house.ask(BEN, "part").state == "granted"
    assert house.ask(CLEO).state == "waits"
    assert house.scheduler.free_cards(Shape(gpus=1)) == 0
    assert house.scheduler.waited_for(ANNA.uid) == "notebook cleo"
    assert house.scheduler.waited_for(CLEO.uid) == ""


def test_the_database_itself_refuses_to_give_a_card_twice(house: House) -> None:
    house.ask(ANNA)
    house.ask(BEN)
    one, two = leases.every(house.db.read)
    with house.db.write() as db:
        leases.take(db, one.id, ["GPU-0"], alone=True)
    for alone in (True, False):
        with pytest.raises(Conflict, match="belongs to"), house.db.write() as db:
            leases.take(db, two.id, ["GPU-1", "GPU-0"], alone=alone)
    with house.db.write() as db:
        leases.take(db, two.id, ["GPU-1"], alone=False)
    with pytest.raises(Conflict), house.db.write() as db:
        leases.take(db, one.id, ["GPU-1"], alone=True)
    with pytest.raises(Exception, match="UNIQUE"), house.db.write() as db:
        db.execute("INSERT INTO lease_cards VALUES ('GPU-0', ?, 0, 1)", (two.id,))


async def test_a_gpu_that_works_is_busy_and_one_that_is_not_seen_is_neither(house: House) -> None:
    await house.scheduler.begin()
    assert house.scheduler.gpu_busy(ANNA.uid) is False
    house.ask(ANNA)
    assert house.scheduler.gpu_busy(ANNA.uid) is False
    house.card(utilisation=1)
    assert house.scheduler.gpu_busy(ANNA.uid) is True
    house.card(utilisation=0)
    await house.passes(60)
    assert house.scheduler.gpu_busy(ANNA.uid) is False
    house.card(utilisation=None)
    assert house.scheduler.gpu_busy(ANNA.uid) is None


async def test_held_time_is_in_the_ledger_to_the_second(house: House) -> None:
    await house.scheduler.begin()
    house.ask(job("etl", owner="ann"))
    container = house.make(job("etl", owner="ann"))
    await house.passes(45)
    await house.restart()
    await house.passes(600)
    del house.containers[container]
    house.scheduler.release(job("etl"))
    await house.passes(3)
    assert house.owners() == {}
    (total,) = [one for one in ledger.totals(house.db.read, "owner", since=NOW - 3600) if one.key == "ann"]
    assert total.held_s == pytest.approx(house.now - NOW, abs=3.1)


async def test_an_estimate_comes_from_earlier_runs(house: House) -> None:
    await house.scheduler.begin()
    for seconds in (100, 100):
        who = job("etl")
        house.ask(who)
        container = house.make(who)
        await house.passes(seconds)
        house.scheduler.release(who)
        del house.containers[container]
        await house.passes(3)
    house.ask(job("etl"))
    house.ask(BEN)
    (wait,) = house.scheduler.snapshot().waiting
    assert wait.wait.forecast == pytest.approx(house.now + 100, abs=1)


async def test_instances_are_leased_where_a_card_is_split(house: House) -> None:
    house.look(devices=(split(house.inventory.devices[0], "1g.10gb", "1g.10gb"),))
    await house.scheduler.begin()
    given = [house.ask(who, "", gpus=0) for who in (ANNA,)]
    assert given[0].state == "unneeded"
    found = house.scheduler.free_cards(Shape(gpus=1, mig="1g.10gb"))
    assert found == 2
    assert "split" in house.scheduler.never("small", 0)


async def test_a_grant_does_not_wake_everybody_who_waits_each_time(house: House) -> None:
    await house.scheduler.begin()
    crowd = [notebook(f"n{number}") for number in range(20)]
    for who in crowd:
        house.now += 1
        house.ask(who)
    house.make(crowd[0])
    await house.passes(20)
    house.changed.clear()
    for who in crowd[1:4]:  # each gives up, so all behind it move up
        house.scheduler.release(who)
        await house.passes(1)
    first = len(house.changed)
    assert first <= 2 * len(crowd), "told once, not at each of the three"
    await house.passes(20)
    last = house.scheduler.peek(crowd[-1])
    assert "place 16" in last.words
    assert house.changed[first:].count(crowd[-1]) == 1, "and of where it stands by now, later"


async def test_to_count_what_could_begin_takes_no_longer_for_small_shares(house: House) -> None:
    await house.scheduler.begin()
    assert house.scheduler.free_cards(Shape(gpus=1, share=GIB // 64)) == MOST_FREE
