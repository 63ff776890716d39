"""Unix sockets on which the daemon hears from its HAProxy.

Anybody on this machine may try to connect: HAProxy serves under an account of its own. So who speaks is asked of the
kernel, and what is said is bounded and read as foreign text.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from appliance.errors import RouterError
from appliance.router.account import ACCOUNT

log = logging.getLogger(__name__)

LINE_MOST = 1 << 16
"""Longest piece that a speaker may leave unfinished, bytes."""
TELL_S = 60.0
"""Between two log lines of strangers, who could fill the log otherwise."""
_CREDENTIALS = struct.Struct("3i")

Handle = Callable[[asyncio.StreamReader], Awaitable[None]]


@asynccontextmanager
async def listening(path: Path, handle: Handle) -> AsyncIterator[None]:
    """Hands each connection of our own HAProxys to `handle`. Raises RouterError where it cannot be listened on."""
    speakers: set[asyncio.Task[None]] = set()
    allowed = _allowed()
    strangers = Strangers(path)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader)
        except (OSError, ValueError) as error:
            log.warning("what came on %s is not understood: %s", path, error)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = _speaker(writer)
        if uid not in allowed:
            strangers.tell(uid, time.monotonic())
            writer.transport.abort()  # no task, and no wait for anything: there may be any number of them
            return
        task = asyncio.create_task(speak(reader, writer))
        speakers.add(task)
        task.add_done_callback(speakers.discard)

    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        server = await asyncio.start_unix_server(begin, str(path), limit=LINE_MOST)
        path.chmod(0o666)
    except OSError as error:
        raise RouterError(f"cannot listen there: {error.strerror or error}", where=str(path)) from error
    try:
        yield
    finally:
        server.close()
        for task in tuple(speakers):
            task.cancel()
        await asyncio.gather(*speakers, return_exceptions=True)


class Strangers:
    """Tells of those who are not heard, once in a while."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._told = float("-inf")
        self._untold = 0

    def tell(self, uid: int, now: float) -> None:
        self._untold += 1
        if now - self._told < TELL_S:
            return
        log.warning("account %d speaks on %s and is not heard (%d since last told)", uid, self._path, self._untold)
        self._told, self._untold = now, 0


def _allowed() -> set[int]:
    allowed = {os.geteuid()}
    if os.geteuid() == 0:
        with suppress(KeyError):
            allowed.add(pwd.getpwnam(ACCOUNT).pw_uid)
    return allowed


def _speaker(writer: asyncio.StreamWriter) -> int:
    """The account of the process that connected."""
    connection = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)
