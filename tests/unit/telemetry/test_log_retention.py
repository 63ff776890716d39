"""Which log lines stay, and that the space of the others comes back, while lines come in and are read."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import TelemetryError
from appliance.telemetry.retention import compacting, removing
from appliance.telemetry.retention.policy import DAY_S, GB, LAST_LINES, Known, Limits, Source, plan, share_beyond
from appliance.telemetry.store import Batch, Store
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery, LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

DAY_0 = 1_735_787_045.0
"""When the stand-in engine's first record is: 2025-01-02."""
NEVER = Limits(0, 0, 0)


# -- pure


SOURCES = st.lists(st.builds(Source, st.integers(0, 9), st.sampled_from(["run", "notebook"]), st.text("ab"), st.text()))
LIMITS = st.builds(Limits, *[st.floats(0, 1000)] * 3)


@given(SOURCES, LIMITS, st.sets(st.text("ab")), st.floats(0, 4e9), st.booleans())
def test_only_runs_that_nobody_knows_are_orphans(
    sources: list[Source], limits: Limits, runs: set[str], now: float, by_age: bool
) -> None:
    chosen = plan(sources, Known(runs, runs), limits, now, by_age=by_age)
    gone = {source.number for source in sources if source.kind == "run" and source.name not in runs}
    assert set(chosen.orphans) == (gone if by_age else set())
    assert plan(sources, Known(None), limits, now).orphans == ()
    assert chosen.before is None or by_age
    if chosen.before is not None and chosen.failed_before is not None:
        assert chosen.failed_before <= chosen.before <= now


@given(st.integers(0, 10**13), st.floats(0, 10_000))
def test_what_goes_by_size_leaves_less_than_the_bound(stored: int, gb: float) -> None:
    share = share_beyond(stored, Limits(0, gb, 0))
    assert 0 <= share <= 1
    if gb:
        assert stored * (1 - share) <= gb * GB
        assert share == 0 or stored > gb * GB
    else:
        assert share == 0


# -- in the database


