"""What SQL may ask: documented columns, the state beside telemetry, joins in time, and the ready queries' answers."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from appliance.errors import UsageError
from appliance.state import sql_tables
from appliance.state.db import Database, StateError
from appliance.state.sql_tables import STATE_TABLES
from appliance.telemetry.database import open_database
from appliance.telemetry.sql.catalog import STORED, TABLES
from appliance.telemetry.sql.functions import FUNCTIONS
from appliance.telemetry.sql.ready import ready_queries
from appliance.telemetry.sql.running import StateReader, run
from appliance.telemetry.sql.sinks import Csv, Ending, Json, Rows

NOW = float(int(time.time()))
SECRET = "hunter2-in-a-spec"
STATE = f"""
INSERT INTO resources (uid, kind, name, generation, spec, source, desired, created, updated)
    VALUES ('n', 'notebook', 'lab', 1, '{SECRET}', '', 'Running', {NOW}, {NOW}),
           ('d', 'deployment', 'web', 2, '{SECRET}', '', 'Running', {NOW}, {NOW}),
           ('w', 'workflow', 'train', 1, '{SECRET}', '', '', {NOW}, {NOW}),
           ('s', 'dataset', 'set', 1, '{SECRET}', '', '', {NOW}, {NOW});
INSERT INTO runs (id, number, workflow_uid, workflow, spec, inputs, phase, created, started, finished)
    VALUES ('r1', 1, 'w', 'train', '{SECRET}', '{SECRET}', 'Succeeded', {NOW - 900}, {NOW - 900}, {NOW - 890}),
           ('r2', 2, 'w', 'train', '{SECRET}', '{SECRET}', 'Succeeded', {NOW - 800}, {NOW - 800}, {NOW - 700}),
           ('r3', 3, 'w', 'train', '{SECRET}', '{SECRET}', 'Failed', {NOW - 600}, {NOW - 600}, {NOW - 500}),
           ('r4', 4, 'w', 'train', '{SECRET}', '{SECRET}', 'Running', {NOW - 5000}, {NOW - 5000}, NULL);
UPDATE runs SET parent = 'r1' WHERE id = 'r2';
INSERT INTO jobs (run, name, position, phase, exit_code, started, finished, inputs, outputs)
    VALUES ('r3', 'fit', 0, 'Failed', 1, {NOW - 600}, {NOW - 500}, '{SECRET}', '{SECRET}'),
           ('r4', 'wait', 0, 'Running', NULL, {NOW - 5000}, NULL, '{{}}', '{{}}');
INSERT INTO events (at, kind, name, level, reason, message)
    VALUES ({NOW - 1.5}, 'run', 'train.3', 'error', 'Failed', 'it failed');
INSERT INTO versions (dataset, version, volume, created, committed, run) VALUES ('s', 'v1', 'vol', 1, 2, 'r1');
INSERT INTO models (id, name, type, dataset, version, run, created) VALUES ('m', 'net', 'T', 's', 'v1', 'r1', 3);
INSERT INTO snapshots (id, uid, volume, cause, message, created) VALUES ('p', 'n', 'vol', 'manual', 'mine', 5);
INSERT INTO leases (id, kind, name, uid, part, owner, machine, gpus, shape, priority, preemptible, state, asked,
    granted)
    VALUES ('l', 'notebook', 'lab', 'n', '', 'ada', 'A100', 2, '{{}}', 0, 1, 'Held', {NOW - 7200}, {NOW - 7200});
INSERT INTO lease_cards VALUES ('GPU-2', 'l', 1, 1), ('GPU-1', 'l', 0, 1);
INSERT INTO rollouts (uid, generation, digest, cause, phase, created, ready)
    VALUES ('d', 2, 'sha', 'applied', 'Serving', {NOW - 1000}, {NOW - 1000});
