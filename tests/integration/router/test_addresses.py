"""Where the front door listens."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from appliance.errors import RouterError, UsageError
from appliance.router import ports
from appliance.router import router as router_module
from appliance.router.ports import Place
from appliance.router.router import Router
from tests.integration.router.door import (
    DEADLINE_S,
    NEEDS,
    A,
    Door,
    get,
    load,
    route,
    until,
    watched,
    word,
)
from tests.support.ports import free_port

pytestmark = NEEDS


async def test_a_port_in_use_names_the_program_and_the_next_step(door: Door) -> None:
    with socket.create_server(("127.0.0.1", door.port)):
        with pytest.raises(RouterError, match=rf"port {door.port} is in use by .*pid {os.getpid()}") as caught:
            await door.router().start()
        assert "APPLIANCE_PORT" in caught.value.hint
    await door.router().start()


async def test_two_appliances_do_not_share_a_port(door: Door, router: Router) -> None:
    other = Router(
        door.directory / "other",
        haproxy="haproxy",
        host="127.0.0.1",
        port=door.port,
        api_socket=door.api_socket,
    )
    with pytest.raises(RouterError, match="in use by haproxy"):
        await other.start()


async def test_another_port_is_taken_up_without_losing_a_request(door: Door, router: Router) -> None:
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    pending = asyncio.create_task(get(door.port, f"{A}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    former, door.port = door.port, free_port()
    await door.router().start()
    assert word(await get(door.port, A)) == "a"
    backend.release.set()
    assert word(await pending) == "a"
    with pytest.raises(OSError):  # noqa: PT011
        await get(former, A)


async def test_a_missing_extra_address_is_told_and_added_when_it_appears(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ports.parse_bind(f"127.0.0.77:{door.port}")
    probe, absent = ports.probe, True
    monkeypatch.setattr(ports, "probe", lambda bind: Place.ABSENT if bind == extra and absent else probe(bind))
    monkeypatch.setattr(router_module, "TEND_S", 0.05)
    router = door.router(str(extra))
    await router.start()
    await router.set_route(route(A, await door.backend("a")))
    status = await router.status()
    assert status.running
    assert f"does not listen on {extra}: no such address" in status.message
    absent = False
    async with load(door.port, f"{A}/") as failures, watched(router):

        async def listens() -> bool:
            return (await router.status()).message == ""

        await until(listens)
    assert failures == []
    _, writer = await asyncio.open_connection("127.0.0.77", door.port)
    writer.close()
    await writer.wait_closed()


async def test_addresses_change_while_it_runs(door: Door, router: Router) -> None:
    await router.set_binds([f"127.0.0.78:{door.port}"])
    _, writer = await asyncio.open_connection("127.0.0.78", door.port)
    writer.close()
    await writer.wait_closed()
    await router.set_binds([])
    with pytest.raises(OSError):  # noqa: PT011
        await asyncio.open_connection("127.0.0.78", door.port)
    with pytest.raises(UsageError):
        await router.set_binds(["somewhere"])
    really_absent = f"192.0.2.77:{door.port}"
    await router.set_binds([really_absent])
    assert really_absent in (await router.status()).message


async def test_a_restart_keeps_the_further_addresses_without_a_reload(door: Door, router: Router) -> None:
    extra = f"127.0.0.79:{door.port}"
    await router.set_binds([extra])
    pid = (await router.status()).pid
    again = door.router()
    await again.start()
    await again.set_binds([extra])
    assert (await again.status()).pid == pid
