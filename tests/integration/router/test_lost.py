"""A server whose program has ended, and whose port somebody else is given."""

from __future__ import annotations

import asyncio

from appliance.router.router import Router
from appliance.router.table import Hold, Route, Target
from tests.integration.router.door import DEADLINE_S, NEEDS, Backend, Door, X, get, until, word

pytestmark = NEEDS
ALSO = "/deployments/also"


async def test_a_server_that_is_lost_is_led_to_by_nobody_any_more(door: Door, router: Router) -> None:
    """Also where somebody listens on its port: that is another one's."""
    await router.lost("nobody")
    one, stranger = await door.backend("one"), await door.backend("stranger")
    hold = Hold(DEADLINE_S, 10)
    await router.set_route(Route(X, (Target("one", one.port), Target("gone", stranger.port)), True, hold=hold))
    await router.set_route(Route(ALSO, (Target("gone", stranger.port),), True, hold=hold))
    await until(lambda: _is_named(door, X, "stranger"))
    await router.lost("gone")
    taken = stranger.requests
    assert {word(await get(door.port, f"{X}/p")) for _ in range(20)} == {"one"}
    waiting = asyncio.create_task(get(door.port, f"{ALSO}/p"))
    await until(lambda: _is_held(router))
    assert stranger.requests == taken
    await _lead_to(router, one)
    async with asyncio.timeout(DEADLINE_S):
        assert word(await waiting) == "one"


async def _lead_to(router: Router, backend: Backend) -> None:
    await router.set_route(Route(ALSO, (Target("next", backend.port),), True, hold=Hold(DEADLINE_S, 10)))


async def _is_named(door: Door, prefix: str, name: str) -> bool:
    return word(await get(door.port, f"{prefix}/p")) == name


async def _is_held(router: Router) -> bool:
    return (await router.meters())[ALSO].held == 1


async def test_one_who_looked_before_it_was_lost_does_not_bring_it_back(door: Door, router: Router) -> None:
    """Its port may be a stranger's by then; HAProxy's own look cannot tell who listens."""
    one, stranger = await door.backend("one"), await door.backend("stranger")
    seen = Route(X, (Target("one", one.port), Target("gone", stranger.port)), True)
    await router.lost("gone")
    await router.set_route(seen)
    assert {word(await get(door.port, f"{X}/p")) for _ in range(10)} == {"one"}
    assert stranger.requests == 0
    assert not router.back("nobody")
    assert router.back("gone")
    await router.set_route(seen)
    await until(lambda: _is_named(door, X, "stranger"))


async def test_one_that_is_lost_while_a_change_waits_is_left_out(door: Door, router: Router) -> None:
    one, stranger = await door.backend("one"), await door.backend("stranger")
    async with router._lock:
        change = asyncio.create_task(
            router.set_route(Route(X, (Target("one", one.port), Target("gone", stranger.port)), True))
        )
        await asyncio.sleep(0)
        ending = asyncio.create_task(router.lost("gone"))
        await asyncio.sleep(0)
    await asyncio.gather(change, ending)
    assert {word(await get(door.port, f"{X}/p")) for _ in range(10)} == {"one"}
    assert stranger.requests == 0
