"""docker-py's blocking client behind an async door: bounded threads, a deadline per call, streams that can be closed.

Only this room uses it. Every failure leaves it as an error of the tree (see failures.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
import docker
import docker.errors
import requests
import requests.exceptions
from docker.constants import DEFAULT_UNIX_SOCKET
from docker.utils import kwargs_from_env

from appliance.engine import failures
from appliance.errors import EngineDown

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Item = TypeVar("Item")
Work = Callable[[docker.APIClient], Result]

DEADLINE_S = 60
LONG_S = 1800
"""For calls that move gigabytes: commit, import, load."""
THREADS = 24
STREAM_BUFFER = 512
FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


class Client:
    def __init__(self, docker_host: str = "") -> None:
        self._docker_host = docker_host
        self._limiter: anyio.CapacityLimiter | None = None
        self._apis: dict[int, docker.APIClient] = {}

    @property
    def address(self) -> str:
        return self._docker_host or str(kwargs_from_env().get("base_url") or DEFAULT_UNIX_SOCKET.replace("http+", ""))

    async def call(self, work: Work[Result], *, deadline_s: float = DEADLINE_S, image: str = "") -> Result:
        """Run `work` in a thread. Cancellation returns at once; the thread ends with its answer or its deadline."""
        try:
            with anyio.fail_after(deadline_s):
                return await anyio.to_thread.run_sync(
                    self._run, work, deadline_s, abandon_on_cancel=True, limiter=self._threads()
                )
        except FAILURES as error:
            failure = failures.translate(error, address=self.address, image=image)
            if isinstance(failure, EngineDown):
                self.forget()
            raise failure from error

    async def stream(self, work: Work[Iterable[Item]]) -> Stream[Item]:
        """Open what `work` returns; it may be read, without a deadline, as soon as this returns."""
        stream: Stream[Item] = Stream(self, work)
        await stream.open()
        return stream

    def api(self, *, patient: bool = False) -> docker.APIClient:
        """Blocking; `patient` has long read timeouts. Made on first use, which asks the engine's version."""
        timeout = LONG_S if patient else DEADLINE_S
        if api := self._apis.get(timeout):
            return api
        options: dict[str, Any] = {**kwargs_from_env(), "version": "auto", "max_pool_size": THREADS}
        if self._docker_host:
            options["base_url"] = self._docker_host
        _probe(self.address)
        made = docker.APIClient(timeout=timeout, **options)
        # Without a lock, which an engine that hangs would hold for a minute: the first of two stays.
        kept = self._apis.setdefault(timeout, made)
        if kept is not made:
            made.close()
        return kept

    def forget(self) -> None:
        """Drop the connections; the next call makes fresh ones and asks the engine's version again."""
        apis, self._apis = self._apis, {}
        for api in apis.values():
            api.close()

    def _run(self, work: Work[Result], deadline_s: float) -> Result:
        return work(self.api(patient=deadline_s >= LONG_S))

    def _threads(self) -> anyio.CapacityLimiter:
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS)
        return self._limiter


def _release(source: object) -> None:
    """Give the connection of a stream back. docker-py hands its streams out without a way to do this."""
    response = getattr(source, "_response", None)
    if isinstance(response, requests.Response):
        response.close()


def _probe(address: str) -> None:
    """Fail early and cleanly where nobody listens: docker-py leaves the socket of a failed attempt open."""
    if not address.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(DEADLINE_S)
        probe.connect(address.removeprefix("unix://"))


class Stream(Generic[Item]):
    """An endless answer of the engine, read by a thread of its own. Close it with `aclose`, from any state."""

    def __init__(self, client: Client, work: Work[Iterable[Item]]) -> None:
        self._client = client
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._queue: asyncio.Queue[Item | Exception | None] = asyncio.Queue()
        self._slots = threading.Semaphore(STREAM_BUFFER)
        self._closing = threading.Event()
        self._source: Iterable[Item] | None = None
        self._ended = False

    async def open(self) -> None:
        # A daemon thread: one that hangs in a dead connection must not keep the process from ending.
        threading.Thread(target=self._pump, name="engine-stream", daemon=True).start()
        try:
            await self._opened
        except FAILURES as error:
            raise failures.translate(error, address=self._client.address) from error
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def __aiter__(self) -> Stream[Item]:
        return self

    async def __anext__(self) -> Item:
        """The next item. Raises an error of the tree where the stream broke."""
        if self._ended:
            raise StopAsyncIteration
        item = await self._queue.get()
        self._slots.release()
        if item is None:
            self._ended = True
            raise StopAsyncIteration
        if isinstance(item, Exception):
            self._ended = True
            raise failures.translate(item, address=self._client.address) from item
        return item

    async def aclose(self) -> None:
        self._ended = True
        self._closing.set()
        self._slots.release()
        self._cut()

    def _pump(self) -> None:
        try:
            source = self._source = self._work(self._client.api())
        except Exception as error:
            self._post(self._fail, error)
            return
        self._post(self._succeed)
        try:
            if self._closing.is_set():
                return
            for item in source:
                self._slots.acquire()
                if self._closing.is_set():
                    return
                self._post(self._queue.put_nowait, item)
        except Exception as error:
            self._post(self._queue.put_nowait, error)
        else:
            self._post(self._queue.put_nowait, None)
        finally:
            _release(source)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            log.debug("the event loop ended before its engine stream did")

    def _succeed(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)

    def _cut(self) -> None:
        """Shut the socket down under the reading thread. A plain generator cannot be cut; its thread ends by itself."""
        close = getattr(self._source, "close", None)
        if close is None or not hasattr(self._source, "_response"):
            return
        try:
            close()
        except (OSError, AttributeError, ValueError, docker.errors.DockerException) as error:
            log.debug("an engine stream was closed twice: %s", error)
