"""Deployments on the real engine and behind the real front door, updated under load."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from appliance.telemetry.types import LogQuery
from tests.integration.services import Services, eventually, needs_services, services

pytestmark = needs_services

SERVER = """
import http.server, os, sys, time
started = time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        if self.path == "/fall-ill":
            open("/tmp/sick", "w").close()
        ready = time.monotonic() - started > float(os.environ.get("WARM_UP", "0"))
        code = 200 if self.path != "/health" or ready else 503
        body = os.environ.get("VERSION", "?").encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
print("serving version", os.environ.get("VERSION"), flush=True)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
HEALTH = {"readiness": {"path": "/health", "periodSeconds": 1}}


def spec(version: str, *, replicas: int = 2, **more: object) -> dict[str, Any]:
    return {
        "image": "appliance/base",
        "command": ["python3", "-c", SERVER],
        "port": 8000,
        "env": [{"name": "VERSION", "value": version}, {"name": "WARM_UP", "value": "1"}],
        "resources": {"instanceType": "C4", "replicas": replicas},
        "healthChecks": HEALTH,
        **more,
    }


@pytest.fixture
async def house(base_image: str) -> AsyncIterator[Services]:
    async with services(APPLIANCE_DEPLOY_DEADLINE_S="30") as found:
        yield found


@dataclass
class Load:
    """What the requests that went on meanwhile were answered with."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    """Versions in the order of their first answer."""


@asynccontextmanager
async def load(house: Services, workers: int = 4) -> AsyncIterator[Load]:
    found = Load()

    async def work(client: httpx2.AsyncClient) -> None:
        while True:
            try:
                answer = await client.get("/deployments/web/predict", timeout=60)
                if answer.status_code != 200:
                    found.failures.append(f"{answer.status_code}: {answer.text[:100]}")
                found.answers[answer.text] += 1
                if answer.text not in found.order:
                    found.order.append(answer.text)
            except httpx2.HTTPError as error:
                found.failures.append(repr(error))
            await asyncio.sleep(0.01)

    async with httpx2.AsyncClient(base_url=house.settings.url, trust_env=False) as client:
        tasks = [asyncio.create_task(work(client)) for _ in range(workers)]
        try:
            yield found
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def alone(house: Services, count: int) -> None:
    """Everything that was leaving has left."""

    async def left() -> bool:
        return len(await house.containers("deployment", "web")) == count

    await eventually(left, f"{count} containers")


async def test_an_update_under_load_fails_no_request_and_a_bad_one_never_serves(house: Services) -> None:
    house.declare("deployment", "web", spec("one"))
    await house.phase("deployment", "web", "Ready", within_s=600)
    async with load(house) as met:
        await eventually(lambda: met.answers["one"] > 20, "answers of one")
        async with httpx2.AsyncClient(base_url=house.settings.url, trust_env=False) as patient:
            slow = asyncio.create_task(patient.get("/deployments/web/slow", timeout=60))
            await asyncio.sleep(0.2)
            house.declare("deployment", "web", spec("two"))
            row = await house.phase("deployment", "web", "Ready")
            await eventually(lambda: met.answers["two"] > 20, "answers of two")
            assert (await slow).status_code == 200
        await alone(house, 2)
        assert row.status["generation_ready"] == 2

        house.declare(
            "deployment", "web", spec("three", command=["python3", "-c", "print('no torch'); raise SystemExit(3)"])
        )
        row = await house.phase("deployment", "web", "Degraded")
        assert "generation 2 serves" in row.message
        assert row.status["generation_ready"] == 2
        told = [event for event in house.all_events("deployment", "web") if event.reason == "ReplicaEnded"]
        assert "it failed (exit code 3)\nno torch" in told[-1].message
        seen = met.answers["two"]
        await eventually(lambda: met.answers["two"] > seen + 20, "two goes on")

        house.declare("deployment", "web", {**spec("four"), "image": "localhost:1/no/such:image"})
        row = await house.phase("deployment", "web", "Degraded")
        assert "localhost:1/no/such:image" in row.message

        house.declare("deployment", "web", spec("two", replicas=1))
        await house.phase("deployment", "web", "Ready")
        await alone(house, 1)
    assert met.failures == []
    assert met.order == ["one", "two"]
    assert set(met.answers) == {"one", "two"}


async def test_a_killed_replica_is_replaced_and_its_log_is_kept(house: Services) -> None:
    house.declare("deployment", "web", spec("one"))
    await house.phase("deployment", "web", "Ready", within_s=600)
    (victim, other) = await house.containers("deployment", "web")
    await house.engine.kill(victim.id)
    await eventually(lambda: "ReplicaEnded" in house.events("deployment", "web"), "the end seen")
    answer = await house.http.get("/deployments/web/x")
    assert (answer.status_code, answer.headers["x-path"]) == (200, "/x")
    row = await house.phase("deployment", "web", "Ready")
    assert sorted(shown["restarts"] for shown in row.status["replicas"]) == [0, 1]
    await alone(house, 2)
    ids = {container.id for container in await house.containers("deployment", "web")}
    assert other.id in ids
    assert victim.id not in ids
    query = LogQuery(kind="deployment", name="web", contains="serving version one")
    lines = await house.telemetry.logs(query)
    assert victim.id in {line.container for line in lines}


async def test_a_restarted_daemon_adopts_the_very_same_replicas_under_load(house: Services) -> None:
    house.declare("deployment", "web", spec("one"))
    before = await house.phase("deployment", "web", "Ready", within_s=600)
    async with load(house) as met:
        await house.drop()
        seen = met.answers["one"]
        await eventually(lambda: met.answers["one"] > seen + 20, "answers without a daemon")
        await house.start()
        seen = met.answers["one"]
        await eventually(lambda: met.answers["one"] > seen + 100, "answers with another daemon")
        row = await house.phase("deployment", "web", "Ready")
    assert met.failures == []
    shown = [replica["container"] for replica in row.status["replicas"]]
    assert shown == [replica["container"] for replica in before.status["replicas"]]
    assert [event for event in house.events("deployment", "web") if event != "Ready"].count("Degraded") == 0


async def test_liveness_restarts_and_disable_and_delete_leave_nothing(house: Services) -> None:
    live = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 2}
    house.declare("deployment", "web", spec("one", replicas=1, healthChecks={**HEALTH, "liveness": live}))
    await house.phase("deployment", "web", "Ready", within_s=600)
    await house.http.get("/deployments/web/fall-ill")
    await eventually(lambda: "Unhealthy" in house.events("deployment", "web"), "the sick replica seen")

    def healed() -> bool:
        row = house.get("deployment", "web")
        return row.phase == "Ready" and [replica["restarts"] for replica in row.status["replicas"]] == [1]

    await eventually(healed, "another replica in its place")
    house.declare("deployment", "web", spec("one", enabled=False))
    await house.phase("deployment", "web", "Disabled")
    assert await house.containers("deployment", "web") == []
    assert (await house.http.get("/deployments/web/")).status_code == 503
    house.declare("deployment", "web", spec("one", replicas=1, healthChecks={}))
    await house.phase("deployment", "web", "Ready")
    assert (await house.http.get("/deployments/web/")).text == "one"
    house.delete("deployment", "web")
    await house.gone("deployment", "web")
    assert await house.containers("deployment", "web") == []
