"""Requests that wait for a server, inside HAProxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from appliance.router import process
from appliance.router import router as router_module
from appliance.router.router import Router
from appliance.router.sync import Observed
from appliance.router.table import Hold, Route, Target
from tests.integration.router.door import DEADLINE_S, NEEDS, Answer, Backend, Door, X, get, load, until, watched, word
from tests.support.ports import free_port

pytestmark = NEEDS
Y = "/deployments/y"


def held(*backends: Backend, seconds: float = DEADLINE_S, most: int = 100, prefix: str = X) -> Route:
    targets = tuple(Target(backend.name, backend.port) for backend in backends)
    return Route(prefix, targets, strip=True, hold=Hold(seconds, most))


async def count(router: Router, prefix: str = X) -> int:
    return (await router.meters())[prefix].held


@asynccontextmanager
async def asking(
    door: Door, router: Router, number: int, path: str = f"{X}/p"
) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """So many clients, all of them held."""
    tasks = [asyncio.create_task(get(door.port, path)) for _ in range(number)]
    try:
        await until(lambda: _is_held(router, number))
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _is_held(router: Router, number: int) -> bool:
    return await count(router) == number


async def answers(tasks: list[asyncio.Task[Answer]]) -> list[Answer]:
    async with asyncio.timeout(DEADLINE_S):
        return await asyncio.gather(*tasks)


async def test_requests_wait_for_a_server_and_knock(door: Door, router: Router) -> None:
    heard: list[str] = []
    router.on_knock = heard.append
    assert router.can_hold
    backend = await door.backend("a")
    async with watched(router):
        await router.set_route(held())
        async with asking(door, router, 8) as tasks:
            await until(lambda: _is_true(len(heard) >= 2))
            assert set(heard) == {X}
            await router.set_route(held(backend))
            assert [word(answer) for answer in await answers(tasks)] == ["a"] * 8
    assert (await router.meters())[X].servers["a"].requests == 8
    assert await count(router) == 0


async def _is_true(value: bool) -> bool:
    return value


async def test_a_post_waits_with_its_body_and_arrives_once(door: Door, router: Router) -> None:
    backend = await door.backend("a")
    await router.set_route(held())
    body = b"b" * (4 << 20)
    task = asyncio.create_task(get(door.port, f"{X}/up", method="POST", body=body))
    await until(lambda: _is_held(router, 1))
    pid = (await router.status()).pid
    await router.set_route(held(backend))
    answer = (await answers([task]))[0]
    assert answer.body.startswith(f"a {len(body)}\n".encode())
    assert backend.requests == 1
    assert (await router.status()).pid == pid


async def test_nobody_waits_longer_than_the_hold(door: Door, router: Router) -> None:
    await router.set_route(held(seconds=0.3))
    began = asyncio.get_running_loop().time()
    answer = await get(door.port, X)
    assert asyncio.get_running_loop().time() - began >= 0.3
    assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert b'"code": "not_ready"' in answer.body
    page = await get(door.port, X, "Accept: text/html")
    assert page.headers["content-type"] == "text/html; charset=utf-8"


async def test_no_more_are_held_than_allowed(door: Door, router: Router) -> None:
    backend = await door.backend("a")
    await router.set_route(held(most=5))
    async with asking(door, router, 5) as tasks:
        for _ in range(3):
            answer = await get(door.port, X)
            assert answer.status == 503
            assert b'"code": "too_many_waiting"' in answer.body
        await until(lambda: _is_held(router, 5))
        await router.set_route(held(backend, most=5))
        assert {answer.status for answer in await answers(tasks)} == {200}


async def test_a_client_that_gives_up_is_not_counted_and_makes_room(door: Door, router: Router) -> None:
    await router.set_route(held(most=3))
    async with asking(door, router, 3):
        pass
    await until(lambda: _is_held(router, 0))
    async with asking(door, router, 3):
        pass


async def test_a_route_without_hold_is_the_daemons_and_a_hold_can_be_taken_back(door: Door, router: Router) -> None:
    await door.daemon()
    await router.set_route(Route(X, (), strip=True))
    assert word(await get(door.port, X)) == "daemon"
    await router.set_route(held(seconds=0.1))
    assert (await get(door.port, X)).status == 503
    await router.set_route(Route(X, (), strip=True))
    assert word(await get(door.port, X)) == "daemon"
    assert (await router.meters())[X].held == 0


@pytest.mark.parametrize("end", ["dropped", "without hold", "dropped and made again"])
async def test_a_held_request_is_never_answered_by_another_route(door: Door, router: Router, end: str) -> None:
    await door.daemon()
    await router.set_route(held())
    other = await door.backend("other")
    async with asking(door, router, 4) as tasks:
        if end == "without hold":
            await router.set_route(Route(X, (), strip=True))
        else:
            await router.drop_route(X)
        await router.set_route(held(other, prefix=Y))
        if end == "dropped and made again":
            await router.set_route(held())
        found = await answers(tasks)
    assert {(answer.status, answer.headers["retry-after"]) for answer in found} == {(503, "2")}
    assert b'"code": "interrupted"' in found[0].body
    assert other.requests == 0
    assert word(await get(door.port, Y)) == "other"


async def test_a_slot_in_which_requests_are_held_is_not_given_out(
    door: Door, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it has no server and no path leads to it."""

    async def nothing() -> Observed:
        return Observed()

    await router.set_route(held())
    slot = router._table.slots[X]
    async with asking(door, router, 2):
        monkeypatch.setattr(router._haproxy, "observe", nothing)
        assert await router._occupied() == {slot}
    await until(lambda: _is_free(router))


