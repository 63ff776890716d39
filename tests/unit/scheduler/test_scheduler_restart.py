"""A daemon that is killed at any point goes on from there; what a backup did not know is adopted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.engine.labels import GPUS, Owner
from appliance.engine.types import Container
from appliance.scheduler.leasing import LEASE
from appliance.scheduler.types import Who
from appliance.state import leases
from appliance.state.db import copy_database
from tests.unit.scheduler.house import House, job, notebook

pytestmark = pytest.mark.anyio

ANNA, BEN = notebook("anna"), notebook("ben")
FORGET_S = 120.0


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "state.db")
    yield house
    house.db.close()


async def test_killed_after_the_grant(house: House) -> None:
    await house.scheduler.begin()
    before = house.ask(ANNA)
    await house.restart()
    assert house.ask(ANNA) == before
    assert house.ask(BEN).state == "waits"


async def test_killed_after_the_container_was_made(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    container = house.make(ANNA, tell=False)
    await house.restart()
    await house.passes(10 * FORGET_S)
    (lease,) = house.scheduler.snapshot().leases
    assert lease.container == container, "it was found by its label"
    assert house.ask(BEN).state == "waits"


async def test_killed_after_the_release(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    container = house.make(ANNA)
    house.run_on(container)
    house.ask(BEN)
    house.scheduler.release(ANNA)
    del house.containers[container]
    await house.restart()
    await house.passes()
    assert house.owners() == {"GPU-0": "anna"}, "its process is on the card"
    house.card(processes=())
    await house.passes()
    assert house.owners() == {"GPU-0": "ben"}


async def test_killed_between_a_release_and_its_successor(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    house.scheduler.release(ANNA, successor=BEN)
    await house.restart()
    house.ask(job("etl"), priority=100)
    house.containers.clear()
    await house.passes(3)
    await house.passes()
    assert house.owners() == {"GPU-0": "ben"}


async def test_who_waited_keeps_the_place_and_is_not_told_anew(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    house.now += 1
    house.ask(BEN)
    await house.restart()
    house.now += 1
    house.ask(notebook("cleo"))
    house.ask(BEN)
    assert [one.request.who.name for one in house.scheduler.snapshot().waiting] == ["ben", "cleo"]
    assert house.reasons("ben") == ["Waits"]


async def test_who_never_asks_again_is_forgotten(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.ask(BEN)
    await house.restart()
    for _ in range(6):
        await house.passes(FORGET_S / 4)
        house.scheduler.peek(BEN)
    assert house.owners() == {"GPU-0": "ben"}
    for _ in range(40):
        await house.passes(FORGET_S / 4)
    assert leases.every(house.db.read) == []


async def test_nobody_is_forgotten_while_the_engine_is_away(house: House) -> None:
    """Who cannot see its containers asks for nothing."""
    await house.scheduler.begin()
    house.ask(ANNA)
    house.ask(BEN)
    house.down = True
    for _ in range(40):
        await house.passes(FORGET_S)
    house.down = False
    await house.passes()
    assert house.scheduler.peek(ANNA).state == "granted"
    assert house.scheduler.peek(BEN).state == "waits"


async def test_a_container_that_runs_is_never_forgotten(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    await house.restart()
    for _ in range(40):
        await house.passes(FORGET_S)
    assert house.owners() == {"GPU-0": "anna"}


def container(
    lease: str, who: Who, cards: str, *, state: str = "running", part: str = "", digest: str = ""
) -> Container:
    labels = Owner("me", who.kind, who.name, who.uid, part or who.part, 1, digest).to_labels()
    made = (lease * 64)[:64]
    return Container(made, made, "i", "i", labels | {LEASE: lease, GPUS: cards}, state)


async def test_after_a_backup_was_restored_cards_belong_to_whoever_is_on_them(house: House, tmp_path: Path) -> None:
    await house.scheduler.begin()
    house.ask(ANNA)
    house.make(ANNA)
    copy_database(house.path, tmp_path / "backup.db")
    # life goes on after the backup: anna ends, ben has the card
    house.containers.clear()
    house.scheduler.release(ANNA)
    await house.passes(3)
    await house.passes()
    house.ask(BEN)
    made = house.make(BEN)
    house.db.close()
    house.path.unlink()
    (tmp_path / "backup.db").rename(house.path)
    for left in tmp_path.glob("state.db-*"):
        left.unlink()
    house.db = type(house.db)(house.path)
    house.build()
    house.run_on(made)
    await house.scheduler.begin()
    rows = {row.name: row for row in leases.every(house.db.read)}
    assert rows["ben"].state == "Held"
    assert rows["ben"].cards == ("GPU-0",)
    assert house.ask(job("etl")).state == "waits"
    house.scheduler.release(ANNA)
    await house.passes(3)
    await house.passes()
    assert house.owners() == {"GPU-0": "ben"}
    assert house.ask(BEN).cards == ("GPU-0",), "it keeps what it has, whatever its machine type is"


async def test_an_adopted_session_is_its_notebooks_own_again(house: House) -> None:
    """Whose lease in the backup was another one."""
    await house.scheduler.begin()
    house.ask(ANNA)
    house.containers["other"] = container("other", ANNA, "GPU-0")
    await house.restart()
    assert house.scheduler.peek(ANNA).lease == "other"
    house.look()
    await house.passes(3)
    await house.passes()
    assert [row.id for row in leases.every(house.db.read)] == ["other"]


async def test_what_has_ended_or_says_nonsense_is_not_adopted(house: House) -> None:
    house.containers = {
        "a": container("a", ANNA, "GPU-0", state="exited"),
        "b": container("b", ANNA, ""),
        "c": container("c", Who("workspace", "x", "y"), "GPU-0"),  # type: ignore[arg-type]
    }
    await house.scheduler.begin()
    assert leases.every(house.db.read) == []


async def test_an_adopted_replica_has_the_place_that_its_deployment_asks_for(house: House) -> None:
    web = Who("deployment", "web", "uid-web", "cafe-0")
    house.containers["a"] = container("a", web, "GPU-0", part="3-0", digest="cafe")
    await house.scheduler.begin()
    assert house.scheduler.peek(web).state == "granted"


@pytest.mark.parametrize("seed", range(5))
async def test_no_card_is_ever_two_containers_however_often_the_daemon_is_killed(tmp_path: Path, seed: int) -> None:
    """Random lives of six owners on two cards; processes linger, containers appear late, listings fail."""
    chance = random.Random(seed)
    house = House(tmp_path / "state.db", cards=2)
    people = [notebook(name) for name in "abc"] + [job(name) for name in "def"]
    made: dict[Who, str] = {}
    lease_of: dict[str, str] = {}
    granted = 0
    await house.scheduler.begin()
    for _ in range(200):
        who = chance.choice(people)
        answer = house.scheduler.peek(who)
        match chance.randrange(9):
            case 0 | 1:
                house.ask(who, chance.choice(["small", "small", "pair"]) if answer.state == "none" else "small")
            case 2 | 3 if answer.state == "granted" and who not in made:
                made[who] = house.make(who, tell=chance.random() < 0.7)
                granted += 1
                lease_of[made[who]] = answer.lease
                pids = {card: chance.randrange(10**6) for card in answer.cards}
                for card, pid in pids.items():
                    house.run_on(made[who], pid, int(card[-1]))
            case 4 if who in made:
                gone = made.pop(who)
                (house.state(gone, "exited") if chance.random() < 0.5 else house.containers.pop(gone))
                house.scheduler.noticed(gone, "die")
            case 5 if who not in made or chance.random() < 0.5:
                house.scheduler.release(who)
            case 6:
                await house.restart()
            case 7:
                house.down = not house.down
            case _:
                pass
        running = {one.id for one in house.containers.values() if one.state == "running"}
        for number in range(2):  # programs go some time after their container
            on = house.inventory.devices[number].processes or ()
            house.card(
                number, processes=tuple(p for p in on if house.groups[p.pid] in running or chance.random() < 0.8)
            )
        await house.passes(chance.choice([0.2, 1.0, 5.0]))
        on_card: dict[str, set[str]] = {}
        for one in house.containers.values():
            if one.state == "running":
                for card in one.labels[GPUS].split(","):
                    on_card.setdefault(card, set()).add(lease_of[one.id])
        assert all(len(ids) == 1 for ids in on_card.values()), "containers of two leases on one card"
        for row in leases.every(house.db.read):
            for card in row.cards if row.state in ("Granted", "Held") else ():
                assert on_card.get(card, {row.id}) == {row.id}, "given while another's container runs on it"
                programs = house.inventory.devices[int(card[-1])].processes or ()
                assert {lease_of[house.groups[p.pid]] for p in programs} <= {row.id}, "and while its program is on it"
    assert granted
    house.db.close()


async def test_who_is_to_make_way_is_told_again_by_the_next_daemon(house: House) -> None:
    await house.scheduler.begin()
    house.ask(ANNA, preemptible=True)
    house.make(ANNA)
    house.ask(BEN, priority=90)
    for _ in range(10):
        await house.passes(60)
        house.scheduler.peek(BEN)
        house.scheduler.peek(ANNA)
    assert [who for who, _ in house.preempted] == [ANNA]
    await house.restart()
    assert [who for who, _ in house.preempted] == [ANNA, ANNA]