INSERT INTO gpu_ledger (hour, device, kind, name, uid, part, owner, held_s)
    VALUES ({int(NOW) // 3600 * 3600}, 'GPU-1', 'notebook', 'lab', 'n', '', 'ada', 1800);
INSERT INTO secrets VALUES ('s', x'{SECRET.encode().hex()}', 1)
"""
STORE = f"""
INSERT INTO store.sources VALUES (1, 'run', 'train.3', 'fit', 'c3');
INSERT INTO store.log_lines SELECT i, make_timestamp({int(NOW - 600)}000000 + i * 1000000), 1, false, 'line ' || i
    FROM range(20) t(i);
INSERT INTO store.log_lines SELECT 99, make_timestamp({int(NOW - 505)}000000), 1, true, 'RuntimeError: out of memory';
INSERT INTO store.gpu_samples
    SELECT make_timestamp({int(NOW - 1000)}000000 + i * 10000000), 'GPU-' || card, 10, 1.0, 2.0,
    1000 + i, 50.0, 40.0, 1000.0, 1.0, '', false FROM range(100) t(i), range(1, 3) c(card);
INSERT INTO store.requests
    SELECT make_timestamp({int(NOW - 300)}000000 + i * 1000000), 'deployment', 'web', 'abc', 2, 1,
    0, 0, 1, 0, 0, 0, 0, 10, 20, 100, 200, [], [] FROM range(60) t(i);
INSERT INTO store.series VALUES (1, 'run', 'train.3', 'fit', 'c3', 'container_memory_bytes', MAP {{}}),
    (2, 'run', 'train.3', 'fit', 'c3', 'container_memory_limit_bytes', MAP {{}}),
    (3, 'run', 'train.3', 'fit', '', 'loss', MAP {{'fold': '1'}});
INSERT INTO store.metrics SELECT make_timestamp({int(NOW - 600)}000000 + i * 1000000), s,
    CASE WHEN s = 3 THEN i END, CASE s WHEN 1 THEN 50 WHEN 2 THEN 100 ELSE 1.0 / (i + 1) END
    FROM range(10) t(i), range(1, 4) u(s)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def state(folder: Path) -> StateReader:
    with contextlib.closing(Database(folder / "state.db")) as db, db.write() as writing:
        for statement in STATE.split(";\n"):
            writing.execute(statement)
    return functools.partial(sql_tables.read, folder / "state.db")


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection, _ = open_database(folder / "kept.duckdb", memory_mb=128)
    for statement in STORE.split(";\n"):
        connection.execute(statement)
    yield connection
    connection.close()


class Ask:
    def __init__(self, database: duckdb.DuckDBPyConnection, state: StateReader | None) -> None:
        self._database = database
        self._state = state
        self.ending = Ending()
        self.rows = Rows()

    def __call__(self, text: str, *, limit: int = 1000) -> list[tuple[Any, ...]]:
        self.rows = Rows()
        with self._database.cursor() as asking:
            self.ending = run(asking, text, self.rows, limit=limit, state=self._state, stopped=lambda: False)
        return self.rows.rows


@pytest.fixture
def ask(database: duckdb.DuckDBPyConnection, state: StateReader) -> Ask:
    return Ask(database, state)


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_the_columns_that_are_documented(ask: Ask, name: str) -> None:
    ask(f"FROM {name} LIMIT 0")
    whole = {"UINTEGER": "BIGINT", "UBIGINT": "BIGINT", "USMALLINT": "BIGINT", "MAP(VARCHAR, VARCHAR)": "VARCHAR"}
    told = [(one.name, whole.get(one.type, one.type)) for one in ask.rows.headings]
    assert told == [(column.name, column.type) for column in TABLES[name][1]]
    assert [row[0] for row in ask(f"DESCRIBE {name}")] == [column.name for column in TABLES[name][1]]


def test_no_secret_spec_or_input_is_in_any_of_them(ask: Ask) -> None:
    for name in TABLES:
        assert SECRET not in str(ask(f"FROM {name}"))


def test_the_state_in_words_that_logs_and_metrics_use(ask: Ask) -> None:
    assert ask("SELECT name, parent FROM runs WHERE number = 2") == [("train.2", "train.1")]
    assert ask("SELECT run, job FROM jobs WHERE phase = 'Failed'") == [("train.3", "fit")]
    assert ask("SELECT cards FROM leases") == [(["GPU-1", "GPU-2"],)]
    assert ask("SELECT run FROM dataset_versions") == [("train.1",)]
    assert ask("SELECT kind, name FROM snapshots") == [("notebook", "lab")]
    [(at,)] = ask("SELECT epoch(ts) FROM events")
    assert at == NOW - 1.5


def test_joins_in_time_go_across_the_two(ask: Ask) -> None:
    rows = ask(
        "SELECT l.line, g.memory FROM (FROM logs SEMI JOIN runs USING (name) WHERE stream = 'stderr') l"
        " ASOF JOIN (FROM gpu_samples WHERE device = 'GPU-1') g ON l.ts >= g.ts"
    )
    assert rows == [("RuntimeError: out of memory", 1049)]


def test_only_what_a_question_names_is_copied(database: duckdb.DuckDBPyConnection, state: StateReader) -> None:
    asked: list[set[str]] = []

    def reading(names: Any) -> Any:
        asked.append(set(names))
        return state(names)

    ask = Ask(database, reading)
    ask("WITH runs AS (SELECT 1) SELECT * FROM logs")
    ask("SELECT (SELECT count(*) FROM jobs) FROM logs WHERE name IN (SELECT name FROM events)")
    ask("SELECT 1")
    assert asked == [{"jobs", "events"}]


def test_a_question_sees_the_state_of_one_moment_and_no_more_rows_than_it_may(folder: Path, state: StateReader) -> None:
    [copied] = sql_tables.read(folder / "state.db", ["runs"], most=2)
    assert copied.cut
    assert [row[0] for row in copied.rows] == ["train.3", "train.2"]


def test_what_was_cut_is_said(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    ask = Ask(database, lambda names: sql_tables.read(folder / "state.db", names, most=2))
    ask("SELECT count(*) FROM runs")
    assert ask.rows.rows == [(2,)]
    assert "runs" in ask.ending.notes[0]


def test_without_a_state_there_are_the_stored_tables_only(database: duckdb.DuckDBPyConnection) -> None:
    ask = Ask(database, None)
    assert {row[0] for row in ask("SHOW TABLES")} == STORED
    with pytest.raises(UsageError, match="no table 'runs'"):
        ask("SELECT * FROM runs")


def test_a_state_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        sql_tables.read(tmp_path / "none.db", ["runs"])


def test_no_table_of_the_state_takes_the_name_of_a_stored_one() -> None:
    assert not STORED & STATE_TABLES.keys()


@pytest.mark.parametrize("ready", ready_queries(), ids=lambda ready: str(ready.name))
def test_a_ready_query_answers_its_question(ask: Ask, ready: Any) -> None:
    assert ready.question.endswith("?")
    assert ask(ready.sql)
    assert not ask.ending.truncated


def test_there_are_ten_ready_queries() -> None:
    assert len({ready.name for ready in ready_queries()}) >= 10


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FILTER (WHERE stream = 'stderr'), min(ts), max(ts) - min(ts) FROM logs; -- done",
        "/* a comment */ SELECT now(), current_date, ts::DATE, ts AT TIME ZONE 'UTC' FROM logs;",
        "EXPLAIN SELECT * FROM logs",
        "EXPLAIN ANALYZE SELECT * FROM logs",
        "SUMMARIZE logs",
        "SHOW TABLES;",
        "VALUES (1), (2)",
        "TABLE logs",
        "SELECT * FROM logs UNION ALL BY NAME SELECT * FROM logs ORDER BY ALL LIMIT 10%",
        "SELECT line[1:4], line ~ 'o', line LIKE '%n_', line ILIKE 'x', regexp_extract(line, '(\\d+)', 1) FROM logs",
        "SELECT labels['fold'], map_keys(labels), step FROM metrics WHERE metric = 'loss'",
        "SELECT * EXCLUDE (line) REPLACE (upper(name) AS name) FROM logs",
        "SELECT time_bucket(INTERVAL 5 MINUTE, ts) AS t, quantile_cont(value, [0.5, 0.99]) FROM metrics GROUP BY t",
        "SELECT lag(value) OVER (PARTITION BY name ORDER BY step ROWS UNBOUNDED PRECEDING) FROM metrics",
        "SELECT * FROM (PIVOT metrics ON metric IN ('loss') USING avg(value) GROUP BY name)",
        "WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM a WHERE i < 9) SELECT * FROM a",
        "SELECT '{\"a\": [1]}'::JSON -> 'a' ->> 0, json_extract_string('{}', '$.x')",
        "SELECT kind || '/' || name || '/' || part || ' ' || concat_ws(' ', stream, container) FROM logs",
        "SELECT bar(value, 0, 1, 40), lpad(metric, 20, ' '), repeat('#', 10) FROM metrics",
        "SELECT list(line ORDER BY seq)[1:3], string_agg(line, chr(10)) FROM logs",
        "SELECT struct_pack(a := 1).a, {'b': [1, 2]}, MAP {'k': 1}, [now()], (now(), 2)",
        "SELECT replace(replace(line, 'a', ''), 'b', 'c'), regexp_replace(line, '[0-9]+', 'N', 'g') FROM logs",
        "SELECT t.i FROM range(TIMESTAMP '2026-01-01', TIMESTAMP '2026-01-02', INTERVAL 1 HOUR) t(i)",
    ],
)
def test_what_people_ask_is_allowed(ask: Ask, text: str) -> None:
    assert ask(text)


def test_every_function_that_is_allowed_is_one(database: duckdb.DuckDBPyConnection) -> None:
    with database.cursor() as reading:
        known = {row[0].lower() for row in reading.execute("SELECT function_name FROM duckdb_functions()").fetchall()}
    assert known >= FUNCTIONS


@pytest.mark.parametrize(("limit", "rows", "cut"), [(0, 0, True), (20, 20, True), (21, 21, False), (99, 21, False)])
def test_more_rows_than_the_limit_are_told(ask: Ask, limit: int, rows: int, cut: bool) -> None:
    ask("SELECT seq FROM logs", limit=limit)
    assert (len(ask.rows.rows), ask.ending.rows, ask.ending.truncated) == (rows, rows, cut)


ODD = (
    "SELECT 1 AS a, 'x,\"y\n' AS b, NULL AS c, [1, NULL] AS d, MAP {'k': 1.5} AS e, {'z': true} AS f,"
    " 2::HUGEINT ** 100 AS g, 1.25::DECIMAL(9, 2) AS h, 'NaN'::DOUBLE AS i, TIMESTAMP '2026-01-31 12:00:00' AS a,"
    " now() IS NULL AS k,"
    " '\\xAA'::BLOB AS l, INTERVAL 1 HOUR AS m, DATE '2026-01-31' AS n, to_timestamp(0) AS o"
)


def test_json_holds_every_type(database: duckdb.DuckDBPyConnection) -> None:
    file = io.BytesIO()
    with database.cursor() as asking:
        run(asking, ODD, Json(file), limit=10, state=None, stopped=lambda: False)
    answer = json.loads(file.getvalue())
    assert answer["columns"] == [*"abcdefghi", "a", *"klmno"]
    [row] = answer["rows"]
    assert row[:6] == [1, 'x,"y\n', None, [1, None], {"k": 1.5}, {"z": True}]
    assert row[7:11] == [1.25, None, "2026-01-31 12:00:00", False]
    assert row[11:] == ["aa", "1:00:00", "2026-01-31", "1970-01-01 00:00:00"]
    assert answer["types"][9] == "TIMESTAMP"
    assert (answer["truncated"], answer["notes"]) == (False, [])


def test_csv_has_a_cell_for_each(database: duckdb.DuckDBPyConnection) -> None:
    file = io.BytesIO()
    with database.cursor() as asking:
        run(asking, ODD, Csv(file), limit=10, state=None, stopped=lambda: False)
    names, row = (file.getvalue().decode().split("\n", 1)[0], file.getvalue().decode().split("\n", 1)[1])
    assert names.split(",")[:3] == ["a", "b", "c"]
    assert row.startswith('1,"x,""y\n",,"[1,null]","{""k"":1.5}"')
