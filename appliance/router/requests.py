"""One record of each request that a route answered or refused, as HAProxy tells it.

HAProxy keeps the records of a while, whether somebody listens or not; up to when they were heard stands in a file, so a
restart of the daemon loses none.

Whoever listens to each record as it comes makes HAProxy send each by itself, and wakes two processes for it. So what
came is fetched a few times a second: in between HAProxy's socket is full, and it goes on without a word.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from appliance.errors import ApplianceError
from appliance.router import saved
from appliance.router.rules import RECORDS

log = logging.getLogger(__name__)

WAITING_MOST = 16
"""Batches that were read and not yet taken; then HAProxy keeps the rest."""
BATCH_MOST = 1000
LINE_MOST = 1 << 16
PIECE_MOST = 1 << 18
"""Bytes that are fetched at once."""
PAUSES_S = (0.05, 0.5)
"""Between two looks at what came, where little comes and where much does; so much later than its end a request is told,
at most."""
_MUCH = 32_000
"""Bytes a second, some 500 requests."""
_BEHIND = 8192
_CATCH_UP_S = 0.005
"""The pause after a piece of so many bytes: there is more than a socket holds."""
LINGER_S = 30.0
"""A HAProxy that was replaced is listened to for so long: as long as its idle clients may ask once more."""
_LOOK_S = 0.2
_SAVE_S = 1.0
_SAME_S = 0.0005
_AHEAD_S = 5.0
"""A time further ahead than that comes from a clock that was set back since."""
_NUMBER = r"([+-]?\d{1,15})"
_RECORD = re.compile(
    r"(\d{1,15}) ([A-Za-z0-9._/-]{1,100}) ([!-~]{1,100})"
    rf" (-|\d{{1,15}}) {_NUMBER} \+?{_NUMBER} {_NUMBER} ([!-~]{{2}})[!-~]* {_NUMBER} {_NUMBER}",
    re.ASCII,
)


class Request(NamedTuple):
    """There are thousands a second, and this is the cheapest that has names."""

    at: float
    """When it began, seconds since the epoch."""
    prefix: str
    target: str
    """Id of the target that answered; empty where none had it: refused, or held until it was given up."""
    status: int
    """0 where the client went away before an answer."""
    held_ms: int
    """For how long it waited for a target to be ready; part of `total_ms`."""
    wait_ms: int
    """From the connection to the target to the head of its answer; -1: none came."""
    total_ms: int
    """From its first byte to the last of the answer; of a websocket, as long as it was open."""
    cut: bool
    """Somebody went away before the answer was whole."""
    received: int
    """Bytes from the client."""
    sent: int
    """Bytes to the client."""

    @property
    def ended(self) -> float:
        return self.at + self.total_ms / 1000


@dataclass(slots=True)
class Place:
    """How far one HAProxy's records were read."""

    ended: float = 0.0
    """What ended by then was told before; unix seconds."""
    line: str = ""
    """The last that was read; it tells the place also when the clock was set back after it."""


