"""Servers that close the connections that are kept to them: no client may notice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from appliance.router.router import Router
from appliance.router.table import Route, Target
from tests.integration.router.door import NEEDS, Client, Door, X, parse_head, read_body

pytestmark = NEEDS
CLIENTS = 16
BURSTS = 6
IDLE_S = 1.0


@dataclass
class Closing:
    """A server that closes a connection on which nothing came for a while, as every server does sooner or later."""

    idle_s: float
    port: int = 0
    requests: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while True:
                async with asyncio.timeout(self.idle_s):
                    head = await reader.readuntil(b"\r\n\r\n")
                await read_body(reader, parse_head(head)[1])
                self.requests += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def closing(idle_s: float) -> AsyncIterator[Closing]:
    found = Closing(idle_s)
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_server_that_closes_what_is_idle_fails_nobody(door: Door, router: Router, method: str) -> None:
    """Bursts come about when it closes. It is the only server: nobody else could be asked.

    The door has to close first: what changes something is never sent twice. No known server is as quick as this one.
    """
    chance = random.Random(1)
    clients = [Client(door.port) for _ in range(CLIENTS)]
    failed: list[str] = []

    async def ask(client: Client) -> None:
        await asyncio.sleep(chance.uniform(0, 0.01))
        try:
            answer = await client.ask(f"{X}/p", method=method, body=b"b" if method == "POST" else b"")
        except (OSError, asyncio.IncompleteReadError) as error:
            failed.append(repr(error))
            await client.close()
        else:
            if answer.status != 200:
                failed.append(str(answer.status))

    async with closing(IDLE_S) as server:
        await router.set_route(Route(X, (Target("only", server.port),), True))
        for _ in range(BURSTS):
            await asyncio.gather(*(ask(client) for client in clients))
            await asyncio.sleep(IDLE_S + chance.uniform(-0.01, 0.01))
        for client in clients:
            await client.close()
        assert failed == []
        assert server.requests == BURSTS * CLIENTS, "nothing was answered twice"


async def test_what_only_asks_is_asked_again_of_the_only_server(door: Door, router: Router) -> None:
    """It closed a connection that it had kept, and the request was on its way; one that changes something is not."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for length in (2, 0):
                head = await reader.readuntil(b"\r\n\r\n")
                await read_body(reader, parse_head(head)[1])
                asked.append(head.split(b" ")[0].decode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" if length else b"")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    client = Client(door.port)
    try:
        await router.set_route(Route(X, (Target("only", server.sockets[0].getsockname()[1]),), True))
        assert [(await client.ask(f"{X}/p")).status for _ in range(3)] == [200, 200, 200]
        del asked[:]
        await client.close()
        await client.ask(f"{X}/p", method="POST", body=b"b")
        with pytest.raises(asyncio.IncompleteReadError):
            await client.ask(f"{X}/p", method="POST", body=b"b")
        assert asked == ["POST", "POST"]
    finally:
        await client.close()
        server.close()
