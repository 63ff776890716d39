"""The front door on a real HAProxy, before small servers of these tests' own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appliance.router.router import Router
from appliance.router.table import Route, Target

NEEDS = [
    pytest.mark.anyio,
    pytest.mark.haproxy,
    pytest.mark.skipif(
        shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") is None,
        reason="no haproxy program",
    ),
]
DEADLINE_S = 90.0
A = "/notebooks/a"
X = "/deployments/x"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """HAProxy has nothing to wait on: look until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Backend:
    """Answers with the request's head. `/slow` waits for `release`, `/count` tells the body's length,
    `/events` streams, `/stream` sends a lot."""

    name: str
    release: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    taken: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released by a client for each event of `/events` that it has; the next is sent only then."""
    requests: int = 0
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        path, headers = parse_head(head)
        self.arrived.set()
        length = int(headers.get("content-length", "0"))
        count = await read_body(reader, headers)
        if path.endswith("/slow"):
            await self.release.wait()
        if path.endswith("/events"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            for _ in range(20):
                writer.write(f"data: {asyncio.get_running_loop().time()}\n\n".encode())
                await writer.drain()
                await self.taken.acquire()
            return False
        if path.endswith("/crash"):
            return False
        body = f"{self.name} {count or length}\n".encode() + head
        extra = b"x-appliance-page: html\r\n" if path.endswith("/forge") else b""
        writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (extra, len(body), body))
        await writer.drain()
        return True


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
    total = 0
    left = int(headers.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise ConnectionError
        left -= len(piece)
        total += len(piece)
    return total


def parse_head(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split(" ")[1], headers


class Client:
    """One keep-alive connection that sends paths as they are."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", "Host: door.test:7070", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        async with asyncio.timeout(DEADLINE_S):
            answer = await self._answer(reader)
        if answer.headers.get("connection") == "close":
            await self.close()
        return answer

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> Answer:
        status, headers = parse_head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(status), headers, body)

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def get(port: int, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> Answer:
    client = Client(port)
    try:
        return await client.ask(path, *headers, method=method, body=body)
    finally:
        await client.close()


@dataclass
class Door:
    directory: Path
    port: int
    problems: list[str]
    stack: AsyncExitStack

    @property
    def api_socket(self) -> Path:
        return self.directory / "run" / "front.sock"

    def router(self, *extra: str) -> Router:
        return Router(
            self.directory / "router",
            haproxy="haproxy",
            host="127.0.0.1",
            port=self.port,
            api_socket=self.api_socket,
            extra_binds=extra or None,
            on_problem=self.problems.append,
        )

    async def backend(self, name: str) -> Backend:
        backend = Backend(name)
        server = await asyncio.start_server(backend.handle, "127.0.0.1", 0)
        backend.port = server.sockets[0].getsockname()[1]
        self.stack.push_async_callback(_close, server, backend)
        return backend

    async def daemon(self) -> Backend:
        backend = Backend("daemon")
        server = await asyncio.start_unix_server(backend.handle, str(self.api_socket))
        self.api_socket.chmod(0o666)
        self.stack.push_async_callback(_close, server, backend)
        return backend


async def _close(server: asyncio.Server, backend: Backend) -> None:
    backend.release.set()
    server.close()


@asynccontextmanager
async def watched(router: Router) -> AsyncIterator[None]:
    task = asyncio.create_task(router.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def load(port: int, path: str, clients: int = 8) -> AsyncIterator[list[str]]:
    """Clients that ask without a pause over kept connections; yields what went wrong, empty if nothing."""
    failures: list[str] = []
    stopping = asyncio.Event()
    answered = asyncio.Event()

    async def one() -> None:
        client = Client(port)
        try:
            while not stopping.is_set():
                answer = await client.ask(path)
                answered.set()
                if answer.status != 200:
                    failures.append(f"{answer.status} {answer.body!r}")
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            failures.append(repr(error))
        finally:
            await client.close()

    tasks = [asyncio.create_task(one()) for _ in range(clients)]
    try:
        async with asyncio.timeout(DEADLINE_S):
            await answered.wait()
        yield failures
    finally:
        stopping.set()
        await asyncio.gather(*tasks)


def route(prefix: str, *backends: Backend, strip: bool = False) -> Route:
    return Route(prefix, tuple(Target(backend.name, backend.port) for backend in backends), strip)


def word(answer: Answer) -> str:
    """Which backend answered."""
    return answer.body.split(b" ")[0].decode()


def target_of(answer: Answer) -> str:
    """The request target the backend saw."""
    return answer.body.split(b"\n", 1)[1].split(b" ")[1].decode()
