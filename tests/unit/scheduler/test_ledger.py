"""The hourly rows: exact seconds whatever the daemon does, and samples added up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gpu.types import Device, Inventory, Process
from appliance.scheduler import ledger as books
from appliance.scheduler.ledger import Ledger, Profile, hours, part_of
from appliance.scheduler.types import Held, Request, Who
from appliance.spec.machines import Shape
from appliance.state import leases, ledger
from appliance.state.db import Database

HOUR = 480_000 * 3600.0
GRANTED = HOUR + 600
CARD = Device("GPU-1", 0, memory=80 * 10**9, energy_j=1000.0, utilisation=100, processes=(Process(7, 10**9),))


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "state.db")
    yield opened
    opened.close()


def granted(db: Database, name: str = "a", *cards: str, state: leases.State = "Held", **shape: object) -> Held:
    row = leases.LeaseRow(
        *(name, "notebook", name, f"uid-{name}", "", "ada", "A100", 0, {"gpus": 1, **shape}, 0, False, None),
        state=state,
        asked=GRANTED,
        granted=GRANTED,
    )
    with db.write() as writing:
        leases.add(writing, row)
        leases.take(writing, name, cards or ("GPU-1",), alone=not shape)
    return Held(Request(name, Who("notebook", name, f"uid-{name}", owner="ada"), Shape(1)), cards, GRANTED)


def held_s(db: Database) -> list[tuple[float, str, float]]:
    return [(row.hour - HOUR, row.device, row.held_s) for row in ledger.rows(db.read, since=0) if row.held_s]


def test_seconds_held_are_exact_over_a_time_without_a_daemon(db: Database) -> None:
    granted(db)
    Ledger(db).flush(GRANTED + 45)
    # three hours later, another daemon on the same state
    again = Ledger(db)
    again.flush(GRANTED + 3 * 3600)
    with db.write() as writing:
        again.settle(writing, "a", GRANTED + 3 * 3600 + 7)
        leases.remove(writing, "a")
    again.flush(GRANTED + 4 * 3600)
    assert held_s(db) == [(0, "GPU-1", 3000), (3600, "GPU-1", 3600), (7200, "GPU-1", 3600), (10_800, "GPU-1", 607)]
    assert ledger.totals(db.read, "owner", since=0)[0].held_s == 3 * 3600 + 7


def test_nothing_is_counted_twice_nor_taken_back(db: Database) -> None:
    granted(db)
    book = Ledger(db)
    for at in (100, 100, 50, 100, 130, -10):
        book.flush(GRANTED + at)
    assert held_s(db) == [(0, "GPU-1", 130)]


def test_one_that_waits_holds_nothing(db: Database) -> None:
    granted(db, state="Waiting")
    Ledger(db).flush(GRANTED + 100)
    assert held_s(db) == []


def test_each_card_of_a_lease_counts(db: Database) -> None:
    granted(db, "a", "GPU-1", "GPU-2")
    Ledger(db).flush(GRANTED + 100)
    assert held_s(db) == [(0, "GPU-1", 100), (0, "GPU-2", 100)]


@pytest.mark.parametrize("jump", [1.8e9, 3600.0, -86_400.0])
def test_a_clock_that_is_set_makes_nobody_richer(db: Database, jump: float) -> None:
    elapsed = 0.0
    book = Ledger(db, lambda: elapsed)
    book.due(GRANTED, busy=True)
    granted(db, "a", "GPU-1")
    elapsed = 30.0
    book.flush(GRANTED + 30)
    elapsed = 60.0
    book.flush(GRANTED + 60 + jump)
    elapsed = 90.0
    with db.write() as writing:
        book.settle(writing, "a", GRANTED + 90 + jump)
    assert sum(seconds for _, _, seconds in held_s(db)) == pytest.approx(90)


def test_an_instance_counts_as_its_slices_and_a_shared_card_as_the_memory_that_was_promised(db: Database) -> None:
    book = Ledger(db)
    book.sampled(Inventory(GRANTED, (CARD,)), (), {})
    granted(db, "a", "MIG-1", mig="2g.20gb")
    granted(db, "b", "GPU-1", share=20 * 10**9)
    book.flush(GRANTED + 70)
    assert held_s(db) == [(0, "GPU-1", 17.5), (0, "MIG-1", 20.0)]


@pytest.mark.parametrize(
    ("profile", "part"),
    [
        (Profile(), 1.0),
        (Profile("1g.10gb"), 1 / 7),
        (Profile("7g.80gb"), 1.0),
        (Profile("1c.3g.40gb"), 1 / 7),
        (Profile(share=10), 1.0),
        (Profile(share=10, memory=40), 0.25),
        (Profile(share=99, memory=40), 1.0),
    ],
)
def test_parts_of_a_gpu(profile: Profile, part: float) -> None:
    assert part_of(profile) == pytest.approx(part)


@given(st.floats(0, 4e9), st.floats(0, 10 * 3600))
def test_hours_add_up(since: float, seconds: float) -> None:
    found = list(hours(since, since + seconds))
    assert sum(part for _, part in found) == pytest.approx(seconds, abs=1e-5)
    assert all(0 <= part <= 3600 and hour % 3600 == 0 for hour, part in found)
    assert len({hour for hour, _ in found}) == len(found)


def look(book: Ledger, at: float, energy: float, *held: Held, **more: object) -> None:
    device = replace(CARD, energy_j=1000.0 + energy, **more)  # type: ignore[arg-type]
    book.sampled(Inventory(GRANTED + at, (device,)), held, {7: "a"})


def test_samples_add_up_to_the_cards_counter(db: Database) -> None:
    book, lease = Ledger(db), replace(granted(db), cards=("GPU-1",))
    for second in range(11):
        look(book, second, second * 300.0, *([lease] if 2 < second <= 6 else []))
        if second in (4, 8):
            book.flush(GRANTED + second)
    book.flush(GRANTED + 10)
    found = {row.kind: row for row in ledger.rows(db.read, since=0)}
    assert sum(row.energy_j or 0 for row in found.values()) == pytest.approx(3000.0)
    mine = found["notebook"]
    assert (mine.held_s, mine.used_s, mine.memory_gb_s, mine.energy_j, mine.measured) == (10, 4, 4, 1200, True)
    assert found["unattributed"].used_s == pytest.approx(6.0)  # its program was there without a lease
    assert (found["unattributed"].owner, found["unattributed"].held_s) == ("(unattributed)", 0.0)


def test_a_look_that_is_told_twice_counts_once(db: Database) -> None:
    book, lease = Ledger(db), replace(granted(db), cards=("GPU-1",))
    for at in (0, 0, 1, 1, 1):
        look(book, at, at * 300.0, lease)
    book.flush(GRANTED + 1)
    assert [row.energy_j for row in ledger.rows(db.read, since=0)] == [300.0]


def test_a_driver_that_was_away_for_a_moment_loses_no_energy(db: Database) -> None:
    book, lease = Ledger(db), replace(granted(db), cards=("GPU-1",))
    look(book, 0, 0.0, lease)
    book.sampled(Inventory(GRANTED + 1, (), ok=False, message="it does not answer"), [lease], {})
    look(book, 40, 4000.0, lease)
    book.flush(GRANTED + 40)
    (row,) = ledger.rows(db.read, since=0)
    assert (row.energy_j, row.used_s, row.held_s) == (4000.0, None, 40.0)


def test_what_could_not_be_written_is_written_the_next_time(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    book, lease = Ledger(db), replace(granted(db), cards=("GPU-1",))
    look(book, 0, 0.0, lease)
    look(book, 1, 300.0, lease)

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "change", full)
        with suppress(sqlite3.OperationalError):
            book.flush(GRANTED + 1)
    assert ledger.rows(db.read, since=0) == []
    look(book, 2, 600.0, lease)
    book.flush(GRANTED + 2)
    (row,) = ledger.rows(db.read, since=0)
    assert (row.energy_j, row.held_s, row.used_s) == (600.0, 2.0, 2.0)


def test_it_is_due_twice_a_minute_and_seldom_where_nobody_holds_a_card(db: Database) -> None:
    book = Ledger(db)
    assert not book.due(GRANTED, busy=True)
    assert not book.due(GRANTED + books.FLUSH_S - 1, busy=True)
    assert book.due(GRANTED + books.FLUSH_S, busy=True)
    assert not book.due(GRANTED + books.FLUSH_S, busy=False)
    assert book.due(GRANTED + books.IDLE_FLUSH_S, busy=False)
    book.flush(GRANTED + 600)
    assert not book.due(GRANTED + 601, busy=True)
    assert not book.due(GRANTED - 5000, busy=True)  # a clock that was set back
    assert book.due(GRANTED - 5000 + books.FLUSH_S, busy=True)


def test_rows_of_one_holder_in_an_hour_are_one(db: Database) -> None:
    """A notebook that was stopped and started."""
    for name, begin in (("one", 0), ("two", 100)):
        row = leases.LeaseRow(
            *(name, "notebook", "lab", "uid", "", "ada", "A100", 0, {"gpus": 1}, 0, False, None, "Held"),
            asked=GRANTED + begin,
            granted=GRANTED + begin,
        )
        with db.write() as writing:
            leases.add(writing, row)
            leases.take(writing, name, ["GPU-1"], alone=True)
        with db.write() as writing:
            Ledger(db).settle(writing, name, GRANTED + begin + 40)
            leases.remove(writing, name)
    assert held_s(db) == [(0, "GPU-1", 80)]
    with db.write() as writing:
        Ledger(db).settle(writing, "one", GRANTED + 500)
    assert held_s(db) == [(0, "GPU-1", 80)]
