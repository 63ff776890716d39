from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from appliance.errors import TelemetryError, UsageError
from appliance.telemetry import reader
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogLine, LogQuery, LogSource
from tests.unit.telemetry.enginelog import EngineLog

pytestmark = pytest.mark.anyio

Opener = Callable[[], AbstractAsyncContextManager[Telemetry]]


@pytest.fixture
def secrets() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path: Path, secrets: list[str]) -> Opener:
    @asynccontextmanager
    async def open_it() -> AsyncIterator[Telemetry]:
        telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.02, memory_mb=128, redact=lambda: tuple(secrets))
        await telemetry.start()
        try:
            yield telemetry
        finally:
            await telemetry.stop()

    return open_it


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "POLL_BUSY_S", 0.01)
    monkeypatch.setattr(reader, "POLL_QUIET_S", 0.01)


class Box:
    """A container, as far as its log goes."""

    def __init__(self, tmp_path: Path, name: str, *, kind: str = "notebook", part: str = "") -> None:
        self.source = LogSource(kind, name, part, f"id-of-{name}-{part}")
        self.path = tmp_path / "containers" / name / f"{name}{part}-json.log"
        self.log = EngineLog(self.path)

    def __enter__(self) -> Box:
        return self

    def __exit__(self, *args: object) -> None:
        self.log.close()


def texts(lines: list[LogLine]) -> list[str]:
    return [line.line for line in lines]


async def until(telemetry: Telemetry, query: LogQuery, count: int) -> list[LogLine]:
    with anyio.fail_after(120):
        while len(lines := await telemetry.logs(query)) < count:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return lines


