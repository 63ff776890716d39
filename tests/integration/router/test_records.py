"""What the daemon hears of requests."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.router.requests import Request
from appliance.router.router import Router
from appliance.router.table import Access, Hold, Route
from tests.integration.router.door import DEADLINE_S, NEEDS, A, Door, X, get, load, route, until, watched

pytestmark = NEEDS


@asynccontextmanager
async def reading(router: Router) -> AsyncIterator[list[Request]]:
    found: list[Request] = []

    async def read() -> None:
        async for batch in router.records():
            found.extend(batch)

    task = asyncio.create_task(read())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def length(found: list[Request], wanted: int) -> None:
    async def enough() -> bool:
        assert not found or len(found) <= wanted
        return len(found) == wanted

    await until(enough)


async def test_each_request_of_a_route_is_told_once(door: Door, router: Router) -> None:
    await door.daemon()
    await router.set_route(route(X, await door.backend("x"), strip=True))
    await router.set_route(route(A, await door.backend("a")))
    async with reading(router) as found:
        began = time.time()
        await get(door.port, f"{X}/p?secret=1", method="POST", body=b"b" * 1000)
        await get(door.port, A)
        for path in ("/v1", "/deployments/unknown", f"{X}%0a1", "/notebooks/%22%20x"):
            await get(door.port, path)
        await length(found, 2)
        first, second = sorted(found, key=lambda one: one.at)
    assert (first.prefix, first.target, first.status, first.cut) == (X, "x", 200, False)
    assert (second.prefix, second.target) == (A, "a")
    assert began - 1 < first.at <= time.time()
    assert 0 <= first.wait_ms <= first.total_ms
    assert first.received > 1000
    assert first.sent > 0


async def test_refused_held_and_abandoned_requests_say_so(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    await router.set_route(Route(X, (), strip=True, hold=Hold(0.3, 10)))
    async with reading(router) as found:
        await get(door.port, X)
        await length(found, 1)
        assert (found[0].status, found[0].target, found[0].wait_ms, found[0].cut) == (503, "", -1, False)
        assert found[0].total_ms >= 300
        held = asyncio.create_task(get(door.port, X))
        await until(lambda: _held(router))
        await asyncio.sleep(0.05)
        await router.set_route(replace(route(X, backend), hold=Hold(0.3, 10)))
        assert (await held).status == 200
        await length(found, 2)
        assert found[1].status == 200
        assert found[1].held_ms >= 50
        assert found[1].wait_ms < found[1].total_ms
        await router.set_route(replace(route(X, backend), access=Access("key", frozenset())))
        await get(door.port, X)
        await length(found, 3)
        assert (found[2].status, found[2].target) == (401, "")
        await router.set_route(route(X, backend))
        backend.arrived.clear()
        gone = asyncio.create_task(get(door.port, f"{X}/slow"))
        async with asyncio.timeout(DEADLINE_S):
            await backend.arrived.wait()
        gone.cancel()
        await length(found, 4)
        assert found[3].cut


async def _held(router: Router) -> bool:
    return (await router.meters())[X].held == 1


async def test_records_wait_for_a_reader(door: Door, router: Router) -> None:
    """As while the daemon restarts."""
    await router.set_route(route(X, await door.backend("x")))
    for _ in range(5):
        await get(door.port, X)
    async with reading(router) as found:
        await length(found, 5)
    for _ in range(5):
        await get(door.port, X)
    await asyncio.sleep(0.01)  # HAProxy's clock counts milliseconds
    again = door.router()
    await again.start()
    async with reading(again) as found:
        await length(found, 5)


async def test_none_is_lost_under_load_and_over_reloads_and_readers(door: Door, router: Router) -> None:
    backend = await door.backend("x")
    await router.set_route(route(X, backend))
    told: list[Request] = []
    async with load(door.port, X, clients=16) as failures:
        for number in (90, 91):
            async with reading(router) as found:
                await router.set_binds([f"127.0.0.{number}:{door.port}"])
                served = backend.requests
                await until(lambda: _more(min(backend.requests - served, len(found)), 300))  # noqa: B023
            told += found
    assert failures == []
    async with reading(router) as found:
        await until(lambda: _more(len(told) + len(found), backend.requests - 40))
    assert abs(len(told) + len(found) - backend.requests) <= 40, "those of one instant, at each change"
    assert {one.status for one in told} == {200}


async def test_a_new_haproxy_tells_what_it_serves(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("x")))
    async with reading(router) as found:
        for number in (90, 91):
            await router.set_binds([f"127.0.0.{number}:{door.port}"])
            await get(door.port, X)
        await length(found, 2)


async def _more(value: int, least: int) -> bool:
    return value > least


async def test_nobody_listening_costs_nothing(door: Door, router: Router) -> None:
    """While the daemon is dead HAProxy must not look for it without a pause."""
    await router.set_route(route(X, await door.backend("x")))
    await get(door.port, X)
    pid = (await router.status()).pid
    before = cpu_s(pid)
    await asyncio.sleep(1)
    assert cpu_s(pid) - before < 0.15


def cpu_s(pid: int | None) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_account_does_not_knock(door: Door, router: Router) -> None:
    heard: list[str] = []
    router.on_knock = heard.append
    await router.set_route(Route(X, (), strip=True, hold=Hold(DEADLINE_S, 10)))
    program = (
        "import os,socket,sys\nos.setuid(int(sys.argv[2]))\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n"
        "try:\n s.sendall(b'deployments/x\\n')\n s.shutdown(1)\n s.recv(1)\nexcept OSError:\n pass"
    )
    path = door.directory / "router" / "knocks.sock"
    async with watched(router):
        await until(lambda: _more(path.exists(), 0))
        for account in (65534, 0):
            assert heard == []
            child = await asyncio.create_subprocess_exec("python3", "-c", program, str(path), str(account))
            async with asyncio.timeout(DEADLINE_S):
                await child.wait()
        await until(lambda: _more(len(heard), 0))
