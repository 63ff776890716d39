"""Probes against real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from appliance.deployments import prober as module
from appliance.deployments.prober import Prober
from appliance.deployments.probes import PORT_PROBE, Probes
from appliance.engine.docker import Engine
from appliance.engine.types import Container
from appliance.errors import EngineError
from appliance.spec.models import Probe

pytestmark = pytest.mark.anyio

PORT = 80
Handler = Any


class FakeEngine:
    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.error: EngineError | None = None

    async def exec(
        self, container_id: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = 30
    ) -> tuple[int, bytes]:
        if self.error:
            raise self.error
        return self.code, b""


def container(port: int | None) -> Container:
    ports = {PORT: port} if port else {}
    return Container("c1", "replica", "i", "i", {}, "running", started=time.time(), ports=ports)


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[int]:
    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()


def http(status: str) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        seen.append(request.decode())
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    seen.clear()
    return handle


seen: list[str] = []


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def until(prober: Prober, condition: str) -> None:
    async with asyncio.timeout(60):
        while True:
            health = prober.health("c1")
            assert health is not None
            if getattr(health, condition):
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(probes: Probes, port: int | None, engine: FakeEngine | None = None) -> AsyncIterator[Prober]:
    changes: list[str] = []
    prober = Prober(cast(Engine, engine or FakeEngine()), time.time, changes.append)
    prober.watch("uid", container(port), probes, PORT, was_ready=False)
    try:
        yield prober
    finally:
        await prober.close()


async def test_http_success_with_headers_and_host() -> None:
    probe = Probe(path="health", host="a.example", headers={"X-One": "1"}, period_s=0.05)
    async with server(http("204 No Content")) as port, watching(Probes(readiness=probe), port) as prober:
        await until(prober, "ready")
    assert seen[0].startswith("GET /health HTTP/1.1\r\n")
    assert "host: a.example\r\n" in seen[0].lower()
    assert "x-one: 1\r\n" in seen[0].lower()


@pytest.mark.parametrize(("status", "words"), [("400 Bad", "status 400"), ("503 Busy", "status 503")])
async def test_http_failures_say_why(status: str, words: str) -> None:
    probes = Probes(readiness=Probe(path="/", period_s=0.05))
    async with server(http(status)) as port, watching(probes, port) as prober:
        await until(prober, "said")
        health = prober.health("c1")
        assert health is not None
        assert words in health.said
        assert not health.ready


async def test_a_slow_answer_is_a_failure() -> None:
    probes = Probes(readiness=Probe(path="/", period_s=0.05, timeout_s=0.1))
    async with server(silent) as port, watching(probes, port) as prober:
        await until(prober, "said")
        health = prober.health("c1")
        assert health is not None
        assert "not answered within 0.1 s" in health.said


async def test_an_exec_probe_goes_by_the_exit_code() -> None:
    probes = Probes(readiness=Probe(command=("true",), period_s=0.05))
    engine = FakeEngine(code=1)
    async with watching(probes, None, engine) as prober:
        await until(prober, "said")
        engine.error = EngineError("the engine is busy")
        await asyncio.sleep(0.1)
        engine.code, engine.error = 0, None
        await until(prober, "ready")


async def test_a_liveness_failure_makes_sick_and_ends_the_asking() -> None:
    live = Probe(command=("true",), period_s=0.02, failure_threshold=2)
    probes = Probes(readiness=Probe(command=("true",), period_s=9), liveness=live)
    async with watching(probes, None, FakeEngine(code=1)) as prober:
        await until(prober, "sick")


async def test_an_open_port_counts_only_where_the_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = Probe(timeout_s=60)
    monkeypatch.setattr(module, "HOLD_S", 0.2)
    async with server(silent) as port:
        assert await module._ask_port(probe, port) == ""
    monkeypatch.setattr(module, "HOLD_S", 60)
    async with server(closing) as port:
        assert "nothing listens" in await module._ask_port(probe, port)
    assert "nothing listens" in await module._ask_port(probe, port)


async def test_a_connection_is_enough_where_tcp_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.2)
    probe = Probe(tcp=True, port=PORT, period_s=0.05, timeout_s=60)
    async with server(silent) as port, watching(Probes(readiness=probe), port) as prober:
        await until(prober, "ready")
    async with watching(Probes(readiness=PORT_PROBE, liveness=probe), port) as prober:
        await until(prober, "sick")
        health = prober.health("c1")
        assert health is not None
        assert "liveness probe failed 3 times: nothing listens on its port" in health.sick


async def test_a_tcp_probe_of_another_port_asks_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOLD_S", 0.2)
    probe = Probe(tcp=True, port=PORT + 1, period_s=0.05, timeout_s=60)
    async with server(silent) as port, watching(Probes(readiness=probe), port) as prober:
        await until(prober, "said")
        health = prober.health("c1")
        assert health is not None
        assert health.said == f"port {PORT + 1} is not published"


async def test_a_port_that_is_not_published_is_told() -> None:
    async with watching(Probes(readiness=Probe(path="/", period_s=0.05)), None) as prober:
        await until(prober, "said")
        health = prober.health("c1")
        assert health is not None
        assert health.said == "port 80 is not published"