class House:
    """A telemetry room and the logs of its containers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "telemetry.duckdb"
        self.telemetry = Telemetry(self.file, flush_s=0.05, memory_mb=256)
        self.known = Known(runs=set(), containers=set())

    async def print(
        self, source: LogSource, lines: Iterable[str], *, draining: bool = True, after_days: float = 0
    ) -> None:
        log = EngineLog(self.folder / source.container / "x-json.log")
        log.later(after_days * DAY_S)
        for line in lines:
            log.record(line + "\n")
        log.close()
        self.telemetry.attach(source, log.path)
        if draining:
            await self.telemetry.drain(source, log.path)

    async def tend(self, limits: Limits, *, days: float = 0, by_age: bool = True) -> int:
        async def known() -> Known:
            return self.known

        return await self.telemetry.tend_logs(DAY_0 + days * DAY_S, limits, known, by_age=by_age)

    async def lines(self, name: str = "") -> list[str]:
        return [line.line for line in await self.telemetry.logs(LogQuery(name=name, limit=100_000))]

    def count(self, table: str) -> int:
        with self.telemetry._store.reading() as connection:
            row = connection.execute(f"SELECT count(*) FROM store.{table}").fetchone()
        return int(row[0]) if row else 0


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    await house.telemetry.start()
    yield house
    await house.telemetry.stop()


def run(name: str, container: str = "", part: str = "train") -> LogSource:
    return LogSource("run", name, part, container or f"c-{name}-{part}")


def numbered(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


async def test_old_lines_go_and_the_last_ones_of_failed_runs_later(house: House) -> None:
    house.known = Known(runs={"ok.1", "bad.1"}, failed={"bad.1"}, containers=set())
    await house.print(run("ok.1"), numbered("ok", 3000))
    await house.print(run("bad.1"), numbered("bad", 3000))
    await house.print(run("bad.1", part="test"), numbered("test", 5))
    await house.print(LogSource("notebook", "n", "", "n"), numbered("n", 10), after_days=20)
    limits = Limits(30, 0, 90)
    assert await house.tend(limits, days=29) == 0
    assert await house.tend(limits, days=31, by_age=False) == 0
    assert await house.tend(limits, days=31) == 5000
    assert await house.lines("ok.1") == []
    assert await house.lines("bad.1") == [*numbered("bad", 3000)[-LAST_LINES:], *numbered("test", 5)]
    assert len(await house.lines("n")) == 10
    assert await house.tend(limits, days=31) == 0
    assert await house.tend(Limits(30, 0, 0), days=900) == 10
    assert len(await house.lines("bad.1")) == LAST_LINES + 5
    assert await house.tend(limits, days=91) == LAST_LINES + 5
    assert await house.lines() == []


async def test_lines_of_runs_that_are_gone_go_after_a_day(house: House) -> None:
    house.known = Known(runs={"a.1", "a.2"}, containers=set())
    for name in ("a.1", "a.2"):
        await house.print(run(name), numbered(name, 10))
    await house.print(LogSource("deployment", "a.2", "r", "d"), ["stays"])
    house.known = Known(runs={"a.1"}, containers=set())
    assert await house.tend(NEVER, days=0.5) == 0
    house.known = Known(runs=None, containers=set())
    assert await house.tend(NEVER, days=5) == 0
    house.known = Known(runs={"a.1"}, containers=set())
    assert await house.tend(NEVER, days=1.5) == 10
    assert await house.lines() == [*numbered("a.1", 10), "stays"]


async def test_a_run_that_begins_while_it_is_asked_what_there_is_keeps_its_lines(house: House) -> None:
    async def known() -> Known:
        await house.print(run("new.1"), ["first"])
        return Known(runs=set(), containers=set())

    await house.telemetry.tend_logs(DAY_0 + 9 * DAY_S, NEVER, known)
    assert await house.lines() == ["first"]
    assert house.count("sources") == 1


async def test_forgetting_takes_all_lines_of_one_resource(house: House) -> None:
    for name in ("a.1", "a.2"):
        await house.print(run(name), numbered(name, 10))
    assert await house.telemetry.forget_logs("run", "a.1") == 10
    assert await house.telemetry.forget_logs("run", "a.1") == 0
    assert await house.telemetry.forget_logs("notebook", "a.2") == 0
    assert await house.lines() == numbered("a.2", 10)


async def test_positions_stay_as_long_as_a_container_may_go_on(house: House) -> None:
    """Else its log would be read again from the beginning."""
    house.known = Known(runs={"a.1"}, containers={"c-a.1-train"})
    source = run("a.1")
    await house.print(source, ["one"])
    await house.print(run("b.1"), ["gone"], after_days=20)
    path = house.folder / source.container / "x-json.log"
    assert await house.tend(Limits(30, 0, 30), days=31) == 2
    assert house.count("sources") == 1, "b.1 has no lines and no container"
    await house.telemetry.drain(source, path)
    assert await house.lines("a.1") == []
    house.known = Known(runs={"a.1"}, containers=None)
    await house.tend(NEVER, days=60)
    assert house.count("sources") == 1, "the engine does not answer, so nobody knows"
    house.known = Known(runs={"a.1"}, containers=set())
    await house.tend(NEVER, days=60)
    assert house.count("sources") == house.count("cursors") == 0


async def test_one_that_is_still_followed_keeps_its_place(house: House) -> None:
    source = LogSource("notebook", "n", "", "n")
    await house.print(source, ["one"], draining=False)
    await until(lambda: house.count("log_lines") == 1)
    assert await house.tend(Limits(1, 0, 1), days=9) == 1
    assert house.count("sources") == 1
    with (house.folder / "n" / "x-json.log").open("ab") as file:
        file.write(b'{"log":"two\\n","stream":"stdout","time":"2025-01-02T03:04:06Z"}\n')
    await until(lambda: house.count("log_lines") == 1)
    assert await house.lines("n") == ["two"]


def test_what_was_written_since_it_was_asked_stays(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    try:
        with store.held() as connection:
            fill_every_table(connection)
            connection.execute("DELETE FROM store.log_lines").fetchall()
            assert removing.remove_unused(connection, [], until=0, mark=1) == 0
            assert removing.remove_unused(connection, [], until=1, mark=0) == 0
            [[container]] = connection.execute("SELECT container FROM store.sources").fetchall()
            assert removing.remove_unused(connection, [container], until=1, mark=1) == 0
            assert removing.remove_unused(connection, [], until=1, mark=1) == 1
    finally:
        store.stop()


async def until(done: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def noise(count: int) -> list[str]:
    """Lines that hardly shrink."""
    dice = random.Random(count)
    return [dice.randbytes(500).hex() for _ in range(count)]


async def test_by_size_the_oldest_go_and_the_last_of_failed_runs_stay(house: House) -> None:
    house.known = Known(runs={"bad.1", "a.1"}, failed={"bad.1"}, containers=set())
    await house.print(run("bad.1"), ["why it failed"])
    await house.print(run("a.1"), texts := noise(20_000))
    await asyncio.to_thread(house.telemetry._store.checkpoint)
    stored = await asyncio.to_thread(stored_bytes, house)
    assert stored > 8_000_000
    limits = Limits(0, stored / 2 / GB, 0)
    for _ in range(5):
        await house.tend(limits)
    lines = await house.lines("a.1")
    assert 5_000 < len(lines) < 12_000
    assert lines == texts[-len(lines) :]
    assert await asyncio.to_thread(stored_bytes, house) <= stored / 2
    assert await house.lines("bad.1") == ["why it failed"]
    await house.tend(Limits(0, 1e-9, 0))
    await house.tend(Limits(0, 1e-9, 0))
    assert len(await house.lines()) < 100, "a bound of a byte spares nobody"


def stored_bytes(house: House) -> int:
    with house.telemetry._store.reading() as connection:
        return removing.stored_bytes(connection)


# -- space


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files are made smaller too."""
    monkeypatch.setattr(compacting, "WORTH_BYTES", 1024 * 1024)
    monkeypatch.setattr(compacting, "SLICE", 100)


