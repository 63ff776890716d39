"""The door for what containers push, on a real HAProxy: here they come from another address of the loopback."""

from __future__ import annotations

import asyncio
import socket

import pytest

from appliance.router.push import MOST_BODY
from appliance.router.router import Router
from tests.integration.router.door import DEADLINE_S, NEEDS, Answer, Backend, Client, Door, _close, until
from tests.support.ports import free_port

pytestmark = NEEDS
GATEWAY = "127.0.0.9"
PUSH = "/metrics/job/x/step/1"


class Gateway(Client):
    def __init__(self, port: int) -> None:
        super().__init__(port)

    async def ask(self, path: str, *headers: str, method: str = "PUT", body: bytes = b"x 1\n") -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(GATEWAY, self._port)
        return await super().ask(path, *headers, method=method, body=body)


async def push(port: int, path: str = PUSH, *headers: str, method: str = "PUT", body: bytes = b"x 1\n") -> Answer:
    client = Gateway(port)
    try:
        return await client.ask(path, *headers, method=method, body=body)
    finally:
        await client.close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def pushing(door: Door, port: int) -> Router:
    router = Router(
        door.directory / "router",
        haproxy="haproxy",
        host="127.0.0.1",
        port=door.port,
        api_socket=door.api_socket,
        extra_binds=[f"{GATEWAY}:{port}"],
        push_socket=door.directory / "run" / "push.sock",
        push_port=port,
    )
    await router.start()
    return router


async def daemon(door: Door) -> Backend:
    backend = Backend("pushes")
    path = door.directory / "run" / "push.sock"
    server = await asyncio.start_unix_server(backend.handle, str(path))
    path.chmod(0o666)
    door.stack.push_async_callback(_close, server, backend)
    return backend


async def test_the_daemon_is_told_who_pushes_whatever_the_program_says(door: Door, pushing: Router, port: int) -> None:
    await daemon(door)
    answer = await push(port, PUSH, "X-Appliance-Caller: 172.18.0.77", "x-appliance-arrived: 1")
    assert answer.status == 200
    said = [line.split(b": ") for line in answer.body.lower().splitlines() if line.startswith(b"x-appliance-")]
    assert [value for name, value in said if name == b"x-appliance-caller"] == [b"127.0.0.1"]
    (arrived,) = [int(value) for name, value in said if name == b"x-appliance-arrived"]
    assert arrived > 1_700_000_000_000


async def test_only_pushes_pass(door: Door, pushing: Router, port: int) -> None:
    api, pushes = await door.daemon(), await daemon(door)
    for path in ("/", "/v1/status", "/metrics", "/metrics/jobs/x", "/notebooks/a/", "//metrics/job/x"):
        assert (await push(port, path)).status == 404
    assert (await push(port, PUSH, body=b"x" * (MOST_BODY + 1))).status == 413
    assert (pushes.requests, api.requests) == (0, 0)


@pytest.mark.parametrize("left", [False, True])
async def test_a_daemon_that_starts_again_is_waited_for(door: Door, pushing: Router, port: int, left: bool) -> None:
    """Several pushes find nobody, with the socket of a daemon that was killed or without; then somebody comes."""
    path = door.directory / "run" / "push.sock"
    if left:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    waiting = [asyncio.create_task(push(port)) for _ in range(3)]
    try:
        # by then each of the first three has been refused as often as HAProxy tries
        await until(lambda: _waits(door))
        assert not any(task.done() for task in waiting)
        path.unlink(missing_ok=True)
        backend = await daemon(door)
        async with asyncio.timeout(DEADLINE_S):
            assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200, 200]
        assert backend.requests == 3
    finally:
        await _give_up(waiting)


async def test_a_push_that_meets_a_daemon_that_ends_is_told_to_the_next(door: Door, pushing: Router, port: int) -> None:
    path = door.directory / "run" / "push.sock"
    server: asyncio.Server

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a push in and is killed: there is no answer, and nobody listens any more."""
        if await reader.read(1000):
            server.close()
        writer.transport.abort()

    server = await asyncio.start_unix_server(end, str(path))
    path.chmod(0o666)
    await until(lambda: _is_up(door))
    task = asyncio.create_task(push(port))
    try:
        await until(lambda: _waits(door, held=1))
        path.unlink(missing_ok=True)
        await daemon(door)
        async with asyncio.timeout(DEADLINE_S):
            assert (await task).status == 200
    finally:
        await _give_up([task])


async def _waits(door: Door, held: int = 3) -> bool:
    """So many pushes are held, as HAProxy itself counts them."""
    return any(row[:2] == ["later", "FRONTEND"] and int(row[4]) >= held for row in await _counted(door))


async def _is_up(door: Door) -> bool:
    return any(row[:2] == ["pushes", "daemon"] and row[17] == "UP" for row in await _counted(door))


async def _counted(door: Door) -> list[list[str]]:
    reader, writer = await asyncio.open_unix_connection(str(door.directory / "router" / "admin.sock"))
    writer.write(b"show stat\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return [line.split(",") for line in text.splitlines()]


async def _give_up(tasks: list[asyncio.Task[Answer]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_front_door_stays_where_it_was(door: Door, pushing: Router, port: int) -> None:
    await door.daemon()
    client = Client(door.port)
    try:
        assert (await client.ask("/v1/status")).status == 200
        assert "x-appliance-caller" not in (await client.ask("/v1/status")).body.decode().lower()
    finally:
        await client.close()
    assert (await pushing.status()).message == ""