async def eventually(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(120):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_line_comes_in_and_goes_out(opened: Opener, tmp_path: Path) -> None:
    async with opened() as telemetry:
        with Box(tmp_path, "nb") as box:
            telemetry.attach(box.source, box.path)
            box.log.print("hello\n")
            box.log.print("trouble\n", "stderr")
            first, second = await until(telemetry, LogQuery(name="nb"), 2)
    assert (first.kind, first.name, first.part, first.container) == ("notebook", "nb", "", "id-of-nb-")
    assert (first.line, first.stream, second.line, second.stream) == ("hello", "stdout", "trouble", "stderr")
    assert first.at == pytest.approx(1735787045.000001, abs=1e-6)
    assert second.seq == first.seq + 1


async def test_attach_twice_and_restart_double_nothing(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            telemetry.attach(box.source, box.path)
            box.log.print("one\n")
            await until(telemetry, LogQuery(), 1)
        box.log.print("two\n")
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            await until(telemetry, LogQuery(), 2)
            await telemetry.drain(box.source, box.path)
            assert texts(await telemetry.logs(LogQuery())) == ["one", "two"]


async def test_drain_stores_everything_also_without_attach(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "w.1", kind="run", part="job") as box:
        for number in range(5000):
            box.log.print(f"line {number}\n")
            if number % 2000 == 1999:
                box.log.rotate()
        box.log.print("no newline at the end")
        async with opened() as telemetry:
            await telemetry.drain(box.source, box.path)
            lines = await telemetry.logs(LogQuery(kind="run", part="job", limit=10_000))
            assert texts(lines) == [f"line {number}" for number in range(5000)] + ["no newline at the end"]
            await telemetry.drain(box.source, box.path)
            await telemetry.drain(box.source, box.path)
            assert len(await telemetry.logs(LogQuery(limit=10_000))) == 5001


async def test_drain_of_two_at_once(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box:
        box.log.print("one\ntwo\n")
        async with opened() as telemetry, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(telemetry.drain, box.source, box.path)
        async with opened() as telemetry:
            assert texts(await telemetry.logs(LogQuery())) == ["one", "two"]


async def test_a_container_that_is_started_again_goes_on(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            box.log.print("first life, no newline")
            async with anyio.create_task_group() as group:
                group.start_soon(telemetry.drain, box.source, box.path)
                await anyio.lowlevel.checkpoint()
                telemetry.attach(box.source, box.path)
            box.log.print("second life\n")
            assert texts(await until(telemetry, LogQuery(), 2)) == ["first life, no newline", "second life"]


async def test_drain_of_a_log_that_is_gone_warns_and_returns(opened: Opener, tmp_path: Path) -> None:
    async with opened() as telemetry:
        await telemetry.drain(LogSource("run", "w.1", "a", "c9"), tmp_path / "no" / "such.log")
        [warning] = telemetry.warnings
    assert "run/w.1/a" in warning
    assert "gone" in warning


async def test_drain_reads_what_it_held_open_of_a_removed_container(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            box.log.print("one\n")
            await until(telemetry, LogQuery(), 1)
            box.log.print("two\n")
            shutil.rmtree(box.path.parent)
            await telemetry.drain(box.source, box.path)
            assert texts(await telemetry.logs(LogQuery())) == ["one", "two"]


async def test_a_container_that_was_removed_behind_our_back_is_let_go(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box, Box(tmp_path, "never-seen") as other:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            box.log.print("one\nand no newline")
            await until(telemetry, LogQuery(), 1)
            shutil.rmtree(box.path.parent)
            shutil.rmtree(other.path.parent)
            telemetry.attach(other.source, other.path)
            assert texts(await until(telemetry, LogQuery(), 2)) == ["one", "and no newline"]
            await eventually(lambda: not telemetry._reader._followers)


async def test_a_log_that_cannot_be_read_stops_no_other(opened: Opener, tmp_path: Path) -> None:
    bad = tmp_path / "folder.log"
    bad.mkdir()
    source = LogSource("notebook", "bad", "", "c-bad")
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(source, bad)
            telemetry.attach(box.source, box.path)
            box.log.print("one\n")
            await until(telemetry, LogQuery(), 1)
            with pytest.raises(TelemetryError, match="cannot be read"):
                await telemetry.drain(source, bad)
            assert "notebook/bad" in telemetry.warnings[0]


async def test_drain_after_stop(opened: Opener, tmp_path: Path) -> None:
    async with opened() as telemetry:
        pass
    with pytest.raises(TelemetryError, match="not running"):
        await telemetry.drain(LogSource("run", "w.1", "a", "c9"), tmp_path / "x.log")


async def test_secrets_are_blanked_out(opened: Opener, tmp_path: Path, secrets: list[str]) -> None:
    secrets.append("hunter2-and-more")
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            box.log.print("the password is hunter2-and-more.\n" + "x" * 16_380 + "hunter2-and-more\n")
            first, second = texts(await until(telemetry, LogQuery(), 2))
            secrets[:] = ["another-secret"]
            with Box(tmp_path, "other") as other:
                telemetry.attach(other.source, other.path)
                other.log.print("hunter2-and-more another-secret\n")
                [third] = texts(await until(telemetry, LogQuery(name="other"), 1))
    assert first == "the password is ***."
    assert second == "x" * 16_380 + "***"
    assert third == "*** ***"


async def test_secrets_that_cannot_be_read_are_a_warning(tmp_path: Path) -> None:
    def broken() -> tuple[str, ...]:
        raise RuntimeError("vault is sealed")

    telemetry = Telemetry(tmp_path / "t.duckdb", flush_s=0.02, memory_mb=64, redact=broken)
    await telemetry.start()
    await telemetry.stop()
    assert "vault is sealed" in telemetry.warnings[0]


async def test_queries(opened: Opener, tmp_path: Path) -> None:
    with (
        Box(tmp_path, "a") as a,
        Box(tmp_path, "w.1", kind="run", part="x") as x,
        Box(tmp_path, "w.1", kind="run", part="y") as y,
    ):
        for number in range(10):
            a.log.print(f"Alpha {number}\n")
            x.log.print(f"x {number}\n")
            y.log.print(f"y {number}\n")
        async with opened() as telemetry:
            for box in (a, x, y):
                await telemetry.drain(box.source, box.path)

            async def ask(**fields: object) -> list[str]:
                return texts(await telemetry.logs(LogQuery(**fields)))  # type: ignore[arg-type]

            assert len(await ask()) == 30
            assert await ask(name="a", limit=2) == ["Alpha 8", "Alpha 9"]
            assert await ask(kind="run", name="w.1", part="y", limit=1) == ["y 9"]
            assert len(await ask(kind="run")) == 20
            assert await ask(kind="notebook", name="w.1") == []
            assert await ask(contains="ALPHA 3") == ["Alpha 3"]
            assert await ask(contains="%") == []
            assert await ask(name="nobody' OR 1=1 --") == []
            lines = await telemetry.logs(LogQuery(name="a"))
            assert await ask(name="a", after=lines[4].seq, limit=2) == ["Alpha 5", "Alpha 6"]
            assert await ask(name="a", since=lines[7].at) == ["Alpha 7", "Alpha 8", "Alpha 9"]
            assert await ask(limit=0) == []
            assert await ask(limit=-5) == []
            assert [line.seq for line in await telemetry.logs(LogQuery())] == sorted(
                line.seq for line in await telemetry.logs(LogQuery())
            )


async def collect(telemetry: Telemetry, query: LogQuery, count: int, into: list[str]) -> None:
    async with aclosing(telemetry.follow(query)) as batches:
        async for batch in batches:
            into += texts(batch)
            if len(into) >= count:
                return


async def test_follow_gives_the_newest_and_then_what_comes(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box, Box(tmp_path, "other") as other:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            telemetry.attach(other.source, other.path)
            box.log.print("1\n2\n3\n")
            newest = (await until(telemetry, LogQuery(), 3))[-1].seq
            await eventually(lambda: telemetry._head >= newest)  # a line can be read a moment before it is told
            found: list[str] = []
            fresh: list[str] = []
            everything: list[str] = []
            with anyio.fail_after(120):
                async with anyio.create_task_group() as group:
                    group.start_soon(collect, telemetry, LogQuery(name="nb", limit=2), 4, found)
                    group.start_soon(collect, telemetry, LogQuery(name="nb", limit=0), 2, fresh)
                    group.start_soon(collect, telemetry, LogQuery(), 6, everything)
                    await eventually(lambda: len(telemetry._subscribers) == 3 and len(found) == 2)
                    other.log.print("from another\n")
                    box.log.print("4\n")
                    await until(telemetry, LogQuery(name="nb"), 4)
                    box.log.print("5\n")
            assert found == ["2", "3", "4", "5"]
            assert fresh == ["4", "5"]
            assert everything[:3] == ["1", "2", "3"]
            assert telemetry._subscribers == set()


async def test_follow_on_an_empty_database_waits(opened: Opener, tmp_path: Path) -> None:
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            found: list[str] = []
            with anyio.fail_after(120):
                async with anyio.create_task_group() as group:
                    group.start_soon(collect, telemetry, LogQuery(name="nb"), 1, found)
                    telemetry.attach(box.source, box.path)
                    box.log.print("1\n")
            assert found == ["1"]


async def test_a_slow_follower_gets_everything_and_holds_nobody_up(opened: Opener, tmp_path: Path) -> None:
    count = 6000
    with Box(tmp_path, "nb") as box:
        async with opened() as telemetry:
            telemetry.attach(box.source, box.path)
            async with aclosing(telemetry.follow(LogQuery(name="nb"))) as slow:
                box.log.print("first\n")
                found = texts(await anext(slow))
                box.log.print("".join(f"{number}\n" for number in range(count)))
                quick: list[str] = []
                with anyio.fail_after(120):
                    await collect(telemetry, LogQuery(name="nb", after=1), count + 1, quick)
                    while len(found) < count + 1:
                        found += texts(await anext(slow))
            assert found == quick == ["first", *(str(number) for number in range(count))]


async def test_stop_ends_followers(opened: Opener, tmp_path: Path) -> None:
    with anyio.fail_after(120):
        async with anyio.create_task_group() as group:
            async with opened() as telemetry:
                group.start_soon(collect, telemetry, LogQuery(), 1, [])
                await eventually(lambda: bool(telemetry._subscribers))
            await telemetry.stop()


async def test_follow_that_is_cancelled_is_forgotten(opened: Opener) -> None:
    async with opened() as telemetry:
        async with anyio.create_task_group() as group:
            group.start_soon(collect, telemetry, LogQuery(), 1, [])
            await eventually(lambda: bool(telemetry._subscribers))
            group.cancel_scope.cancel()
        assert telemetry._subscribers == set()


@pytest.fixture
async def filled(opened: Opener, tmp_path: Path) -> AsyncIterator[Telemetry]:
    with Box(tmp_path, "nb") as box:
        box.log.print("one\ntwo\n")
        box.log.print("three\n", "stderr")
        async with opened() as telemetry:
            await telemetry.drain(box.source, box.path)
            yield telemetry


async def test_sql(filled: Telemetry) -> None:
    columns, rows = await filled.sql("SELECT stream, count(*) AS n FROM logs GROUP BY 1 ORDER BY 1")
    assert columns == ["stream", "n"]
    assert rows == [("stderr", 1), ("stdout", 2)]
    columns, _ = await filled.sql("FROM logs LIMIT 0")
    assert columns == ["seq", "ts", "kind", "name", "part", "container", "stream", "line"]


async def test_sql_limits_its_rows(filled: Telemetry) -> None:
    _, rows = await filled.sql("SELECT * FROM range(1000000000)", limit=7)
    assert [row[0] for row in rows] == list(range(7))


async def test_sql_knows_utc(filled: Telemetry) -> None:
    columns, [row] = await filled.sql("SELECT now() AS t, 1 AS n, now() - INTERVAL 1 HOUR AS t -- comment")
    assert columns == ["t", "n", "t"]
    assert abs(row[0].timestamp() - row[2].timestamp() - 3600) < 1
    _, [row] = await filled.sql("SELECT ts, ts < now() FROM logs ORDER BY seq LIMIT 1;")
    assert row[0].isoformat() == "2025-01-02T03:04:05.000001"
    assert row[1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT 1; SELECT 2",
        "INSERT INTO store.sources VALUES (9, '', '', '', '')",
        "DELETE FROM store.log_lines",
        "DROP VIEW logs",
        "CREATE TABLE x (a INTEGER)",
        "CREATE TEMP TABLE x (a INTEGER)",
        "WITH gone AS (DELETE FROM store.log_lines RETURNING 1) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM store.log_lines",
        "COPY logs TO '/tmp/appliance-leak.csv'",
        "ATTACH '/tmp/appliance-leak.db'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SET threads = 64",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CHECKPOINT",
        "PRAGMA database_list",
        "EXPORT DATABASE '/tmp/appliance-leak'",
        "SELECT * FROM query",
        "SELECT * FROM telemetry",
        "SELECT getenv('HOME')",
        "SELECT $1",
    ],
)
async def test_sql_that_is_wrong_or_writes_or_looks_outside_is_refused(filled: Telemetry, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        await filled.sql(text)
    assert caught.value.hint
    assert len(await filled.logs(LogQuery())) == 3


async def test_sql_that_takes_too_long_is_ended(filled: Telemetry) -> None:
    begun = time.monotonic()
    with pytest.raises(TelemetryError, match=r"0\.3 s"):
        await filled.sql("SELECT count(*) FROM range(10000000) a, range(10000000) b", timeout_s=0.3)
    assert time.monotonic() - begun < 60
    assert (await filled.sql("SELECT 1"))[1] == [(1,)]


async def test_sql_that_takes_too_much_memory_is_an_error(filled: Telemetry) -> None:
    with pytest.raises(TelemetryError):
        await filled.sql("SELECT list(i) FROM range(200000000) t(i)", timeout_s=120)
    assert (await filled.sql("SELECT 1"))[1] == [(1,)]


async def test_sql_whose_asker_has_gone_is_interrupted(filled: Telemetry) -> None:
    with anyio.move_on_after(0.3):
        await filled.sql("SELECT count(*) FROM range(10000000) a, range(10000000) b", timeout_s=60)
    await eventually(lambda: filled._limiter.borrowed_tokens == 0)