@pytest.mark.usefixtures("eager")
async def test_space_comes_back_while_lines_come_in_and_are_read(house: House) -> None:
    house.known = Known(runs={"a.1", "b.1"}, containers={"b"})
    await house.print(run("a.1"), noise(20_000))
    await asyncio.to_thread(house.telemetry._store.checkpoint)
    before = house.file.stat().st_size
    source = run("b.1", "b")
    log = EngineLog(house.folder / "b" / "x-json.log")
    log.later(20 * DAY_S)
    house.telemetry.attach(source, log.path)
    printed: list[str] = []

    async def keep_printing() -> None:
        while True:
            for _ in range(10):
                printed.append(f"line {len(printed)} {random.random()}")
                log.record(printed[-1] + "\n")
            await asyncio.sleep(0.01)

    async def keep_reading() -> None:
        while True:
            await house.telemetry.logs(LogQuery(name="b.1"))
            await asyncio.sleep(0)

    works = [asyncio.create_task(work()) for work in (keep_printing, keep_reading)]
    try:
        await until(lambda: len(printed) > 500 and house.count("log_lines") > 20_100)
        assert await house.tend(Limits(10, 0, 10), days=15) == 20_000
        more = len(printed) + 100
        await until(lambda: len(printed) > more)
        assert not any(work.done() for work in works)
    finally:
        for work in works:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        log.close()
    await house.telemetry.drain(source, log.path)
    assert house.file.stat().st_size < before / 3
    assert await house.lines() == printed
    assert house.telemetry.warnings == []
    assert sorted(path.name for path in house.folder.glob("telemetry*.fresh*")) == []