async def _is_free(router: Router) -> bool:
    return not await router._occupied()


async def test_a_swap_under_load_loses_nothing(door: Door, router: Router) -> None:
    """The route is emptied, the old server drains, another comes: five times."""
    current = await door.backend("r0")
    await router.set_route(held(current))
    async with load(door.port, f"{X}/p", clients=32) as failures:
        for number in range(1, 6):
            await router.set_route(held())
            assert await router.drain(X, current.name, deadline_s=DEADLINE_S)
            served = current.requests
            await until(lambda: _is_held(router, 32))
            assert current.requests == served
            current = await door.backend(f"r{number}")
            await router.set_route(held(current))
            await until(lambda: _is_true(current.requests > 32))  # noqa: B023
    assert failures == []


async def test_a_dead_server_leaves_by_itself_and_its_requests_wait(door: Door, router: Router) -> None:
    """Nobody tells HAProxy: the daemon may be dead as well."""
    port = free_port()
    gone, here = Backend("gone"), await door.backend("here")
    server = await asyncio.start_server(gone.handle, "127.0.0.1", port)
    gone.port = port
    await router.set_route(held(gone, here))
    assert {word(await get(door.port, X)) for _ in range(10)} == {"gone", "here"}
    server.close()
    assert {word(await get(door.port, X)) for _ in range(10)} == {"here"}
    await router.set_route(held(gone))
    async with asking(door, router, 4) as tasks:
        again = await asyncio.start_server(gone.handle, "127.0.0.1", port)
        assert {word(answer) for answer in await answers(tasks)} == {"gone"}
        again.close()


async def test_a_reload_waits_until_nobody_is_held(door: Door, router: Router) -> None:
    backend = await door.backend("a")
    await router.set_route(held())
    pid = (await router.status()).pid
    async with asking(door, router, 4) as tasks:
        rebinding = asyncio.create_task(router.set_binds([f"127.0.0.80:{door.port}"]))
        await asyncio.sleep(0.3)
        assert not rebinding.done()
        await router.set_route(held(backend))
        assert {word(answer) for answer in await answers(tasks)} == {"a"}
        async with asyncio.timeout(DEADLINE_S):
            await rebinding
    assert (await router.status()).pid != pid


async def test_a_haproxy_that_does_not_take_a_change_is_replaced_when_nobody_is_held(
    door: Door, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "TEND_S", 0.05)
    runtime = router._haproxy._runtime
    run = runtime.run

    async def deaf(commands: Sequence[str]) -> None:
        await run([command for command in commands if Y.removeprefix("/") not in command])

    monkeypatch.setattr(runtime, "run", deaf)
    backend = await door.backend("a")
    await router.set_route(held())
    pid = (await router.status()).pid
    async with watched(router):
        async with asking(door, router, 3) as tasks:
            await router.set_route(Route(Y, (Target("a", backend.port),), strip=True))
            assert (await router.status()).pid == pid
            await router.set_route(held(backend))
            assert [answer.status for answer in await answers(tasks)] == [200] * 3
        await until(lambda: _leads(door, Y))
    assert (await router.status()).pid != pid


async def _leads(door: Door, prefix: str) -> bool:
    return (await get(door.port, f"{prefix}/p")).status == 200


async def test_a_reload_is_not_kept_up_longer_than_the_hold(door: Door, router: Router) -> None:
    await router.set_route(held(seconds=0.5))
    async with load(door.port, "/v1") as _:  # the daemon's page: requests of nobody's route
        tasks = [asyncio.create_task(get(door.port, X)) for _ in range(3)]
        async with asyncio.timeout(DEADLINE_S):
            await router.set_binds([f"127.0.0.81:{door.port}"])
            await asyncio.gather(*tasks)


async def test_a_haproxy_that_was_replaced_holds_nobody(
    door: Door, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server counts as ready in it, and its kept connections may bring one more request."""
    backend = await door.backend("a")
    await router.set_route(held(backend))
    async with load(door.port, f"{X}/p", clients=32) as failures:
        for number in range(82, 90):
            await router.set_binds([f"127.0.0.{number}:{door.port}"])
            served = backend.requests
            await until(lambda: _is_true(backend.requests > served + 100))  # noqa: B023
    assert failures == []


async def test_without_lua_nothing_is_held_and_the_status_says_so(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(program: str) -> bool:
        return False

    monkeypatch.setattr(process, "has_lua", none)
    router = door.router()
    await router.start()
    assert not router.can_hold
    backend = await door.backend("a")
    await router.set_route(held(backend))
    assert word(await get(door.port, X)) == "a"
    await door.daemon()
    await router.set_route(held())
    assert word(await get(door.port, X)) == "daemon", "its waiting page"
    assert "no Lua" in (await router.status()).message
