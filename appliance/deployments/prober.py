"""Asks the replicas how they are: one small task each, until the replica leaves or is given up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx2

from appliance.deployments.probes import Health, Probes, adopted, fresh, next_probe, observe
from appliance.engine.docker import Engine
from appliance.engine.types import Container
from appliance.errors import ApplianceError
from appliance.spec.models import Probe

log = logging.getLogger(__name__)

HOLD_S = 1.0
"""An accepted connection that is still open after this was accepted by the program itself; see `_ask_port`."""


@dataclass(slots=True)
class _Watch:
    health: Health
    task: asyncio.Task[None]


class Prober:
    """`on_change` is called with the owner's uid when a replica's started, ready or sick has changed.

    Probes come due by `counter`, which counts seconds and is never set: `clock` tells once how old a container is.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], float],
        on_change: Callable[[str], None],
        *,
        counter: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._counter = counter
        self._on_change = on_change
        self._watches: dict[str, _Watch] = {}
        # asks 127.0.0.1 in plain HTTP only; `verify` would read the machine's certificates, a tenth of a second
        self._http = httpx2.AsyncClient(trust_env=False, verify=False)

    def watch(self, uid: str, container: Container, probes: Probes, port: int, *, was_ready: bool) -> Health:
        """The health of a running container; its probes begin with the first call. `port`: the served one."""
        known = self._watches.get(container.id)
        if known:
            return known.health
        age = max(0.0, self._clock() - container.started) if container.started else 0.0
        began = self._counter() - age
        health = adopted(began=began) if was_ready else fresh(probes, began=began)
        task = asyncio.create_task(self._run(uid, container, probes, port), name=f"probes of {container.name}")
        self._watches[container.id] = _Watch(health, task)
        return health

    def health(self, container_id: str) -> Health | None:
        watch = self._watches.get(container_id)
        return watch.health if watch else None

    def forget(self, container_id: str) -> None:
        if watch := self._watches.pop(container_id, None):
            watch.task.cancel()

    async def close(self) -> None:
        tasks = [watch.task for watch in self._watches.values()]
        for container_id in list(self._watches):
            self.forget(container_id)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    async def _run(self, uid: str, container: Container, probes: Probes, port: int) -> None:
        watch = self._watches[container.id]
        while due := next_probe(watch.health, probes):
            at, kind = due
            await _until(at, self._counter)
            probe = probes.of(kind)
            assert probe is not None, "only declared probes are due"
            problem = await self._ask(container, probe, port)
            before = watch.health
            watch.health = after = observe(before, probes, kind, problem, self._counter())
            if (before.started, before.ready, before.sick) != (after.started, after.ready, after.sick):
                self._on_change(uid)

    async def _ask(self, container: Container, probe: Probe, port: int) -> str:
        """What is wrong; empty: nothing."""
        try:
            if probe.command:
                return await self._ask_command(container, probe)
            published = container.ports.get(probe.port or port)
            if published is None:
                return f"port {probe.port or port} is not published"
            return await (
                self._ask_http(probe, published, probe.port or port) if probe.path else _ask_port(probe, published)
            )
        except ApplianceError as error:
            return error.message
        except Exception as error:  # a probe that breaks is a failed probe; its task must live on
            log.exception("probe of %s", container.name)
            return repr(error)

    async def _ask_command(self, container: Container, probe: Probe) -> str:
        code, _ = await self._engine.exec(container.id, probe.command, timeout_s=probe.timeout_s)
        return f"{probe.command[0]} ended with exit code {code}" if code else ""

    async def _ask_http(self, probe: Probe, port: int, inside: int) -> str:
        """Good is any status from 200 to 399; a redirect is not followed and the body is not read.

        `inside` is the container's port. The engine's proxy accepts where nobody listens there, and breaks off.
        """
        path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
        headers = {**probe.headers, **({"Host": probe.host} if probe.host else {})}
        try:
            async with (
                asyncio.timeout(probe.timeout_s),
                self._http.stream("GET", f"http://127.0.0.1:{port}{path}", headers=headers, timeout=None) as answer,
            ):
                status = answer.status_code
        except TimeoutError:
            return f"GET {path} was not answered within {probe.timeout_s:g} s"
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            said = str(error)
            if said and not said.startswith("Server disconnected") and not isinstance(error, httpx2.ConnectError):
                return f"GET {path}: {said}"
            return f"GET {path}: nothing answers on port {inside} of the container"
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            return f"GET {path}: {str(error) or type(error).__name__}"
        return "" if 200 <= status < 400 else f"GET {path} was answered with status {status}"


async def _until(at: float, counter: Callable[[], float]) -> None:
    await asyncio.sleep(max(0.0, at - counter()))


async def _ask_port(probe: Probe, port: int) -> str:
    """Whether a program listens behind a published port.

    The engine's own proxy accepts every connection to the port, and closes it at once where nobody listens in the
    container. So a connection counts when it says something, or is still open after a moment.
    """
    try:
        async with asyncio.timeout(probe.timeout_s):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return f"nothing listens on its port yet ({error.strerror or type(error).__name__})"
    try:
        async with asyncio.timeout(HOLD_S):
            said = await reader.read(1)
    except TimeoutError:
        return ""
    except OSError:
        said = b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return "" if said else "nothing listens on its port yet"
