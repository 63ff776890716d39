"""A command in a running container that is spoken with while it runs: on a pty, or with its streams apart.

docker-py hands out the bare connection only, blocking and without what it has read too much already; here it becomes a
pair of asyncio streams. So neither a command that writes without end nor one that does not read makes this process
grow: it waits.
"""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import docker

from appliance.engine.client import Client
from appliance.engine.executing import Piece, running
from appliance.engine.hanging_up import hanging_up
from appliance.errors import ApplianceError, EngineError

log = logging.getLogger(__name__)

PIECE = 1 << 15
"""Bytes that are read at once."""
_HEADER = 8
"""Bytes before each piece of a command without a pty: which stream, three of nothing, the length."""
GRACE_S = 3.0
"""For a command that is told to end as its reader has gone."""
ENDED_WITHIN_S = 10.0
"""The engine tells the end of the output a moment before the end of the command."""
MOST_SIDE = 0xFFFF
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    columns: int
    rows: int


class Terminal:
    """Iterating gives its output until it has ended. With a pty all of it is stdout."""

    def __init__(
        self, client: Client, exec_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tty: bool
    ) -> None:
        self._client = client
        self._id = exec_id
        self._reader = reader
        self._writer = writer
        self._tty = tty

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The end of the connection is the end of the output, however it comes."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if self._tty:
                while data := await self._reader.read(PIECE):
                    yield Piece("stdout", data)
                return
            while True:
                header = await self._reader.readexactly(_HEADER)
                left = int.from_bytes(header[4:], "big")
                while left:
                    data = await self._reader.read(min(left, PIECE))
                    if not data:
                        return
                    left -= len(data)
                    yield Piece("stderr" if header[0] == 2 else "stdout", data)

    async def write(self, data: bytes) -> None:
        """Waits while the command does not read. What is written after its end is lost."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def end_input(self) -> None:
        """The command reads the end of its input. On a pty that is a character, which is written as any other."""
        if self._tty:
            return
        try:
            await self._writer.drain()
            self._writer.write_eof()
        except OSError as error:
            if error.errno not in _GONE:
                raise

    async def resize(self, size: Size) -> None:
        """The command is told by SIGWINCH. Of one that has just ended it changes nothing."""
        if not self._tty:
            return
        try:
            await self._client.call(lambda api: api.exec_resize(self._id, height=size.rows, width=size.columns))
        except ApplianceError as error:
            log.debug("the terminal %s was not resized: %s", self._id[:12], error)

    async def exit_code(self) -> int:
        """Of a command whose output has ended."""
        deadline = time.monotonic() + ENDED_WITHIN_S
        while True:
            done = await self._client.call(lambda api: api.exec_inspect(self._id))
            if not done.get("Running"):
                return int(done.get("ExitCode") or 0)
            if time.monotonic() > deadline:
                hint = "it is told to end; `docker ps` and the engine's log show how the container is"
                raise EngineError("the command has closed its output and goes on", where="docker", hint=hint)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def terminal(
    client: Client, container_id: str, argv: Sequence[str], *, tty: bool, size: Size, env: Mapping[str, str]
) -> AsyncIterator[Terminal]:
    """`env` is added to the container's. A command that still runs when it is left is hung up, as by a lost line.

    Raises NotFound, Conflict, EngineError.
    """
    made = await client.call(
        lambda api: api.exec_create(container_id, list(argv), stdin=True, tty=tty, environment=dict(env))
    )
    try:
        reader, writer = await _connect(client, made["Id"], tty=tty)
        found = Terminal(client, made["Id"], reader, writer, tty=tty)
        try:
            await found.resize(size)
            yield found
        finally:
            writer.transport.abort()
    finally:
        await _end(client, made["Id"], container_id)


async def _connect(client: Client, exec_id: str, *, tty: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    def begin(api: docker.APIClient) -> tuple[socket.socket, bytes]:
        stream: Any = api.exec_start(exec_id, tty=tty, socket=True)
        response = stream._response
        try:
            connection = getattr(stream, "_sock", stream)
            if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
                hint = "use a Docker engine on this machine, by its unix socket"
                raise EngineError("a terminal cannot go over this connection", where=client.address, hint=hint)
            return connection.dup(), _read_already(connection, response.raw._fp.fp)
        finally:
            response.close()

    connection, already = await client.call(begin)
    reader, writer = await asyncio.open_connection(sock=connection, limit=PIECE)
    if already:
        reader.feed_data(already)
    return reader, writer


def _read_already(connection: socket.socket, buffered: io.BufferedReader) -> bytes:
    """What came together with the head of the answer; it is in this buffer and nowhere else."""
    connection.setblocking(False)
    return bytes(buffered.peek())


async def _end(client: Client, exec_id: str, container_id: str) -> None:
    try:
        pid, container = await running(client, exec_id)
    except ApplianceError as error:  # the container is gone, and the command with it
        log.debug("the command %s in %s: %s", exec_id[:12], container_id[:12], error)
        return
    if pid:
        with hanging_up(pid, container or container_id) as left:
            deadline = time.monotonic() + GRACE_S
            while left.running() and time.monotonic() < deadline:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
            left.kill()
