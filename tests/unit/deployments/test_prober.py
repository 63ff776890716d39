"""Probes against real sockets on 127.0.0.1."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
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


@pytest.mark.parametrize("reset", [False, True])
async def test_a_port_where_nobody_listens_is_told_as_such(reset: bool) -> None:
    """The engine's proxy accepts there, and breaks off."""

    async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reset:
            writer.transport.abort()
        writer.close()

    probes = Probes(readiness=Probe(path="/healthz", period_s=0.05))
    async with server(breaking) as port, watching(probes, port) as prober:
        await until(prober, "said")
        health = prober.health("c1")
        assert health is not None
        assert health.said == f"GET /healthz: nothing answers on port {PORT} of the container"


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


async def test_a_clock_that_is_set_changes_no_probe() -> None:
    """Neither back, which would stop them for so long, nor ahead, which would use up the patience of startup."""
    asked = asyncio.Semaphore(0)

    class Counting(FakeEngine):
        async def exec(self, *args: Any, **more: Any) -> tuple[int, bytes]:
            asked.release()
            return await super().exec(*args, **more)

    ahead = 0.0
    probe = Probe(command=("true",), period_s=0.02, failure_threshold=15_000)  # five minutes of patience
    probes = Probes(readiness=probe, startup=probe, liveness=probe)
    engine = Counting(code=1)
    prober = Prober(cast(Engine, engine), lambda: time.time() + ahead, lambda uid: None)
    prober.watch("uid", container(None), probes, PORT, was_ready=False)
    try:
        async with asyncio.timeout(60):
            for jump in (3600.0, -3600.0):
                ahead = jump
                for _ in range(3):
                    await asked.acquire()
        health = prober.health("c1")
        assert health is not None
        assert (health.sick, health.started) == ("", False)
        engine.code = 0
        await until(prober, "ready")
        ahead = -7200.0
        async with asyncio.timeout(60):
            for _ in range(asked._value + 3):
                await asked.acquire()
    finally:
        await prober.close()


async def test_how_old_a_container_is_counts_and_is_never_less_than_nothing() -> None:
    prober = Prober(cast(Engine, FakeEngine()), lambda: 1000.0, lambda uid: None, counter=lambda: 50.0)
    probes = Probes(readiness=Probe(command=("true",), period_s=1))
    try:
        for number, (started, began) in enumerate([(970.0, 20.0), (5000.0, 50.0), (None, 50.0)]):
            one = replace(container(None), id=f"c{number}", started=started)
            assert prober.watch("uid", one, probes, PORT, was_ready=False).began == began
    finally:
        await prober.close()
