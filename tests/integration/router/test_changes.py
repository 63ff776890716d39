"""Routes that change under load."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from appliance.router import process, saved
from appliance.router import router as router_module
from appliance.router.router import Router
from appliance.router.saved import Saved
from appliance.router.table import Table
from tests.integration.router.door import (
    DEADLINE_S,
    NEEDS,
    A,
    Backend,
    Door,
    X,
    get,
    load,
    route,
    until,
    watched,
    word,
)

pytestmark = NEEDS


async def test_a_rolling_replace_fails_no_request(door: Door, router: Router) -> None:
    current = await door.backend("r0")
    await router.set_route(route(X, current, strip=True))
    async with load(door.port, f"{X}/predict") as failures:
        for number in range(1, 6):
            successor = await door.backend(f"r{number}")
            await router.set_route(route(X, current, successor, strip=True))
            assert await router.drain(X, current.name, deadline_s=DEADLINE_S)
            served = current.requests
            await until(partial(_served, successor))
            assert current.requests == served, "a drained server gets nothing more"
            current = successor
    assert failures == []


async def _served(backend: Backend) -> bool:
    return backend.requests > 0


async def test_drain_waits_for_the_request_in_flight(door: Door, router: Router) -> None:
    old, new = await door.backend("old"), await door.backend("new")
    await router.set_route(route(X, old))
    pending = asyncio.create_task(get(door.port, f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await old.arrived.wait()
    await router.set_route(route(X, new))
    assert not await router.drain(X, "old", deadline_s=0.1)
    assert word(await get(door.port, X)) == "new"
    draining = asyncio.create_task(router.drain(X, "old", deadline_s=DEADLINE_S))
    await asyncio.sleep(0.1)
    assert not draining.done()
    old.release.set()
    assert await draining
    assert word(await pending) == "old"
    assert await router.drain(X, "never there", deadline_s=0.1)


async def test_a_drained_last_target_leaves_the_path_to_the_daemon(door: Door, router: Router) -> None:
    await door.daemon()
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    pending = asyncio.create_task(get(door.port, f"{A}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    assert not await router.drain(A, "a", deadline_s=0)
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    assert word(await get(door.port, A)) == "a", "a target may return while it drains"
    backend.release.set()
    assert word(await pending) == "a"


async def test_watch_deletes_servers_that_are_done(door: Door, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "TEND_S", 0.05)
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    await router.drop_route(A)
    async with watched(router):

        async def clean() -> bool:
            return not await router._occupied()

        await until(clean)


async def test_running_out_of_slots_reloads_without_a_failed_request(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    (door.directory / "router").mkdir()
    saved.write(door.directory / "router" / "routes.json", saved.to_json(Saved(Table(capacity=2)), saved.this_boot()))
    router = door.router()
    await router.start()
    backend, slow = await door.backend("a"), await door.backend("slow")
    await router.set_route(route(A, backend))
    await router.set_route(route(X, slow))
    pid = (await router.status()).pid
    pending = asyncio.create_task(get(door.port, f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await slow.arrived.wait()
    async with load(door.port, f"{A}/") as failures:
        for number in range(4):
            await router.set_route(route(f"/notebooks/n{number}", backend))
    assert failures == []
    assert (await router.status()).pid != pid
    for path in (A, X, "/notebooks/n3"):
        assert (await get(door.port, path)).status == 200
    assert not await router.drain(X, "slow", deadline_s=0.3), "the replaced HAProxy still has a request to it"
    slow.release.set()
    assert word(await pending) == "slow"
    assert pid is not None
    assert await process.ended(pid, timeout_s=DEADLINE_S)
    assert await router.drain(X, "slow", deadline_s=DEADLINE_S)