@pytest.mark.usefixtures("eager")
def test_every_table_comes_along(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    try:
        with store.held() as connection:
            fill_every_table(connection)
        with store.reading() as connection:
            before = everything(connection)
        assert all(before.values())
        compacting.compact(store)
        with store.reading() as connection:
            assert everything(connection) == before
            assert connection.execute("SELECT count(*) FROM logs").fetchone() == (1,)
        store.submit(Batch({"store.log_lines": [(99, "2025-01-01", 1, False, "after")]}))
    finally:
        store.stop()
    store = open_store(tmp_path)
    try:
        assert store.next_seq == 100
    finally:
        store.stop()


@pytest.mark.usefixtures("eager")
def test_a_reader_that_stays_and_a_full_disk_leave_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.telemetry.store.READERS_S", 0.2)
    store = open_store(tmp_path)
    try:
        with store.held() as connection:
            fill_every_table(connection)
        with store.reading() as connection:
            with pytest.raises(TelemetryError, match="somebody reads"):
                compacting.compact(store)
            assert connection.execute("SELECT count(*) FROM logs").fetchone() == (1,)
        monkeypatch.setattr(compacting, "SPARE_BYTES", 1 << 60)
        with pytest.raises(TelemetryError, match="cannot be given back"):
            compacting.compact(store)
        with store.reading() as connection:
            assert connection.execute("SELECT count(*) FROM logs").fetchone() == (1,)
        assert not store.fresh.exists()
    finally:
        store.stop()


def open_store(folder: Path) -> Store:
    store = Store(
        folder / "telemetry.duckdb", memory_mb=256, flush_s=0.05, on_commit=lambda _: None, warn=lambda _: None
    )
    store.start()
    return store


def fill_every_table(connection: duckdb.DuckDBPyConnection) -> None:
    """A row each, with a value of each column's type."""
    for (name,) in tables(connection):
        columns = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE store.{name})").fetchall()
        values = ", ".join(VALUES.get(kind, "1") + f"::{kind}" for _, kind in columns)
        connection.execute(f"INSERT INTO store.{name} VALUES ({values})")


VALUES = {
    "TIMESTAMP": "'2025-01-02 03:04:05.678901'",
    "BLOB": r"'\x00\xff'",
    "VARCHAR": "'grün\n\x1b[0m\U0001f600'",
    "MAP(VARCHAR, VARCHAR)": "MAP {'a': 'b', 'c': ''}",
    "UINTEGER[]": "[1, 4294967295]",
    "UBIGINT": "18446744073709551615",
    "DOUBLE": "0.1",
}


def tables(connection: duckdb.DuckDBPyConnection) -> list[tuple[str]]:
    query = "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'store' AND table_name <> 'schema_version'"
    return [(str(row[0]),) for row in connection.execute(query).fetchall()]


def everything(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    return {
        name: connection.execute(f"SELECT * FROM store.{name} ORDER BY ALL").fetchall()
        for (name,) in tables(connection)
    }


KILLED = """
import sys
from pathlib import Path
from appliance.telemetry.retention import compacting
from appliance.telemetry.store import Store

compacting.SLICE = 1000
store = Store(Path(sys.argv[1]), memory_mb=256, flush_s=0.05, on_commit=lambda _: None, warn=lambda _: None)
store.start()
print("ready", flush=True)
while True:
    compacting.compact(store)
    print("done", flush=True)
"""


def test_killed_at_any_instant_it_leaves_one_whole_file(tmp_path: Path) -> None:
    dice = random.Random(7)
    store = open_store(tmp_path)
    with store.held() as connection:
        connection.execute(
            "INSERT INTO store.log_lines SELECT i, make_timestamp(i), 1, false, md5(i::VARCHAR) FROM range(30000) t(i)"
        )
        connection.execute("INSERT INTO store.sources VALUES (1, 'run', 'a.1', '', 'c')")
    store.stop()
    for _ in range(6):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "telemetry.duckdb")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(dice.uniform(0, 0.6))  # anywhere in its work: that is what is tried
            process.send_signal(signal.SIGKILL)
        store = open_store(tmp_path)
        try:
            assert store.moved_aside == 0
            assert not store.fresh.exists()
            with store.reading() as connection:
                counted = connection.execute(
                    "SELECT count(*), count(DISTINCT seq), bool_and(line = md5(seq::VARCHAR)) FROM logs"
                ).fetchone()
            assert counted == (30_000, 30_000, True)
        finally:
            store.stop()
