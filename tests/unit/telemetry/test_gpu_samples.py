"""What GPUs did: ten seconds a row, stored, asked for by SQL, and gone when it is old."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest

from appliance.gpu.types import Device, Inventory
from appliance.telemetry import database, store
from appliance.telemetry.database import GPU_SAMPLES, MIGRATIONS
from appliance.telemetry.gpu_samples import MOST_CARDS, WINDOW_S, Samples
from appliance.telemetry.telemetry import Telemetry

pytestmark = pytest.mark.anyio

NOW = float(int(time.time()) // WINDOW_S * WINDOW_S) - 600
CARD = Device("GPU-1", 0, utilisation=40, used=100, power_w=200.0, temperature=60, energy_j=10.0, reasons=0)
SILENT = Device("GPU-2", 1)


def look(samples: Samples, second: float, *devices: Device) -> list[tuple[Any, ...]]:
    return samples.add(Inventory(NOW + second, devices)).get(GPU_SAMPLES, [])


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Telemetry]:
    opened = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await opened.start()
    yield opened
    await opened.stop()


async def stored(running: Telemetry, question: str, answer: list[tuple[Any, ...]]) -> None:
    """Until this is the answer."""
    with anyio.fail_after(60):
        while (await running.sql(question))[1] != answer:  # noqa: ASYNC110 -- the writer's thread tells nobody
            await anyio.sleep(0.01)


def test_ten_seconds_are_one_row_with_means_and_peaks() -> None:
    samples = Samples()
    for second in range(10):
        busy = replace(CARD, utilisation=10 * second, power_w=100.0 + second, energy_j=float(second), used=second)
        assert look(samples, second, replace(busy, reasons=0x40 if second == 3 else 0x1)) == []
    (row,) = look(samples, 10, CARD)
    assert row[1:] == ("GPU-1", 10, 45.0, 90, 9, 104.5, 60, None, 9.0, "thermal", False)
    assert row[0].timestamp() is not None


def test_what_the_driver_does_not_tell_stays_unknown() -> None:
    samples = Samples()
    look(samples, 0, SILENT)
    (row,) = look(samples, 10, SILENT)
    assert row[3:10] == (None,) * 7


def test_a_card_that_was_lost_for_a_moment_is_marked_and_counts_what_it_told() -> None:
    samples = Samples()
    look(samples, 0, CARD)
    look(samples, 1, replace(SILENT, uuid="GPU-1", lost="fell off the bus"))
    (row,) = look(samples, 10)
    assert (row[2], row[3], row[-1]) == (2, 40.0, True)


def test_windows_without_a_card_and_a_clock_that_goes_back_make_no_rows_of_nothing() -> None:
    samples = Samples()
    assert look(samples, 0) == []
    assert look(samples, 20) == []
    look(samples, 20, CARD)
    assert len(look(samples, -50, CARD)) == 1
    assert len(samples.take()[GPU_SAMPLES]) == 1
    assert samples.take() == {}


def test_more_cards_than_there_can_be_are_left_out() -> None:
    samples = Samples()
    look(samples, 0, *(replace(CARD, uuid=f"GPU-{number}") for number in range(2 * MOST_CARDS)))
    assert len(look(samples, 10)) == MOST_CARDS


async def test_sql_sees_them(running: Telemetry) -> None:
    for second in range(11):
        running.sampled(Inventory(NOW + second, (CARD, SILENT)))
    question = "SELECT device, samples, busy, memory, lost FROM gpu_samples ORDER BY device"
    await stored(running, question, [("GPU-1", 10, 40.0, 100, False), ("GPU-2", 10, None, None, False)])
    names, _ = await running.sql("SELECT * FROM gpu_samples")
    assert names[:4] == ["ts", "device", "samples", "busy"]


async def test_what_was_seen_last_is_stored_at_the_end(tmp_path: Path) -> None:
    for number in range(2):
        opened = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
        opened.sampled(Inventory(NOW, (CARD,)))  # too early, and no harm
        await opened.start()
        assert (await opened.sql("SELECT count(*) FROM gpu_samples"))[1] == [(number,)]
        opened.sampled(Inventory(NOW, (CARD,)))
        await opened.stop()
        opened.sampled(Inventory(NOW + 60, (CARD,)))


async def test_old_ones_go(running: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PRUNE_ROWS", 1)
    for days in (20, 14, 0):
        running.sampled(Inventory(NOW - days * 86_400, (CARD,)))
    running.sampled(Inventory(NOW + 60, (CARD,)))
    await stored(running, "SELECT count(*) FROM gpu_samples", [(2,)])


async def test_a_database_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.duckdb"
    with duckdb.connect(str(file)) as old:
        old.execute("CREATE SCHEMA store")
        old.execute("CREATE TABLE store.schema_version (version INTEGER NOT NULL)")
        for migration in MIGRATIONS[:2]:
            old.execute(migration)
        old.execute("INSERT INTO store.schema_version VALUES (2)")
        old.execute("INSERT INTO store.sources VALUES (7, 'deployment', 'web', '1-0', 'c1')")
    connection, warnings = database.open_database(file, memory_mb=128)
    assert not warnings
    assert connection.execute("SELECT count(*) FROM gpu_samples").fetchall() == [(0,)]
    assert connection.execute("SELECT id FROM store.sources").fetchall() == [(7,)]
    connection.close()
