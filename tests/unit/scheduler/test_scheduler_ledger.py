"""The ledger as the scheduler keeps it: leases, samples and programs of real passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.api import gpus
from appliance.gpu.types import Process
from appliance.state import ledger
from tests.unit.scheduler.house import GIB, House, job, notebook, split

pytestmark = pytest.mark.anyio

ANNA, BEN = notebook("anna", "ann"), notebook("ben", "ben")
WATTS = 300.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "state.db", options={"forget_s": 1e9})
    yield made
    made.db.close()


async def seconds(house: House, count: int, *, busy: int = 0) -> None:
    for _ in range(count):
        house.now += 1
        house.elapsed += 1
        before = house.inventory.devices[0].energy_j or 0.0
        house.card(utilisation=busy, energy_j=before + WATTS)
        await house.scheduler.tick()


def energies(house: House) -> dict[str, float]:
    return {row.key: row.energy_j or 0.0 for row in ledger.totals(house.db.read, "owner", since=0)}


async def test_a_card_that_goes_from_one_to_the_next_is_counted_to_the_last_joule(house: House) -> None:
    house.card(energy_j=5.0)
    await house.scheduler.begin()
    await seconds(house, 10)
    house.ask(ANNA)
    container = house.make(ANNA)
    house.run_on(container)
    await seconds(house, 40, busy=50)
    house.ask(job("etl", owner="ben"))
    house.scheduler.release(ANNA)
    house.containers.clear()
    house.card(processes=())
    await seconds(house, 5)
    assert house.owners() == {"GPU-0": "etl.1"}
    await seconds(house, 60, busy=100)
    house.scheduler._ledger.flush(house.now)
    found = energies(house)
    assert sum(found.values()) == pytest.approx((house.inventory.devices[0].energy_j or 0) - 5.0)
    assert found["ann"] == pytest.approx(40 * WATTS, abs=4 * WATTS)
    assert found["ben"] >= 60 * WATTS
    assert found["(idle)"] == pytest.approx(10 * WATTS, abs=2 * WATTS)
    used = {row.key: row.used_s for row in ledger.totals(house.db.read, "owner", since=0)}
    assert used["ann"] == pytest.approx(20, abs=1)
    assert used["ben"] == pytest.approx(60, abs=1)


async def test_what_is_shown_names_the_holder_and_how_much_it_uses(house: House) -> None:
    house.card(energy_j=0.0)
    await house.scheduler.begin()
    for who in (ANNA, BEN):
        house.ask(who, "part")
    one, two = house.make(ANNA), house.make(BEN)
    house.groups |= {100: one, 200: two}
    house.card(processes=(Process(100, 8 * GIB, sm=60), Process(200, GIB, sm=20)))
    await seconds(house, 3, busy=80)
    (shown,) = gpus.gpus(house.scheduler.snapshot())["items"]
    used = {holder["name"]: holder["used"] for holder in shown["cards"][0]["holders"]}
    assert used == {"anna": pytest.approx(60), "ben": pytest.approx(20)}
    assert [lease["asks"] for lease in gpus.leases(house.scheduler.snapshot())] == ["10 GiB of a GPU"] * 2


async def test_an_instance_is_shown_with_its_holder_and_no_use_that_nobody_knows(house: House) -> None:
    house.look(devices=(split(house.inventory.devices[0], "1g.10gb", "2g.20gb"),))
    await house.scheduler.begin()
    house.ask(ANNA, "slice")
    house.make(ANNA)
    await house.passes(1)
    await house.passes(1)
    (shown,) = gpus.gpus(house.scheduler.snapshot())["items"]
    assert [[holder["used"] for holder in card["holders"]] for card in shown["cards"]] == [[None], []]
    assert [lease["asks"] for lease in gpus.leases(house.scheduler.snapshot())] == ["1g.10gb"]


async def test_a_quiet_machine_is_written_to_seldom(house: House) -> None:
    house.card(energy_j=0.0)
    await house.scheduler.begin()
    await house.passes(1)
    changes = house.db.read.total_changes
    await seconds(house, 300)
    assert house.db.read.total_changes == changes
    await seconds(house, 310)
    assert energies(house).keys() == {"(idle)"}