class Records:
    """Reads what HAProxys tell and gives it out in batches, each once."""

    def __init__(self, known: Callable[[str], bool], heard: Path, clock: Callable[[], float] = time.time) -> None:
        """`known` tells which prefixes are routes: what is no route's is dropped. `heard`: where that time stands."""
        self._known = known
        self._file = heard
        self._heard = _load(heard, clock() + _AHEAD_S)
        self._saved_at = 0.0
        self._batches: asyncio.Queue[list[Request]] = asyncio.Queue(WAITING_MOST)
        self._hurry_until = float("-inf")
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """A HAProxy is about to be replaced: it ends with its last connection, and what nobody has fetched is lost."""
        self._hurry_until = time.monotonic() + LINGER_S
        self._hurried.set()  # wakes whoever rests
        self._hurried.clear()

    async def next(self) -> list[Request]:
        return await self._batches.get()

    def told(self, batch: list[Request]) -> None:
        """These need not be told again."""
        latest = max((record.ended for record in batch), default=self._heard)
        self._heard = latest if latest < self._heard - _AHEAD_S else max(self._heard, latest)
        if time.monotonic() - self._saved_at > _SAVE_S:
            self.close()

    def close(self) -> None:
        self._saved_at = time.monotonic()
        try:
            saved.write(self._file, f"{self._heard:.3f}\n")
        except ApplianceError as error:
            log.warning("after a restart some requests are counted twice: %s", error)

    async def follow(self, socket: Path, serving: Callable[[], int]) -> None:
        """Listens on the admin socket to whichever HAProxy serves; for ever. `serving`: its pid, 0 where none does."""
        readers: dict[int, asyncio.Task[None]] = {}
        places: dict[int, Place] = {}
        try:
            while True:
                pid = serving()
                if pid and (pid not in readers or readers[pid].done()):
                    # the ring of one that came later begins with what was never heard
                    place = places.setdefault(pid, Place() if places else Place(self._heard))
                    readers[pid] = asyncio.create_task(self._listen(socket, place))
                    for former, task in readers.items():
                        if former != pid:
                            asyncio.get_running_loop().call_later(LINGER_S, task.cancel)
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in readers.values():
                task.cancel()
            await asyncio.gather(*readers.values(), return_exceptions=True)

    async def _listen(self, path: Path, place: Place) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            try:
                await loop.sock_connect(connection, str(path))
                await loop.sock_sendall(connection, f"show events {RECORDS} -w\n".encode())
                await self.read(self._pieces(connection), place)
            except OSError as error:
                log.debug("HAProxy tells no more: %s", error)

    async def _pieces(self, connection: socket.socket) -> AsyncIterator[bytes]:
        """What comes on it, to its end; asleep while nothing comes."""
        loop = asyncio.get_running_loop()
        pause = PAUSES_S[0]
        while piece := await loop.sock_recv(connection, PIECE_MOST):
            yield piece
            pause = pause_after(len(piece), pause)
            if time.monotonic() < self._hurry_until:
                pause = _CATCH_UP_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurried.wait()

    async def read(self, pieces: AsyncIterator[bytes], place: Place | None = None) -> None:
        """To the end, from `place` on, which goes with it. HAProxy tells all it still knows each time."""
        place = place or Place()
        last, until, told, rest = place.line, place.ended, True, ""
        async for piece in pieces:
            *lines, rest = (rest + piece.decode("latin-1")).split("\n")
            rest = rest[-LINE_MOST:]
            found = []
            for line in lines:
                record = parse(line)
                if record is None:
                    continue
                ended = record.ended
                if told and (line == last or ended <= until + _SAME_S):
                    until = 0.0 if line == last else until  # whatever the clock says of those behind it
                    continue
                told = False
                place.line, place.ended = line, max(place.ended, ended)
                if self._known(record.prefix):
                    found.append(record)
            for at in range(0, len(found), BATCH_MOST):
                await self._batches.put(found[at : at + BATCH_MOST])


def pause_after(length: int, pause: float) -> float:
    """Seconds until the next look; `length`: bytes that came since the last, `pause` seconds ago."""
    if length >= _BEHIND:
        return _CATCH_UP_S
    return PAUSES_S[length > _MUCH * pause]


def parse(line: str) -> Request | None:
    """None: not a record."""
    found = _RECORD.fullmatch(line)
    if found is None:
        return None
    ended, prefix, server, held, wait, total, status, how, received, sent = found.groups()
    code, total_ms = max(0, int(status)), abs(int(total))
    return Request(
        (int(ended) - total_ms) / 1000,
        f"/{prefix}",
        "" if server[0] == "<" else server,
        code,
        0 if held == "-" else int(held),
        max(-1, int(wait)),
        total_ms,
        code != 101 and (how[1] in "DL" or how[0] in "Cc"),
        max(0, int(received)),
        max(0, int(sent)),
    )


def _load(path: Path, latest: float) -> float:
    """0: not known, or a time that cannot be."""
    try:
        heard = float(path.read_text())
    except (OSError, ValueError):
        return 0.0
    return heard if heard <= latest else 0.0
