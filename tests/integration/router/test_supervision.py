"""HAProxy lives, dies, and is found again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from appliance.errors import RouterError
from appliance.router import process, saved
from appliance.router.router import Router
from appliance.router.saved import Saved
from appliance.router.table import Hold, Route, Table, Target
from tests.integration.router.door import (
    DEADLINE_S,
    NEEDS,
    A,
    Answer,
    Door,
    X,
    get,
    load,
    route,
    target_of,
    until,
    watched,
    word,
)
from tests.support.ports import free_port

pytestmark = NEEDS
HOLD = Hold(DEADLINE_S, 10)


async def test_a_new_router_adopts_the_running_haproxy(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    pid = (await router.status()).pid
    del router
    async with load(door.port, f"{A}/") as failures:
        for _ in range(3):
            again = door.router()
            await again.start()
            status = await again.status()
            assert (status.running, status.pid) == (True, pid)
            assert [found.prefix for found in status.routes] == [A]
    assert failures == []


async def test_a_crash_between_saving_and_telling_is_healed_without_a_reload(door: Door, router: Router) -> None:
    await door.daemon()
    one, two = await door.backend("one"), await door.backend("two")
    await router.set_route(route(A, one))
    await router.set_route(route("/notebooks/dropped", one))
    pid = (await router.status()).pid
    table = Table().put(route(A, two, strip=True)).put(route(X, one))
    saved.write(door.directory / "router" / "routes.json", saved.to_json(Saved(table), saved.this_boot()))
    again = door.router()
    await again.start()
    assert (await again.status()).pid == pid
    answer = await get(door.port, f"{A}/b")
    assert (word(answer), target_of(answer)) == ("two", "/b")
    assert word(await get(door.port, X)) == "one"
    assert word(await get(door.port, "/notebooks/dropped")) == "daemon"


async def test_a_damaged_table_is_moved_aside_and_told(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    (door.directory / "router" / "routes.json").write_text("{")
    again = door.router()
    await again.start()
    status = await again.status()
    assert status.routes == ()
    assert "routes.damaged" in status.message


async def test_a_killed_haproxy_comes_back_with_its_routes(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    pid = (await router.status()).pid
    assert pid is not None
    async with watched(router):
        os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            status = await router.status()
            return status.running and status.message == ""

        await until(back)
        assert word(await get(door.port, A)) == "a"
    assert (await router.status()).pid != pid
    assert len(door.problems) == 1
    assert str(pid) in door.problems[0]


async def test_a_change_finds_haproxy_dead_and_starts_it(door: Door, router: Router) -> None:
    pid = (await router.status()).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert await process.ended(pid, timeout_s=DEADLINE_S)
    await router.set_route(route(A, await door.backend("a")))
    assert word(await get(door.port, A)) == "a"


async def test_a_haproxy_without_its_socket_is_replaced(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    pid = (await router.status()).pid
    (door.directory / "router" / "admin.sock").unlink()
    again = door.router()
    await again.start()
    assert word(await get(door.port, A)) == "a"
    assert pid is not None
    assert not process.alive(pid)


async def test_nobody_is_led_to_whom_it_knew_before_it_was_stopped(door: Door, router: Router) -> None:
    """Their programs end with it, and their ports are anybody's by the next start: also where somebody listens."""
    stranger = await door.backend("stranger")
    await router.set_route(Route(X, (Target("gone", stranger.port),), True, hold=HOLD))
    await door.router().stop()
    again = door.router()
    await again.start()
    waiting = asyncio.create_task(get(door.port, f"{X}/p"))
    await until(lambda: _holds_or_answered(again, waiting))
    await again.set_route(Route(X, (Target("next", (await door.backend("next")).port),), True, hold=HOLD))
    async with asyncio.timeout(DEADLINE_S):
        assert word(await waiting) == "next"
    assert stranger.requests == 0


