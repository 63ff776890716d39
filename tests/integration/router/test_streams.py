"""What takes long: events, websockets, uploads, and clients that give up."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from appliance.router.router import Router
from appliance.router.table import Route, Target
from tests.integration.router.door import (
    DEADLINE_S,
    NEEDS,
    A,
    Client,
    Door,
    X,
    parse_head,
    route,
    until,
)

pytestmark = NEEDS


async def test_events_come_without_delay(door: Door, router: Router) -> None:
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(f"GET {A}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    delays = []
    async with asyncio.timeout(DEADLINE_S):
        async for line in reader:
            if b"data: " in line:
                sent = float(line.split(b"data: ")[1])
                delays.append(asyncio.get_running_loop().time() - sent)
                backend.taken.release()
    writer.close()
    await writer.wait_closed()
    assert len(delays) == 20
    assert min(delays) < 0.05, "buffered events would all come 100 ms late, or never"


async def test_websockets_pass_and_survive_changes_of_other_routes(door: Door, router: Router) -> None:
    async def echo(connection: ServerConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await router.set_route(Route(A, (Target("ws", port),), strip=False))
        async with connect(f"ws://127.0.0.1:{door.port}{A}/channels", proxy=None) as client:
            other = await door.backend("x")
            for size in (1, 1 << 20):
                await router.set_route(route(X, other, strip=size > 1))
                await client.send(b"m" * size)
                assert await client.recv() == b"m" * size
            assert not await router.drain(A, "ws", deadline_s=0.1), "an open websocket is in flight"
            await client.send("still here")
            assert await client.recv() == "still here"
        assert await router.drain(A, "ws", deadline_s=DEADLINE_S)


async def test_a_large_upload_streams_through(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("x")))
    pid = (await router.status()).pid
    size, piece = 96 << 20, b"u" * (1 << 18)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(f"PUT {X}/up HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(parse_head(head)[1]["content-length"]))
    writer.close()
    await writer.wait_closed()
    assert body.startswith(f"x {size}\n".encode())
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident < 64 << 20, "HAProxy holds the upload in memory"


async def test_a_client_that_goes_away_is_told_to_the_server(door: Door, router: Router) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        with suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        await router.set_route(Route(A, (Target("a", server.sockets[0].getsockname()[1]),), strip=False))
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(f"GET {A} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            await arrived.wait()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(DEADLINE_S):
            await gone.wait()


async def test_a_stream_of_a_haproxy_that_was_replaced_is_in_flight(door: Door, router: Router) -> None:
    """Else its deployment would go to sleep in the middle of it."""
    backend = await door.backend("x")
    await router.set_route(route(X, backend))
    client = Client(door.port)
    pending = asyncio.create_task(client.ask(f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    await router.set_binds([f"127.0.0.92:{door.port}"])
    assert (await router.meters())[X].servers["x"].in_flight == 1
    backend.release.set()
    assert (await pending).status == 200
    await client.close()
    await until(lambda: _rests(router))


async def _rests(router: Router) -> bool:
    return (await router.meters())[X].servers["x"].in_flight == 0
