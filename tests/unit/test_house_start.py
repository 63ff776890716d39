"""The engine and the front door come up beside each other: whoever is second looks for what has ended."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.house import House
from appliance.router.table import Route, Target

pytestmark = pytest.mark.anyio


async def _nothing(*_: Any) -> None:
    return None


async def test_a_front_door_that_comes_up_while_the_engine_is_greeted_leaves_what_has_ended() -> None:
    """The greeting has looked before there were routes, and the engine is not yet told as well."""
    at_network, go_on, lost = asyncio.Event(), asyncio.Event(), list[str]()
    routes: list[Route] = []

    async def network() -> str:
        at_network.set()
        await go_on.wait()
        return "127.0.0.1"

    async def found() -> list[Any]:
        return []

    async def start() -> None:
        routes.append(Route("/deployments/x", (Target("gone", 5),), strip=True))

    async def status() -> Any:
        return SimpleNamespace(routes=routes)

    async def remember(target: str) -> None:
        lost.append(target)

    async def watch() -> None:
        go_on.set()
        await asyncio.Event().wait()

    info = SimpleNamespace(version="1", storage_driver="overlay2", cgroup_version="2")

    async def connect() -> Any:
        return info

    nobody: Any = SimpleNamespace(sweep=_nothing)
    stand_in: Any = SimpleNamespace
    house: Any = House(
        parts=stand_in(
            engine=SimpleNamespace(connect=connect, list=found, ensure_network=network),
            settings=SimpleNamespace(port=1, push_port=0, url="http://127.0.0.1:1"),
            health={},
            notebooks=nobody,
        ),
        store=nobody,
        router=stand_in(start=start, status=status, lost=remember, watch=watch, set_binds=_nothing),
        runs=nobody,
        deployments=nobody,
        reconciler=stand_in(hint_all=lambda: None),
        watcher=nobody,
        room=nobody,
        triggers=nobody,
        scaler=nobody,
        gpus=nobody,
        scheduler=nobody,
        reaching=nobody,
        sampler=stand_in(look_anew=lambda: None),
    )
    async with asyncio.timeout(60):
        greeting = asyncio.create_task(house._greet_engine())
        await at_network.wait()
        keeping = asyncio.create_task(house._keep_router())
        await greeting
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert lost == ["gone"]
