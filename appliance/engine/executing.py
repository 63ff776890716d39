"""A command in a running container, whose output is read as it comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from appliance.engine.client import Client, Stream
from appliance.engine.processes import kill_inside
from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

BEGUN_WITHIN_S = 5.0
"""For a command that is left while the engine still begins it."""

Demuxed = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Piece:
    stream: Literal["stdout", "stderr"]
    data: bytes


class Execution:
    """Iterating gives its output until it has ended."""

    def __init__(self, client: Client, exec_id: str, stream: Stream[Demuxed]) -> None:
        self._client = client
        self._id = exec_id
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[Piece]:
        async for out, err in self._stream:
            if out:
                yield Piece("stdout", out)
            if err:
                yield Piece("stderr", err)

    async def exit_code(self) -> int:
        """Of a command that has ended."""
        done = await self._client.call(lambda api: api.exec_inspect(self._id))
        return int(done.get("ExitCode") or 0)


@asynccontextmanager
async def executing(client: Client, container_id: str, argv: Sequence[str]) -> AsyncIterator[Execution]:
    """Without a terminal and without input. One that still runs when it is left is ended.

    Raises NotFound, Conflict, EngineError.
    """
    made = await client.call(lambda api: api.exec_create(container_id, list(argv)))
    stream: Stream[Demuxed] = await client.stream(lambda api: api.exec_start(made["Id"], stream=True, demux=True))
    try:
        yield Execution(client, made["Id"], stream)
    finally:
        await stream.aclose()
        await _end(client, made["Id"], container_id)


async def _end(client: Client, exec_id: str, container_id: str) -> None:
    try:
        pid, container = await running(client, exec_id)
    except ApplianceError as error:  # the container is gone, and the command with it
        log.debug("the command %s in %s: %s", exec_id[:12], container_id[:12], error)
        return
    if pid:
        kill_inside(pid, container or container_id)


async def running(client: Client, exec_id: str) -> tuple[int, str]:
    """The process of a command, 0 of one that has ended, and its container.

    One that has just begun has none yet, and is waited for: it would go on. Raises NotFound, EngineError.
    """
    deadline = time.monotonic() + BEGUN_WITHIN_S
    while True:
        found = await client.call(lambda api: api.exec_inspect(exec_id))
        pid = int(found.get("Pid") or 0) if found.get("Running") else 0
        begins = found.get("Running") or found.get("ExitCode") is None
        if pid or not begins or time.monotonic() > deadline:
            return pid, str(found.get("ContainerID") or "")
        await asyncio.sleep(0.05)
