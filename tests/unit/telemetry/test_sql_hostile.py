"""What must not get through the SQL door: writing, looking outside, reading what is the daemon's own, filling memory.

Each is refused, or is ended within its limits; either way nothing has changed and others are answered meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from appliance.errors import ApplianceError, TelemetryError, UsageError
from appliance.state import events, sql_tables
from appliance.state.db import Database
from appliance.telemetry.database import open_database
from appliance.telemetry.sql import door
from appliance.telemetry.sql.running import StateReader, run
from appliance.telemetry.sql.sinks import Rows
from appliance.telemetry.telemetry import Telemetry
from appliance.telemetry.types import LogQuery
from tests.unit.telemetry.test_telemetry import Box

WRITES = """
INSERT INTO store.sources VALUES (9, '', '', '', '')
INSERT INTO logs VALUES (1)
UPDATE store.log_lines SET line = ''
DELETE FROM store.log_lines
DELETE FROM logs
TRUNCATE store.log_lines
MERGE INTO store.sources USING store.sources s ON true WHEN MATCHED THEN DELETE
DROP VIEW logs
DROP SCHEMA store CASCADE
ALTER TABLE store.log_lines ADD COLUMN x INTEGER
CREATE TABLE x (a INTEGER)
CREATE TEMP TABLE x AS SELECT 1
CREATE OR REPLACE VIEW logs AS SELECT 1
CREATE VIEW y AS SELECT 1
CREATE TYPE mood AS ENUM ('a')
CREATE SEQUENCE s
CREATE MACRO f(a) AS a
CREATE FUNCTION upper(a) AS 'x'
CREATE SECRET s (TYPE s3)
CREATE INDEX i ON store.log_lines (seq)
WITH gone AS (DELETE FROM store.log_lines RETURNING 1) SELECT * FROM gone
WITH made AS (INSERT INTO store.sources VALUES (9, '', '', '', '') RETURNING 1) SELECT * FROM made
EXPLAIN ANALYZE DELETE FROM store.log_lines
EXPLAIN EXPLAIN SELECT 1
SELECT 1; DELETE FROM store.log_lines
SELECT 1 /* ; */; DROP VIEW logs -- SELECT
-- SELECT 1 \x0b DELETE FROM store.log_lines
BEGIN
COMMIT
ROLLBACK
CHECKPOINT
FORCE CHECKPOINT
VACUUM
ANALYZE
FROM checkpoint()
FROM force_checkpoint()
PREPARE p AS SELECT 1
EXECUTE p
DEALLOCATE p
SELECT nextval('s')
SELECT setseed(0.5)
SELECT write_log('forged', level := 'ERROR')
SELECT $1
SELECT ?
SET VARIABLE x = 1
""".strip().splitlines()

OUTSIDE = """
COPY logs TO '{leak}'
COPY (SELECT 1) TO '{leak}' (FORMAT parquet)
COPY store.log_lines FROM '/etc/passwd'
EXPORT DATABASE '{leak}'
IMPORT DATABASE '{leak}'
ATTACH '{leak}'
ATTACH ':memory:' AS m
DETACH telemetry
USE memory
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM read_blob('/etc/shadow')
SELECT * FROM read_csv('/etc/passwd')
SELECT * FROM read_csv_auto('/etc/passwd')
SELECT * FROM read_json('/etc/passwd')
SELECT * FROM read_parquet('/etc/passwd')
SELECT * FROM parquet_metadata('/etc/passwd')
SELECT * FROM read_duckdb('{leak}')
SELECT * FROM sniff_csv('/etc/passwd')
SELECT * FROM glob('/*')
FROM '/etc/passwd'
FROM 'http://127.0.0.1/x.parquet'
FROM "s3://bucket/x.csv"
SELECT * FROM (FROM '/etc/passwd')
SELECT (SELECT content FROM read_text('/etc/passwd'))
DESCRIBE SELECT * FROM read_text('/etc/passwd')
SUMMARIZE FROM read_csv('/etc/passwd')
SELECT * FROM query('SELECT * FROM read_text(''/etc/passwd'')')
SELECT * FROM query_table('/etc/passwd')
SELECT * FROM sqlite_scan('/x', 'runs')
SELECT * FROM postgres_query('x', 'SELECT 1')
SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))
CALL json_execute_serialized_sql('x')
SELECT getenv('HOME')
SELECT getvariable('HOME')
INSTALL httpfs
LOAD httpfs
LOAD '{leak}'
FORCE INSTALL 'http://127.0.0.1/x'
SELECT * FROM arrow_scan(1, 2, 3)
SELECT * FROM pandas_scan(1)
SELECT * FROM python_map_function((SELECT 1))
SELECT * FROM telemetry
SELECT * FROM text
SELECT * FROM enable_logging()
""".strip().splitlines()

OWN = """
SET threads = 64
SET enable_external_access = true
RESET lock_configuration
PRAGMA database_list
PRAGMA enable_profiling
PRAGMA table_info('store.log_lines')
CALL pragma_version()
CALL duckdb_settings()
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_secrets()
SELECT * FROM duckdb_databases()
SELECT * FROM duckdb_logs()
SELECT * FROM duckdb_tables
SELECT * FROM duckdb_temporary_files()
SELECT * FROM pragma_storage_info('store.log_lines')
SELECT * FROM sqlite_master
SELECT * FROM information_schema.tables
SELECT * FROM pg_catalog.pg_tables
SELECT * FROM pg_tables
WITH duckdb_settings AS (SELECT 1) SELECT * FROM duckdb_settings
FROM (WITH sqlite_master AS (SELECT 1) SELECT 1), sqlite_master
SELECT * FROM store.cursors
SELECT * FROM main.logs
SELECT * FROM telemetry.store.log_lines
SELECT * FROM temp.raw_events
SELECT * FROM raw_events
SELECT * FROM secrets
SELECT * FROM resources
SELECT spec FROM runs
SELECT current_setting('temp_directory')
SELECT current_query()
SELECT main.current_setting('temp_directory')
SHOW DATABASES
SHOW ALL TABLES FROM store
SELECT sleep_ms(100000)
SELECT pg_sleep(100000)
SELECT stats(line) FROM logs
SELECT * FROM logs AT (VERSION => 1)
SELECT json_serialize_plan('SELECT 1')
SELECT * FROM test_all_types()
SELECT invoke(lambda x: x, 1)
""".strip().splitlines()

DOUBLED = "WITH a0 AS (SELECT line AS s FROM logs), " + ", ".join(
    f"a{n} AS (SELECT s || s AS s FROM a{n - 1})" for n in range(1, 33)
)
LATERAL = "SELECT line AS a0, " + ", ".join(f"a{n - 1} || a{n - 1} AS a{n}" for n in range(1, 33)) + " FROM logs"
TOO_BIG = [
    "SELECT length(repeat('x', 2000000000))",
    "SELECT length(repeat(repeat('x', 1000), 1000)) FROM logs, range(10)",
    "SELECT repeat(line, seq) FROM logs",
    "SELECT len(range(1000000000))",
    "SELECT len(generate_series(1, 1000000000))",
    "SELECT unnest(range(1000000000))",
    "SELECT lpad('x', 1500000000, 'y')",
    "SELECT rpad(line, CAST(seq AS INTEGER), 'y') FROM logs",
    "SELECT bar(1, 0, 1, 1000000000)",
    "SELECT format('{:>2000000000}', 'x')",
    "SELECT printf('%2000000000d', 1)",
    "SELECT bitstring('1', 2000000000)",
    "SELECT list_resize([1], 1000000000)",
    "SELECT replace(line, 'o', line) FROM logs",
    f"SELECT replace(replace(replace(line, 'o', '{'o' * 100}'), 'o', '{'o' * 100}'), 'o', '{'o' * 100}') FROM logs",
    f"SELECT regexp_replace(line, '(.*)', '{chr(92)}1' || line, 'g') FROM logs",
    f"SELECT replace(string_agg(line), 'o', '{'o' * 100}') FROM logs",
    "SELECT array_to_string(list(line), string_agg(line)) FROM logs",
    "SELECT list_transform(list(seq), lambda x: list(seq)) FROM logs",
    "SELECT [[y for y in range(100000)] for x in range(100000)]",
    "SELECT list_reduce(['a'], lambda x, y: x || x || y)",
    "SELECT levenshtein(string_agg(line), string_agg(line)) FROM logs",
    "SELECT jaro_similarity(line, line) FROM logs",
    f"{DOUBLED} SELECT length(s) FROM a32",
    LATERAL,
    "WITH RECURSIVE a AS (SELECT line AS s FROM logs UNION ALL SELECT s || s FROM a) SELECT length(s) FROM a",
    "WITH RECURSIVE a AS (SELECT [1] AS s UNION ALL SELECT list_concat(s, s) FROM a) SELECT len(s) FROM a",
    "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "SELECT " + "+".join(["1"] * 50_000),
    "SELECT " + "NOT " * 15_000 + "true",
    "SELECT " + "(SELECT " * 900 + "1" + ")" * 900,
    "SELECT " + "[" * 5000 + "]" * 5000,
    "SELECT 1 -- " + "x" * 70_000,
    "SELECT 'a\0b'",
]
TOO_LONG = [
    "SELECT count(*) FROM range(10000000) a, range(10000000) b",
    "SELECT count(*) FROM range(1000000000000)",
    "SELECT sum(i) FROM generate_series(1, 1000000000000) t(i)",
    "WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM a) SELECT count(*) FROM a",
    "WITH RECURSIVE a AS (SELECT [1] AS l UNION ALL SELECT list_append(l, 1) FROM a) SELECT max(len(l)) FROM a",
    "SELECT count(*) FROM range(10000000000) t(i) WHERE regexp_matches(i::VARCHAR, '(1*)*2(3|4)*5')",
    "SELECT count(DISTINCT md5(i::VARCHAR)) FROM range(10000000000) t(i)",
    "SELECT max(sha256(i::VARCHAR)) FROM range(10000000000) t(i)",
    "SELECT median(i) FROM range(100000000000) t(i)",
    "SELECT mode(i) FROM range(100000000000) t(i)",
    "SELECT histogram(i) FROM range(100000000000) t(i)",
    "SELECT list(i) FROM range(100000000000) t(i)",
    "SELECT string_agg(i::VARCHAR, ',') FROM range(100000000000) t(i)",
    "SELECT i FROM range(100000000000) t(i) ORDER BY random() LIMIT 5 OFFSET 99999999",
    "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY md5(i::VARCHAR)) FROM range(100000000000) t(i))",
    "EXPLAIN ANALYZE SELECT count(*) FROM range(10000000) a, range(10000000) b",
    "SUMMARIZE SELECT * FROM range(100000000000)",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def state(folder: Path) -> StateReader:
    with contextlib.closing(Database(folder / "state.db")) as db, db.write() as writing:
        events.record(writing, "run", "train.1", "Started", "it has begun", now=1.0)
    return functools.partial(sql_tables.read, folder / "state.db")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection, _ = open_database(folder / "kept.duckdb", memory_mb=128)
    connection.execute("INSERT INTO store.sources VALUES (1, 'run', 'train.1', 'a', 'c')")
    connection.execute("INSERT INTO store.log_lines SELECT i, now(), 1, false, 'one' FROM range(3) t(i)")
    yield connection
    connection.close()


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Telemetry]:
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await telemetry.start()
    with Box(tmp_path, "nb") as box:
        box.log.print("one\ntwo\nthree\n")
        await telemetry.drain(box.source, box.path)
        yield telemetry
    await telemetry.stop()


def contents(reading: duckdb.DuckDBPyConnection) -> list[Any]:
    """All that is stored, and what else the database knows."""
    tables = reading.execute("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
    found: list[Any] = [*tables, reading.execute("SELECT view_name FROM duckdb_views() ORDER BY ALL").fetchall()]
    for schema, name in tables:
        found.append(reading.execute(f'FROM {schema}."{name}" ORDER BY ALL').fetchall())
    found.append(reading.execute("SELECT name, value FROM duckdb_settings() ORDER BY ALL").fetchall())
    return found


@pytest.fixture(scope="module")
def before(database: duckdb.DuckDBPyConnection) -> list[Any]:
    return contents(database)


@pytest.mark.parametrize("text", [*WRITES, *OUTSIDE, *OWN, *TOO_BIG], ids=lambda text: text[:60].replace("\0", "NUL"))
def test_it_is_refused_and_nothing_has_changed(
    database: duckdb.DuckDBPyConnection, before: list[Any], state: StateReader, folder: Path, text: str
) -> None:
    given = text.replace("{leak}", str(folder / "leak"))
    with database.cursor() as asking, pytest.raises((UsageError, duckdb.Error)) as caught:
        run(asking, given, Rows(), limit=100, state=state, stopped=lambda: False)
    assert not isinstance(caught.value, (duckdb.OutOfMemoryException, duckdb.InternalException, duckdb.FatalException))
    assert contents(database) == before
    assert not os.path.lexists(folder / "leak")


def stored(telemetry: Telemetry) -> list[Any]:
    with telemetry._store.reading() as reading:
        return contents(reading)


@pytest.mark.parametrize("text", TOO_LONG, ids=lambda text: text[:60])
@pytest.mark.anyio
async def test_it_is_ended_and_others_are_answered_meanwhile(
    filled: Telemetry, state: StateReader, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(door, "LET_GO_S", 60.0)
    before = stored(filled)
    asked = asyncio.create_task(filled.sql(text, state=state, timeout_s=0.3))
    assert len(await filled.logs(LogQuery())) == 3
    with pytest.raises(TelemetryError):
        await asked
    assert await filled.sql("SELECT count(*) FROM logs, events", state=state, timeout_s=60) == (
        ["count_star()"],
        [(3,)],
    )
    assert stored(filled) == before


@pytest.mark.anyio
async def test_a_storm_of_them_leaves_the_daemon_its_own_readers(filled: Telemetry) -> None:
    storm = [asyncio.create_task(filled.sql(TOO_LONG[0], timeout_s=0.5)) for _ in range(door.PLACES * 4)]
    await asyncio.sleep(0)
    assert len(await filled.logs(LogQuery())) == 3
    assert all(isinstance(found, ApplianceError) for found in await asyncio.gather(*storm, return_exceptions=True))
    assert (await filled.sql("SELECT 1", timeout_s=60))[1] == [(1,)]


def test_there_are_enough_of_them() -> None:
    assert len({*WRITES, *OUTSIDE, *OWN, *TOO_BIG, *TOO_LONG}) >= 60