async def test_stop_ends_it_and_leaves_nothing(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    async with watched(router):
        await router.stop()
        assert process.running(door.directory / "router" / "haproxy.cfg") == []
        names = {path.name for path in (door.directory / "router").iterdir()}
        assert not names & {"haproxy.pid", "admin.sock"}
        status = await router.status()
        assert (status.running, status.pid) == (False, None)
        assert "does not run" in status.message
        with pytest.raises(RouterError, match="not been started"):
            await router.set_route(Route(A, (), strip=False))
    await router.start()
    assert [found.prefix for found in (await router.status()).routes] == [A]


async def test_who_comes_right_after_the_start_waits_for_the_next_program(door: Door) -> None:
    """Those that were saved have ended: so many that HAProxy cannot have looked at all, nor ask all for one request."""
    ended = tuple(Target(f"gone-{number}", free_port()) for number in range(40))
    _save(door, Table().put(Route(X, ended, True, hold=HOLD)))
    router = door.router()
    await router.start()
    waiting = asyncio.create_task(get(door.port, f"{X}/p"))
    await until(lambda: _holds_or_answered(router, waiting))
    assert not waiting.done(), waiting.result()
    backend = await door.backend("next")
    await router.set_route(Route(X, (Target("next", backend.port),), True, hold=HOLD))
    async with asyncio.timeout(DEADLINE_S):
        assert word(await waiting) == "next"


async def test_who_lives_is_led_to_right_after_the_start(door: Door) -> None:
    """Also beside one that has ended."""
    backend = await door.backend("lives")
    targets = (Target("gone", free_port()), Target("lives", backend.port))
    _save(door, Table().put(Route(X, targets, True, hold=HOLD)))
    router = door.router()
    await router.start()
    assert {word(await get(door.port, f"{X}/p", method="POST", body=b"b")) for _ in range(20)} == {"lives"}
    assert (await router.meters())[X].held == 0


async def test_a_haproxy_that_lives_keeps_whom_it_leads_to(door: Door, router: Router) -> None:
    """It looks after them by itself: one that does not listen for a moment comes back without a word from anybody."""
    target = Target("busy", free_port())
    await router.set_route(Route(X, (target,), True, hold=HOLD))
    again = door.router()
    await again.start()
    assert [found.targets for found in (await again.status()).routes] == [(target,)]


def _save(door: Door, table: Table) -> None:
    directory = door.directory / "router"
    directory.mkdir(mode=0o711)
    saved.write(directory / "routes.json", saved.to_json(Saved(table), saved.this_boot()))


async def _holds_or_answered(router: Router, waiting: asyncio.Task[Answer]) -> bool:
    return waiting.done() or (await router.meters())[X].held == 1


async def test_haproxy_has_a_session_of_its_own(door: Door, router: Router) -> None:
    pid = (await router.status()).pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    assert int((door.directory / "router" / "haproxy.pid").read_text()) == pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand over to another account")
async def test_root_does_not_serve_by_itself(door: Door, router: Router, caplog: pytest.LogCaptureFixture) -> None:
    await door.daemon()
    status = await router.status()
    assert status.message == ""
    assert Path(f"/proc/{status.pid}").stat().st_uid != 0
    assert word(await get(door.port, "/v1")) == "daemon"
    door.directory.chmod(0o700)
    again = door.router()
    with caplog.at_level(logging.WARNING):
        await again.start()
    status = await again.status()
    assert Path(f"/proc/{status.pid}").stat().st_uid == 0
    assert f"{door.directory} lets no other account pass" in status.message
    assert f"{door.directory} lets no other account pass" in caplog.text
    assert word(await get(door.port, "/v1")) == "daemon"


async def test_a_program_that_is_missing_or_refuses_is_told(door: Door) -> None:
    def router(program: str) -> Router:
        return Router(
            door.directory / "router", haproxy=program, host="127.0.0.1", port=door.port, api_socket=door.api_socket
        )

    with pytest.raises(RouterError, match="not installed"):
        await router("no-such-haproxy").start()
    with pytest.raises(RouterError, match="does not say that it is HAProxy"):
        await router("true").start()
