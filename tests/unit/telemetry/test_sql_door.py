"""The SQL door: places, time, canceling, and answers as files."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import duckdb
import pytest

from appliance.errors import Conflict, NotFound, TelemetryError, TooMany, UsageError
from appliance.telemetry.sql import door, running
from appliance.telemetry.sql.door import SqlDoor
from appliance.telemetry.sql.parquet import Parquet
from appliance.telemetry.sql.sinks import Csv, Json, Rows
from appliance.telemetry.telemetry import Telemetry

pytestmark = pytest.mark.anyio
ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b"


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Telemetry]:
    opened = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def questions(telemetry: Telemetry) -> SqlDoor:
    return telemetry.questions


async def begun(questions: SqlDoor, count: int) -> None:
    """Until so many are in the database."""
    with anyio.fail_after(60):
        while sum(one.connection is not None for one in questions.running()) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def free(questions: SqlDoor) -> None:
    with anyio.fail_after(60):
        while questions._free < door.PLACES:  # noqa: ASYNC110
            await anyio.sleep(0.01)


def endless(questions: SqlDoor, name: str = "") -> asyncio.Task[object]:
    return asyncio.create_task(questions.ask(ENDLESS, Rows(), limit=9, timeout_s=600, question_id=name))


async def test_one_is_canceled_by_its_id(questions: SqlDoor) -> None:
    asked = endless(questions, "mine")
    await begun(questions, 1)
    assert [one.id for one in questions.running()] == ["mine"]
    with pytest.raises(Conflict):
        await questions.ask("SELECT 1", Rows(), limit=9, timeout_s=9, question_id="mine")
    questions.cancel("mine")
    with pytest.raises(Conflict, match="canceled"):
        await asked
    with pytest.raises(NotFound):
        questions.cancel("mine")
    await free(questions)


async def test_one_whose_asker_has_gone_gives_its_place_back(questions: SqlDoor) -> None:
    asked = endless(questions)
    await begun(questions, 1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await free(questions)
    assert questions.running() == []


async def test_there_are_so_many_places_and_the_next_one_is_taken_in_turn(questions: SqlDoor) -> None:
    taken = [endless(questions, f"q{number}") for number in range(door.PLACES)]
    await begun(questions, door.PLACES)
    with pytest.raises(TooMany):
        await questions.ask("SELECT 1", Rows(), limit=9, timeout_s=0.05)
    rows = Rows()
    waiting = asyncio.create_task(questions.ask("SELECT 42", rows, limit=9, timeout_s=60))
    await asyncio.sleep(0)
    assert not waiting.done()
    questions.cancel("q0")
    await waiting
    assert rows.rows == [(42,)]
    for number in range(1, door.PLACES):
        questions.cancel(f"q{number}")
    await asyncio.gather(*taken, return_exceptions=True)
    await free(questions)


async def test_who_waits_and_goes_leaves_no_place_taken(questions: SqlDoor) -> None:
    taken = [endless(questions, f"q{number}") for number in range(door.PLACES)]
    await begun(questions, door.PLACES)
    waiting = endless(questions, "late")
    await asyncio.sleep(0)
    questions.cancel("q0")
    waiting.cancel()
    for number in range(1, door.PLACES):
        questions.cancel(f"q{number}")
    await asyncio.gather(*taken, waiting, return_exceptions=True)
    await free(questions)


async def test_memory_that_the_database_does_not_count_ends_it(
    questions: SqlDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([0])
    monkeypatch.setattr(door, "_resident", lambda: next(sizes, 1 << 40))
    with pytest.raises(TelemetryError, match="memory"):
        await questions.ask(ENDLESS, Rows(), limit=9, timeout_s=600)


async def test_one_that_does_not_let_go_is_answered_and_keeps_its_place(
    questions: SqlDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    held = threading.Event()

    def stuck(*_: object, **__: object) -> None:
        held.wait(60)

    monkeypatch.setattr(door, "run", stuck)
    monkeypatch.setattr(door, "LET_GO_S", 0.05)
    with pytest.raises(TelemetryError, match=r"0\.05 s"):
        await questions.ask("SELECT 1", Rows(), limit=9, timeout_s=0.05)
    assert questions._free == door.PLACES - 1
    held.set()
    await free(questions)


async def test_an_answer_is_cut_where_it_gets_too_large(
    questions: SqlDoor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(running, "MOST_BYTES", 1000)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        ending = await questions.ask("SELECT * FROM range(1000000)", Csv(file), limit=1_000_000, timeout_s=600)
        assert ending.truncated
        assert ending.notes
        assert file.seek(0, 2) < 100_000


async def test_a_parquet_file_is_read_by_another_database(questions: SqlDoor, tmp_path: Path) -> None:
    text = (
        "SELECT i, i::VARCHAR AS I, [i] AS l, MAP {'k': i} AS m, now() AS at, TIMESTAMP '2026-01-01' AS t,"
        " 1.25::DECIMAL(9, 2) AS d, NULL AS n FROM range(5000) r(i)"
    )
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        ending = await questions.ask(text, Parquet(file), limit=4000, timeout_s=600)
        assert (ending.rows, ending.truncated) == (4000, True)
        (tmp_path / "copy.parquet").write_bytes((file.seek(0), file.read())[1])
    with duckdb.connect() as other:
        found = other.execute(
            f"SELECT count(*), sum(i), max(I_2), max(m['k']) FROM '{tmp_path}/copy.parquet'"
        ).fetchall()
        assert found == [(4000, 7998000, "999", 3999)]
        kinds = dict(
            other.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM '{tmp_path}/copy.parquet')").fetchall()
        )
    assert kinds["d"] == "DECIMAL(9,2)"
    assert kinds["t"] == kinds["at"] == "TIMESTAMP"


@pytest.mark.parametrize("sink", [Json, Csv, Parquet])
async def test_a_file_is_closed_where_the_question_fails(questions: SqlDoor, tmp_path: Path, sink: type[Json]) -> None:
    file = tempfile.TemporaryFile(dir=tmp_path)  # noqa: SIM115 -- it is to be closed by the door
    with pytest.raises(UsageError):
        await questions.ask("SELECT nothing FROM logs", sink(file), limit=9, timeout_s=600)
    assert file.closed


async def test_what_is_wrong_is_said_in_the_words_of_the_query(questions: SqlDoor) -> None:
    with pytest.raises(UsageError) as caught:
        await questions.ask("SELECT nothing FROM logs", Rows(), limit=9, timeout_s=600)
    assert "nothing" in caught.value.message
    assert "DESCRIBE" not in caught.value.message


async def test_the_store_closes_while_one_runs(telemetry: Telemetry) -> None:
    asked = endless(telemetry.questions)
    await begun(telemetry.questions, 1)
    await telemetry.stop()
    with pytest.raises(TelemetryError):
        await asked
