"""Requests over many keep-alive connections at once, beside whatever a test does; each that fails is told.

Raw sockets: a client library repeats what it may, and would hide what is looked for. A request fails when it was not
answered with 200 and the whole body: a connection that closes with a request under way is a failure, one that closes
between two requests is not (HTTP allows it), and another is opened.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import pytest

ANSWER_S = 180.0
"""Longest that an answer is waited for."""
CONNECTIONS = 64
PAUSE_S = 0.05
"""Of a connection between two requests: 64 of them ask about 1,000 times a second, which two cores bear."""


@dataclass(frozen=True)
class Failure:
    at: float
    """Seconds since the load began."""
    method: str
    what: str
    waited: float
    """Seconds from the request to the failure."""
    during: str
    """What the test was doing."""

    def __str__(self) -> str:
        return f"{self.at:7.2f} s, {self.during or 'nothing'}: {self.method} {self.what} after {self.waited:.2f} s"


@dataclass
class Found:
    """Times in seconds."""

    answered: Counter[str] = field(default_factory=Counter)
    """By method."""
    bodies: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    waits: dict[str, list[float]] = field(default_factory=dict)
    """What the test was doing when a request began -> how long each one took."""
    reconnects: int = 0
    """Connections that were closed between two requests."""

    @property
    def total(self) -> int:
        return self.answered.total() + len(self.failures)

    def longest(self, during: str | None = None) -> float:
        chosen = [self.waits.get(during, [])] if during is not None else list(self.waits.values())
        return max((wait for waits in chosen for wait in waits), default=0.0)

    def percentile(self, share: float, during: str | None = None) -> float:
        chosen = [self.waits.get(during, [])] if during is not None else list(self.waits.values())
        waits = sorted(wait for found in chosen for wait in found)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else 0.0

    def words(self) -> str:
        asked = ", ".join(f"{count} {method}" for method, count in sorted(self.answered.items()))
        lost = Counter(failure.method for failure in self.failures)
        which = f" ({', '.join(f'{count} {method}' for method, count in sorted(lost.items()))})" if lost else ""
        typical, slow = 1000 * self.percentile(0.5), 1000 * self.percentile(0.99)
        return (
            f"{self.total} requests ({asked} answered), {len(self.failures)} failed{which},"
            f" {self.reconnects} reconnects,"
            f" p50 {typical:.0f} ms, p99 {slow:.0f} ms, longest {self.longest():.2f} s"
        )

    def failed(self) -> str:
        """The failures in words, for an assertion."""
        return "\n".join([f"{len(self.failures)} of {self.total} failed", *map(str, self.failures[:20])])


class Load:
    """Begins with `with`, in a thread of its own: also a test that blocks is watched. `doing` names what goes on.

    `methods` are dealt to the connections in turn. Every request is one of `path` below the port's `/`.
    """

    def __init__(
        self,
        port: int,
        path: str,
        *,
        connections: int = CONNECTIONS,
        methods: Sequence[str] = ("GET", "GET", "GET", "POST"),
        pause_s: float = PAUSE_S,
        body: int = 2000,
        headers: str = "",
    ) -> None:
        self.doing = ""
        self.found = Found()
        self._port = port
        self._pause_s = pause_s
        self._methods = [methods[number % len(methods)] for number in range(connections)]
        head = f" {path} HTTP/1.1\r\nHost: test\r\n{headers}"
        post = f"POST{head}Content-Length: {body}\r\n\r\n".encode() + b"x" * body
        self._requests = {"GET": f"GET{head}\r\n".encode(), "POST": post}
        self._enough = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True, name="load")
        self._began = 0.0

    def __enter__(self) -> Load:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.finish()

    def finish(self) -> Found:
        """No more requests; those under way are answered or fail."""
        self._enough.set()
        self._thread.join(ANSWER_S + 10)
        assert not self._thread.is_alive(), "the load ends"
        return self.found

    def more(self, count: int, *, within_s: float = 120.0) -> None:
        """So many more have been answered: the load has met what the test did last."""
        wanted = self.found.answered.total() + count
        deadline = time.monotonic() + within_s
        while self.found.answered.total() < wanted:
            assert time.monotonic() < deadline, f"{count} more answers within {within_s:.0f} s\n{self.found.failed()}"
            time.sleep(0.02)

    @property
    def connections(self) -> int:
        return len(self._methods)

    @property
    def elapsed(self) -> float:
        """Seconds since it began, as `Failure.at` counts them."""
        return time.monotonic() - self._began

    def connections_of(self, method: str) -> int:
        return self._methods.count(method)

    async def _run(self) -> None:
        await asyncio.gather(*(self._connection(method, n) for n, method in enumerate(self._methods)))

    async def _connection(self, method: str, number: int) -> None:
        await asyncio.sleep(self._pause_s * number / len(self._methods))  # not all in one instant
        link: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._enough.is_set():
            if link and link[0].at_eof():
                link[1].close()
                link = None
                self.found.reconnects += 1
            doing, began = self.doing, time.monotonic()
            what, body, keep = "", "", False
            try:
                async with asyncio.timeout(ANSWER_S):
                    link = link or await asyncio.open_connection("127.0.0.1", self._port)
                    link[1].write(self._requests[method])
                    await link[1].drain()
                    status, body, keep = await _answer(link[0])
                    what = "" if status == 200 else f"{status}: {body[:100]!r}"
            except (OSError, EOFError, TimeoutError, ValueError) as error:
                what = f"{type(error).__name__} {error}"
            took = time.monotonic() - began
            if what:
                self.found.failures.append(Failure(began - self._began, method, what, took, f"{doing} -> {self.doing}"))
            else:
                self.found.answered[method] += 1
                self.found.bodies[body] += 1
                self.found.waits.setdefault(doing, []).append(took)
            if link and not keep:
                link[1].close()
                link = None
            await asyncio.sleep(self._pause_s)
        if link:
            link[1].close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    """Status, body, and whether the connection goes on. Raises EOFError where it ends too early."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    if found := re.search(r"\r\ncontent-length: *(\d+)", head):
        body = await reader.readexactly(int(found[1]))
    elif "transfer-encoding: chunked" in head:
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.read()
    return status, body.decode(errors="replace"), "connection: close" not in head


class Wrk:
    """The second witness: wrk in a process of its own. Skips the test where there is none."""

    def __init__(self, url: str, *, connections: int, most_s: int) -> None:
        if shutil.which("wrk") is None:
            pytest.skip("no wrk")
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{most_s}s", "--timeout", "120s", "--latency", url]
        self._child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Wrk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._child.kill()
        self._child.communicate()

    def finish(self) -> tuple[int, int, str]:
        """Ends it. Requests that were answered, those that failed, and its own words."""
        self._child.send_signal(signal.SIGINT)
        output = self._child.communicate(timeout=150)[0]
        answered = re.search(r"(\d+) requests in", output)
        assert answered is not None, output
        failed = sum(int(count) for count in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
        if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output):
            failed += sum(int(count) for count in errors.groups())
        return int(answered[1]), failed, output
