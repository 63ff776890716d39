"""The front door on a real HAProxy, before small servers of this test's own."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from appliance.errors import RouterError, UsageError
from appliance.router import ports, process, saved
from appliance.router import router as router_module
from appliance.router.ports import Place
from appliance.router.router import Router
from appliance.router.saved import Saved
from appliance.router.table import Route, Table, Target
from tests.support.ports import free_port

pytestmark = [
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


@pytest.fixture
def home() -> Iterator[Path]:
    """Open to HAProxy's account, as pytest's own directories are not."""
    directory = Path(tempfile.mkdtemp(prefix="appliance-router-"))
    directory.chmod(0o711)
    (directory / "run").mkdir(mode=0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def door(home: Path) -> AsyncIterator[Door]:
    async with AsyncExitStack() as stack:
        found = Door(home, free_port(), [], stack)
        try:
            yield found
        finally:
            await process.end(process.running(home / "router" / "haproxy.cfg"), grace_s=5.0)


@pytest.fixture
async def router(door: Door) -> Router:
    router = door.router()
    await router.start()
    return router


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


async def test_paths_go_to_their_route_and_all_others_to_the_daemon(door: Door, router: Router) -> None:
    await door.daemon()
    await router.set_route(route(A, await door.backend("a")))
    await router.set_route(route(X, await door.backend("x"), strip=True))
    ours = [A, f"{A}/", f"{A}?q=1", f"{A}/lab/tree/b%2Fc%20d?x=%2F", f"{A}//b", f"{A}/../b"]
    for path in ours:
        answer = await get(door.port, path)
        assert (word(answer), target_of(answer)) == ("a", path)
    others = ["/", "/v1/runs", "/healthz", "/notebooks", "/notebooks/", "/notebooks/ab", "/notebooks/A", "/Notebooks/a"]
    others += [
        "//notebooks/a",
        "/./notebooks/a",
        "/notebooks//a",
        "/notebooks/%61",
        "/notebooks%2Fa",
        "/v1/../notebooks/a",
    ]
    others += ["/deployments/a", "/notebooks/x", "/?/notebooks/a", "/x/notebooks/a"]
    for path in others:
        answer = await get(door.port, path)
        assert (word(answer), target_of(answer)) == ("daemon", path), path


async def test_the_prefix_is_taken_off_where_the_route_says_so(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("x"), strip=True))
    seen = {
        X: "/",
        f"{X}/": "/",
        f"{X}?q=1": "/?q=1",
        f"{X}/predict?q=/deployments/x": "/predict?q=/deployments/x",
        f"{X}//a/../b%2Fc": "//a/../b%2Fc",
        f"{X}/deployments/x/y": "/deployments/x/y",
    }
    for path, expected in seen.items():
        answer = await get(door.port, path)
        assert target_of(answer) == expected
        assert b"x-forwarded-prefix: /deployments/x\r\n" in answer.body


async def test_a_backend_learns_who_asked_and_cannot_be_lied_to(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    lies = ["X-Forwarded-For: 6.6.6.6", "x-forwarded-PROTO: ftp", "X-Forwarded-Prefix: /lie", "Forwarded: for=6.6.6.6"]
    lies += ["X_Forwarded_For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Forwarded-Server: lie"]
    answer = await get(door.port, f"{A}/", *lies, "Authorization: token t")
    _, headers = parse_head(answer.body.split(b"\n", 1)[1])
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == headers["host"] == "door.test:7070"
    assert headers["x-forwarded-prefix"] == A
    assert headers["authorization"] == "token t"
    assert b"6.6.6.6" not in answer.body
    assert b"lie" not in answer.body


async def test_a_dead_daemon_is_told_to_programs_and_to_browsers(door: Door, router: Router) -> None:
    answer = await get(door.port, "/v1/runs", "Accept: application/json")
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert b'"code": "daemon_down"' in answer.body
    page = await get(door.port, f"{A}/lab", "Accept: text/html,*/*")
    assert (page.status, page.headers["retry-after"]) == (503, "2")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b'http-equiv="refresh"' in page.body
    await door.daemon()
    assert word(await get(door.port, "/v1/runs")) == "daemon"


async def test_a_server_that_is_gone_or_crashes_is_a_clear_problem(door: Door, router: Router) -> None:
    await router.set_route(Route(A, (Target("gone", free_port()),), strip=False))
    answer = await get(door.port, f"{A}/")
    assert (answer.status, b"The server behind this path" in answer.body) == (503, True)
    crashing = await door.backend("x")
    await router.set_route(route(X, crashing))
    answer = await get(door.port, f"{X}/crash", method="POST", body=b"{}")
    assert (answer.status, b"Bad Gateway" in answer.body) == (502, True)
    assert crashing.requests == 1, "a request that was sent is never sent again"


async def test_a_server_cannot_pass_for_the_doors_own_page(door: Door, router: Router) -> None:
    await router.set_route(route(A, await door.backend("a")))
    answer = await get(door.port, f"{A}/forge")
    assert "content-type" not in answer.headers
    assert "x-appliance-page" not in answer.headers


async def test_a_route_without_ready_targets_is_the_daemons(door: Door, router: Router) -> None:
    await door.daemon()
    backend = await door.backend("a")
    await router.set_route(Route(A, (), strip=False))
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    assert word(await get(door.port, A)) == "a"
    await router.set_route(Route(A, (), strip=False))
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    await router.drop_route(A)
    await router.drop_route(A)
    assert word(await get(door.port, A)) == "daemon"
    assert (await router.status()).routes == ()


async def test_a_restarted_container_is_followed_to_its_port(door: Door, router: Router) -> None:
    first, second = await door.backend("first"), await door.backend("second")
    for backend in (first, second, first):
        await router.set_route(Route(A, (Target("same", backend.port),), strip=False))
        assert word(await get(door.port, A)) == backend.name


async def test_replicas_share_the_requests(door: Door, router: Router) -> None:
    await router.set_route(route(X, await door.backend("one"), await door.backend("two")))
    answered = [word(await get(door.port, X)) for _ in range(10)]
    assert (answered.count("one"), answered.count("two")) == (5, 5)


async def test_bad_routes_are_refused_and_change_nothing(door: Door, router: Router) -> None:
    before = (door.directory / "router" / "routes.json").read_text()
    for bad in (Route("/notebooks/a\nx", (), strip=False), Route(A, (Target("a b", 1),), strip=False)):
        with pytest.raises(UsageError):
            await router.set_route(bad)
    assert (door.directory / "router" / "routes.json").read_text() == before


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


async def test_a_rolling_replace_fails_no_request(door: Door, router: Router) -> None:
    current = await door.backend("r0")
    await router.set_route(route(X, current, strip=True))
    async with load(door.port, f"{X}/predict") as failures:
        for number in range(1, 6):
            successor = await door.backend(f"r{number}")
            await router.set_route(route(X, current, successor, strip=True))
            assert await router.drain(X, current.name, deadline_s=DEADLINE_S)
            served = current.requests
            await until(partial(_served, successor))
            assert current.requests == served, "a drained server gets nothing more"
            current = successor
    assert failures == []


async def _served(backend: Backend) -> bool:
    return backend.requests > 0


async def test_drain_waits_for_the_request_in_flight(door: Door, router: Router) -> None:
    old, new = await door.backend("old"), await door.backend("new")
    await router.set_route(route(X, old))
    pending = asyncio.create_task(get(door.port, f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await old.arrived.wait()
    await router.set_route(route(X, new))
    assert not await router.drain(X, "old", deadline_s=0.1)
    assert word(await get(door.port, X)) == "new"
    draining = asyncio.create_task(router.drain(X, "old", deadline_s=DEADLINE_S))
    await asyncio.sleep(0.1)
    assert not draining.done()
    old.release.set()
    assert await draining
    assert word(await pending) == "old"
    assert await router.drain(X, "never there", deadline_s=0.1)


async def test_a_drained_last_target_leaves_the_path_to_the_daemon(door: Door, router: Router) -> None:
    await door.daemon()
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    pending = asyncio.create_task(get(door.port, f"{A}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await backend.arrived.wait()
    assert not await router.drain(A, "a", deadline_s=0)
    assert word(await get(door.port, A)) == "daemon"
    await router.set_route(route(A, backend))
    assert word(await get(door.port, A)) == "a", "a target may return while it drains"
    backend.release.set()
    assert word(await pending) == "a"


async def test_watch_deletes_servers_that_are_done(door: Door, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_module, "TEND_S", 0.05)
    backend = await door.backend("a")
    await router.set_route(route(A, backend))
    await router.drop_route(A)
    async with watched(router):

        async def clean() -> bool:
            return not await router._occupied()

        await until(clean)


async def test_running_out_of_slots_reloads_without_a_failed_request(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    (door.directory / "router").mkdir()
    saved.write(door.directory / "router" / "routes.json", saved.to_json(Saved(Table(capacity=2)), saved.this_boot()))
    router = door.router()
    await router.start()
    backend, slow = await door.backend("a"), await door.backend("slow")
    await router.set_route(route(A, backend))
    await router.set_route(route(X, slow))
    pid = (await router.status()).pid
    pending = asyncio.create_task(get(door.port, f"{X}/slow"))
    async with asyncio.timeout(DEADLINE_S):
        await slow.arrived.wait()
    async with load(door.port, f"{A}/") as failures:
        for number in range(4):
            await router.set_route(route(f"/notebooks/n{number}", backend))
    assert failures == []
    assert (await router.status()).pid != pid
    for path in (A, X, "/notebooks/n3"):
        assert (await get(door.port, path)).status == 200
    assert not await router.drain(X, "slow", deadline_s=0.3), "the replaced HAProxy still has a request to it"
    slow.release.set()
    assert word(await pending) == "slow"
    assert pid is not None
    assert await process.ended(pid, timeout_s=DEADLINE_S)
    assert await router.drain(X, "slow", deadline_s=DEADLINE_S)


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
    assert word(await get(door.port, A)) == "a"


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
