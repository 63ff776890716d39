"""The daemon of this version comes to a HAProxy that the one before it started: nothing is lost.

`data/haproxy-0.4.cfg` is what version 0.4 wrote for one deployment.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from appliance.router import process, saved
from appliance.router.router import Router
from appliance.router.table import Hold, Route, Target
from tests.integration.router.door import DEADLINE_S, NEEDS, Backend, Client, Door, X, get, load, until, watched, word

pytestmark = NEEDS
WRITTEN = Path(__file__).parent / "data" / "haproxy-0.4.cfg"


async def former(door: Door, backend: Backend) -> int:
    """The HAProxy of version 0.4 and what its daemon saved; its pid."""
    directory = door.directory / "router"
    directory.mkdir(mode=0o700)
    config = WRITTEN.read_text().replace("@HOME@", str(door.directory))
    config = config.replace("@DOOR@", str(door.port)).replace("@SERVER@", str(backend.port))
    (directory / "haproxy.cfg").write_text(config)
    (directory / "routes.map").write_text("deployments/x slot-0/strip\n")
    (directory / "pages.map").write_text("")
    routes = [{"prefix": X, "strip": True, "targets": [{"id": backend.name, "port": backend.port}]}]
    state = {"version": 1, "boot": saved.this_boot(), "binds": [], "capacity": 64, "slots": {X: 0}, "routes": routes}
    (directory / "routes.json").write_text(json.dumps(state))
    program, admin = process.find("haproxy"), directory / "admin.sock"
    await process.launch(program, directory / "haproxy.cfg", directory / "haproxy.pid", socket=admin)
    return int((directory / "haproxy.pid").read_text())


async def test_the_upgrade_loses_no_request(door: Door) -> None:
    backend = await door.backend("r1")
    pid = await former(door, backend)
    slow = Client(door.port)
    pending = asyncio.create_task(slow.ask(f"{X}/slow", method="POST", body=b"{}"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    async with load(door.port, f"{X}/p", clients=64) as failures:
        router = door.router()
        await router.start()
        status = await router.status()
        assert (status.running, status.message) == (True, "")
        assert status.pid != pid
        # what the new daemon's controller says at its first pass
        await router.set_route(Route(X, (Target("r1", backend.port),), strip=True, hold=Hold(60, 1000)))
        served = backend.requests
        await until(lambda: _more(backend, served + 200))
    assert failures == []
    assert not await router.drain(X, "r1", deadline_s=0.2), "the former HAProxy still has a request to it"
    backend.release.set()
    assert (await pending).status == 200
    await slow.close()
    assert await process.ended(pid, timeout_s=DEADLINE_S)


async def _more(backend: Backend, least: int) -> bool:
    return backend.requests > least


async def test_an_upgrade_of_an_idle_door_serves_at_once(door: Door) -> None:
    backend = await door.backend("r1")
    await former(door, backend)
    router = door.router()
    await router.start()
    assert (await get(door.port, f"{X}/p")).status == 200
    assert (door.directory / "router").stat().st_mode & 0o777 == 0o711, "HAProxy's account reaches the daemon's sockets"
    for path in (door.directory / "router").iterdir():
        assert path.is_socket() or path.stat().st_mode & 0o007 == 0 or path.name == "haproxy.pid", path


async def test_a_new_version_waits_for_those_who_are_held(door: Door, router: Router) -> None:
    """What is declared meanwhile is told to the one that holds them."""
    held = Route(X, (), strip=True, hold=Hold(DEADLINE_S, 10))
    await router.set_route(held)
    pid = (await router.status()).pid
    asking = asyncio.create_task(get(door.port, f"{X}/p"))
    await until(lambda: _holds(router, 1))
    backend = await door.backend("r1")
    later = door.router()
    later._connections = 100  # another fixed part, as a new version has
    async with watched(later):
        await later.start()
        assert (await later.status()).pid == pid
        await later.set_route(replace(held, targets=(Target("r1", backend.port),)))
        async with asyncio.timeout(DEADLINE_S):
            assert word(await asking) == "r1"
        await until(lambda: _another(later, pid))
    assert word(await get(door.port, f"{X}/p")) == "r1"


async def _holds(router: Router, number: int) -> bool:
    return (await router.meters())[X].held == number


async def _another(router: Router, pid: int | None) -> bool:
    return (await router.status()).pid not in (None, pid)
