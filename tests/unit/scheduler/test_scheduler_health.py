"""Cards that fail, are lost, are drained and come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.errors import Conflict, NotFound
from appliance.gpu.sight import blank
from appliance.gpu.types import Process
from appliance.scheduler.draining import KILLED_XID, LOST_S, SAME_S
from appliance.state import gpu_cards
from tests.unit.scheduler.house import GIB, House, job, notebook, split, states

pytestmark = pytest.mark.anyio

ANNA, BEN, CLEO = notebook("anna"), notebook("ben"), notebook("cleo")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "state.db", cards=2)
    yield house
    house.db.close()


async def test_a_card_that_fails_is_given_to_nobody_and_its_holder_is_told(house: House) -> None:
    await house.scheduler.begin()
    assert house.ask(ANNA).cards == ("GPU-0",)
    house.make(ANNA)
    house.fail()
    assert (house.lost, house.faulty) == ([(ANNA, "fell off the bus")], []), "no fault of its program"
    assert house.reasons("anna") == ["Granted", "GpuFault"]
    assert house.reasons("gpu") == ["CardDrained"]
    assert house.scheduler.peek(ANNA).state == "granted", "what runs there goes on"
    assert states(house.scheduler.cards()) == ["drained", "ok"]
    assert house.ask(BEN).cards == ("GPU-1",)
    ok, words = house.scheduler.health()
    assert not ok
    assert "GPU 0 (A100) is drained: fell off the bus" in words


async def test_it_stays_drained_over_a_restart_until_somebody_says_so(house: House) -> None:
    await house.scheduler.begin()
    house.fail()
    await house.restart()
    assert states(house.scheduler.cards()) == ["drained", "ok"]
    house.scheduler.resume("GPU-0")
    house.scheduler.resume("GPU-0")
    assert states(house.scheduler.cards()) == ["ok", "ok"]
    assert house.reasons("gpu") == ["CardDrained", "CardBack"]


async def test_who_waits_is_given_the_card_that_comes_back(house: House) -> None:
    await house.scheduler.begin()
    for number in (0, 1):
        house.scheduler.drain(f"GPU-{number}", "its fan")
    house.scheduler.drain("GPU-1", "another reason")
    waits = house.ask(ANNA)
    assert waits.state == "waits"
    assert "its fan" in waits.words
    house.scheduler.resume("GPU-1")
    assert house.scheduler.peek(ANNA).cards == ("GPU-1",)
    assert house.changed == [ANNA]


async def test_what_is_no_card_is_refused(house: House) -> None:
    await house.scheduler.begin()
    with pytest.raises(NotFound):
        house.scheduler.drain("GPU-7", "a typing error")
    with pytest.raises(NotFound):
        house.scheduler.resume("GPU-7")
    house.scheduler.drain("GPU-1", "its fan")
    house.card(1, lost="it has fallen off the bus")
    with pytest.raises(Conflict, match="fallen off"):
        house.scheduler.resume("GPU-1")
    assert states(house.scheduler.cards()) == ["ok", "lost"]


async def test_a_fault_of_the_program_marks_its_run_and_drains_nothing(house: House) -> None:
    await house.scheduler.begin()
    house.ask(job("etl"))
    house.fail("run", words="illegal address", xid=31)
    assert house.faulty == [(job("etl"), "illegal address")]
    assert states(house.scheduler.cards()) == ["ok", "ok"]
    assert "GpuFault" not in house.reasons("etl.1"), "whoever runs it tells of it"
    house.fail("run", number=1, words="illegal address", xid=31)
    assert house.reasons("gpu") == ["GpuFault"], "nobody was on that one"


async def test_a_program_that_was_killed_says_nothing(house: House) -> None:
    await house.scheduler.begin()
    house.ask(job("etl"))
    house.fail("run", words="preemptive cleanup", xid=KILLED_XID)
    assert house.faulty == []
    assert house.reasons("gpu") == []


async def test_a_storm_of_faults_is_told_once(house: House) -> None:
    await house.scheduler.begin()
    for _ in range(300):
        house.fail("note", words="corrected", xid=92)
        house.elapsed += SAME_S / 100
    assert house.reasons("gpu") == ["GpuFault"]
    house.elapsed += SAME_S
    house.fail("note", words="corrected", xid=92)
    assert len(house.reasons("gpu")) == 2
    assert [one.words for one in house.scheduler.snapshot().faults] == ["corrected"]


async def test_only_the_instance_is_drained_that_the_fault_names(house: House) -> None:
    house.look(devices=(split(house.inventory.devices[0], "1g.10gb", "1g.10gb"), house.inventory.devices[1]))
    await house.scheduler.begin()
    house.fail("card", gi=1)
    assert states(house.scheduler.cards()) == ["ok", "drained", "ok"]
    house.fail("card", words="all of it")
    assert states(house.scheduler.cards()) == ["drained", "drained", "ok"]


async def test_a_card_that_is_lost_is_told_its_holder_once_and_not_at_the_first_moment(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    house.card(0, lost="it does not answer")
    await house.passes(LOST_S - 1)
    assert house.lost == []
    for _ in range(3):
        await house.passes(2)
    assert [who for who, _ in house.lost] == [ANNA]
    assert "it does not answer" in house.lost[0][1]


@pytest.mark.parametrize("bad", ["fails", "drained", "lost"])
async def test_who_begins_anew_does_so_on_a_card_that_is_well(house: House, bad: str) -> None:
    """Nothing new is put on the old one, be it by who had it before; and it is not the last in the queue for that."""
    await house.scheduler.begin()
    first = house.ask(ANNA)
    container = house.make(ANNA)
    house.ask(BEN)
    other = house.make(BEN)
    await house.passes()
    match bad:
        case "fails":
            house.fail()
        case "drained":
            house.scheduler.drain("GPU-0", "its fan")
        case "lost":
            house.card(0, lost="it does not answer")
    assert house.ask(CLEO).state == "waits"
    del house.containers[container]
    assert house.ask(ANNA).state == "waits"
    assert house.owners()["GPU-0"] == "anna", "it is not free before its container is known to be gone"
    del house.containers[other]
    house.scheduler.release(BEN)
    await house.passes()
    await house.passes()
    again = house.ask(ANNA)
    assert (again.state, again.cards) == ("granted", ("GPU-1",))
    assert again.lease != first.lease
    assert house.scheduler.peek(CLEO).state == "waits"


async def test_an_instance_that_was_made_anew_is_lost_to_its_holder(house: House) -> None:
    house.look(devices=(split(house.inventory.devices[0], "1g.10gb"), house.inventory.devices[1]))
    await house.scheduler.begin()
    assert house.ask(ANNA, "slice").cards == ("MIG-0-0",)
    container = house.make(ANNA)
    house.look(devices=house.inventory.devices[1:])
    await house.passes(1)
    await house.passes(LOST_S)
    assert [who for who, _ in house.lost] == [ANNA]
    del house.containers[container]
    house.scheduler.release(ANNA)
    await house.passes(3)
    await house.passes(3)
    assert house.owners() == {}


async def test_a_grant_that_nobody_used_yet_moves_to_another_card(house: House) -> None:
    await house.scheduler.begin()
    before = house.ask(ANNA)
    house.fail()
    await house.passes()
    after = house.scheduler.peek(ANNA)
    assert after.cards == ("GPU-1",)
    assert after.lease != before.lease, "a container that is being made with the first is not taken for its own"
    assert house.changed[-1] == ANNA
    assert "TakenBack" in house.reasons("anna")


async def test_a_watch_that_has_gone_silent_gives_nobody_a_card(house: House) -> None:
    await house.scheduler.begin()
    for _ in range(40):
        await house.passes(1, looks=False)
    assert house.ask(ANNA).state == "waits"
    assert not house.scheduler.health()[0]
    await house.passes()
    assert house.scheduler.peek(ANNA).state == "granted"


def test_old_faults_go(house: House) -> None:
    with house.db.write() as db:
        for number in range(gpu_cards.KEPT_FAULTS + 5):
            gpu_cards.add_fault(db, gpu_cards.FaultRow(number, "GPU-0", "note", "x", None, None))
        (count,) = db.execute("SELECT count(*) FROM gpu_faults").fetchone()
    assert count == gpu_cards.KEPT_FAULTS


async def test_who_takes_more_of_a_shared_card_than_its_share_is_told_and_then_ended(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA, "part")
    house.ask(BEN, "part")
    anna, ben = house.make(ANNA), house.make(BEN)
    house.groups |= {1: anna, 2: ben}

    def hold(gib: float | None) -> None:
        taken = None if gib is None else int(gib * GIB)
        house.card(processes=(Process(1, taken), Process(2, 9 * GIB)))

    hold(10.5)
    await house.passes()
    assert "GpuShare" in house.reasons("anna")
    hold(12)
    await house.passes()
    assert house.over == []
    await house.passes(29)
    assert house.over == []
    await house.passes(2)
    await house.passes(2)
    assert house.over == [anna], "once"
    assert "asked for 10 GiB" in house.events()[-1][2]
    assert house.faulty[0][0] == ANNA
    assert "GpuShare" not in house.reasons("ben")


async def test_nobody_is_ended_for_memory_that_cannot_be_seen(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA, "part")
    house.groups[1] = house.make(ANNA)
    house.card(processes=(Process(1, 20 * GIB),))
    await house.passes()
    house.card(processes=(Process(1, None),))
    await house.passes(60)
    await house.passes(60)
    assert house.over == []


async def test_trouble_of_the_driver_or_of_who_asks_it_loses_no_card(tmp_path: Path) -> None:
    house = House(tmp_path / "two.db", cards=2)
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    await house.passes()
    well = house.inventory
    deaf = tuple(blank(device) for device in well.devices)
    house.look(devices=deaf, ok=False, message="the library and the driver differ")
    for _ in range(4):
        await house.passes(30)
    assert (house.lost, states(house.scheduler.cards())) == ([], ["ok", "ok"])
    assert house.ask(BEN).words == "the library and the driver differ", "nobody knows what is on the other card"
    house.look(devices=well.devices, ok=True, message="found")
    await house.passes()
    assert house.owners() == {"GPU-0": "anna", "GPU-1": "ben"}


async def test_where_the_first_question_fails_a_machine_without_a_driver_is_found_out_later(house: House) -> None:
    house.watch.known = False
    house.look(devices=(), ok=False, message="the process was ended", driver=None, cuda=None)
    await house.scheduler.begin()
    assert house.ask(ANNA, "P4000").words == "the process was ended"
    house.watch.known = True
    house.look(ok=True, present=False, message="no driver")
    await house.passes()
    assert house.ask(ANNA, "P4000").state == "unneeded"


async def test_a_card_that_is_whole_again_waits_for_who_has_an_instance_of_before(house: House) -> None:
    await house.scheduler.begin()
    whole = house.inventory.devices[:1]
    house.look(devices=(split(whole[0], "1g.10gb"),))
    house.ask(ANNA, "slice")
    container = house.make(ANNA)
    house.look(devices=whole)
    assert house.ask(BEN, "small").state == "waits"
    await house.passes()
    assert house.scheduler.peek(BEN).state == "waits"
    del house.containers[container]
    house.scheduler.release(ANNA)
    await house.passes(3)
    await house.passes()
    assert house.owners() == {"GPU-0": "ben"}
