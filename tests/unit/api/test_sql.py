"""`/v1/sql`: answers in each form, limits, errors before the first byte, and a client that goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest

from appliance.api.app import build_app
from appliance.state import events
from appliance.telemetry.sql import door
from appliance.telemetry.telemetry import Telemetry
from tests.unit.api.test_api import House, house, is_problem

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio
ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b"


@pytest.fixture
async def asked(house: House, tmp_path: Path) -> AsyncIterator[House]:
    telemetry = Telemetry(tmp_path / "telemetry.duckdb", flush_s=0.01, memory_mb=128)
    await telemetry.start()
    house.parts.telemetry = telemetry
    house.parts.settings = replace(house.parts.settings, home=tmp_path)
    with house.db.write() as db:
        events.record(db, "run", "train.1", "Started", "it has begun", now=1.5)
    yield house
    await telemetry.stop()


async def until_running(house: House, count: int) -> None:
    with anyio.fail_after(60):
        while len((await house.trusted.get("/v1/sql")).json()["items"]) != count:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_an_answer_in_json_over_the_state(asked: House) -> None:
    answer = await asked.trusted.post("/v1/sql", json={"query": "SELECT name, ts, now() AS t FROM events"})
    document = answer.json()
    assert document["columns"] == ["name", "ts", "t"]
    assert document["types"] == ["VARCHAR", "TIMESTAMP", "TIMESTAMP"]
    assert document["rows"][0][:2] == ["train.1", "1970-01-01 00:00:01.500000"]
    assert (document["truncated"], document["notes"]) == (False, [])


async def test_csv_and_parquet_say_in_headers_what_is_cut(asked: House, tmp_path: Path) -> None:
    query = {"query": "SELECT * FROM range(100) t(i)", "limit": 3}
    answer = await asked.trusted.post("/v1/sql", json={**query, "format": "csv"})
    assert answer.text == "i\n0\n1\n2\n"
    assert answer.headers["content-type"].startswith("text/csv")
    assert (answer.headers["x-appliance-rows"], answer.headers["x-appliance-truncated"]) == ("3", "true")
    answer = await asked.trusted.post("/v1/sql", json={**query, "format": "parquet"})
    (tmp_path / "answer.parquet").write_bytes(answer.content)
    with duckdb.connect() as other:
        assert other.execute(f"SELECT sum(i) FROM '{tmp_path}/answer.parquet'").fetchall() == [(3,)]


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
async def test_what_is_wrong_is_a_problem_in_every_form(asked: House, form: str) -> None:
    found = is_problem(
        await asked.trusted.post("/v1/sql", json={"query": "DROP VIEW logs", "format": form}), 400, "usage"
    )
    assert found["hint"]
    answer = await asked.trusted.post("/v1/sql", json={"query": ENDLESS, "format": form, "timeout_s": 0.1})
    is_problem(answer, 500, "telemetry")


@pytest.mark.parametrize(
    "more", [{"limit": -1}, {"limit": 10**12}, {"timeout_s": 0}, {"timeout_s": 1e9}, {"format": "xml"}, {"id": "a/b"}]
)
async def test_limits_are_bounded(asked: House, more: dict[str, Any]) -> None:
    is_problem(await asked.trusted.post("/v1/sql", json={"query": "SELECT 1", **more}), 400, "usage")


async def test_a_query_is_listed_and_canceled_by_its_id(asked: House) -> None:
    query = asyncio.create_task(
        asked.trusted.post("/v1/sql", json={"query": ENDLESS, "id": "mine", "timeout_s": 600}, timeout=None)
    )
    await until_running(asked, 1)
    [running] = (await asked.trusted.get("/v1/sql")).json()["items"]
    assert (running["id"], running["query"]) == ("mine", ENDLESS)
    assert (await asked.trusted.delete("/v1/sql/mine")).status_code == 204
    is_problem(await query, 409, "conflict")
    is_problem(await asked.trusted.delete("/v1/sql/mine"), 404, "not_found")


async def test_a_client_that_goes_ends_its_query(asked: House) -> None:
    gone = asyncio.Event()
    body = json.dumps({"query": ENDLESS, "timeout_s": 600}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        pass

    scope = {"type": "http", "method": "POST", "path": "/v1/sql", "headers": [], "query_string": b"", "root_path": ""}

    async def answer() -> None:
        await build_app(asked.parts)(scope, receive, send)

    answering = asyncio.create_task(answer())
    await until_running(asked, 1)
    gone.set()
    await answering
    await until_running(asked, 0)
    questions = asked.parts.telemetry.questions
    with anyio.fail_after(60):
        while questions._free < door.PLACES:  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_daemon_that_stops_ends_it(asked: House) -> None:
    query = asyncio.create_task(asked.trusted.post("/v1/sql", json={"query": ENDLESS, "timeout_s": 600}, timeout=None))
    await until_running(asked, 1)
    asked.parts.stopping.set()
    is_problem(await query, 503, "unavailable")


async def test_tables_and_ready_queries_are_listed_and_can_be_asked(asked: House) -> None:
    tables = {table["name"]: table for table in (await asked.trusted.get("/v1/sql/tables")).json()["items"]}
    assert {"logs", "metrics", "events", "runs", "jobs", "leases", "snapshots", "requests"} <= tables.keys()
    assert [column["name"] for column in tables["events"]["columns"]][:2] == ["id", "ts"]
    ready = (await asked.trusted.get("/v1/sql/ready")).json()["items"]
    for one in ready:
        assert (await asked.trusted.post("/v1/sql", json={"query": one["sql"]})).status_code == 200


async def test_nothing_is_left_in_the_home(asked: House, tmp_path: Path) -> None:
    before = sorted(path.name for path in asked.parts.settings.home.iterdir())
    for form in ("json", "csv", "parquet"):
        await asked.trusted.post("/v1/sql", json={"query": "SELECT * FROM range(9)", "format": form})
        await asked.trusted.post("/v1/sql", json={"query": "SELECT x", "format": form})
    assert sorted(path.name for path in asked.parts.settings.home.iterdir()) == before
