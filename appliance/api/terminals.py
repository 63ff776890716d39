"""A terminal over a websocket. Binary frames are bytes, text frames are JSON.

The client begins with `{"argv": [...]}`; an empty list is a shell. Then binary frames are what is typed, `{"resize":
[COLUMNS, ROWS]}` is another size, `{"eof": true}` the end of the input of a command without a pty. The answer is binary
frames, on a pty just its bytes, without one (`tty=0`) each begins with a byte that is 1 for stdout and 2 for stderr. At
last comes `{"exit": CODE}`, or `{"error": PROBLEM}` where there is no code to tell; then the connection is closed.
A command ends with its client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from appliance.api import commands
from appliance.api.parts import Parts
from appliance.api.problem import problem, respond
from appliance.engine.terminals import MOST_SIDE, Size, Terminal
from appliance.errors import ApplianceError, Conflict, Unavailable, UsageError

log = logging.getLogger(__name__)

MOST_OPEN = 64
"""At once, of this daemon."""
BEGIN_WITHIN_S = 10.0
USUAL = Size(columns=80, rows=24)
SHELL = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"]
TERMS = frozenset(
    ("ansi", "dumb", "linux", "screen", "screen-256color", "tmux", "tmux-256color", "vt100", "xterm", "xterm-256color")
)
"""Kinds of terminal that most images know; another one is told as the usual one."""
USUAL_TERM = "xterm-256color"
NORMAL, POLICY, BROKEN = 1000, 1008, 1011
"""Codes that a websocket is closed with."""


class Open:
    """How many there are now."""

    def __init__(self) -> None:
        self._count = 0

    @asynccontextmanager
    async def one_more(self) -> AsyncIterator[None]:
        """Raises Conflict where there are too many."""
        if self._count >= MOST_OPEN:
            raise Conflict(f"{self._count} terminals are open", hint="close some of them: each ends with its client")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


AGAIN = "begin again when it is back: `appliance status`"

Find = Callable[[WebSocket], str]
"""The id of the container that is meant. Raises NotFound, Conflict."""


def serve(parts: Parts, opened: Open, find: Find) -> Callable[[WebSocket], Awaitable[None]]:
    """The endpoint. What is wrong with the request is answered to the handshake, as any other problem."""

    async def endpoint(websocket: WebSocket) -> None:
        try:
            container, tty, size = find(websocket), *_asked(websocket)
            async with opened.one_more():
                await websocket.accept()
                try:
                    await _converse(parts, websocket, container, tty=tty, size=size)
                except WebSocketDisconnect:
                    log.debug("the client of a terminal in %s has gone", container[:12])
                except ApplianceError as error:
                    await _refuse(websocket, error)
        except ApplianceError as error:
            await websocket.send_denial_response(respond(error))

    return endpoint


async def _refuse(websocket: WebSocket, error: ApplianceError) -> None:
    code = POLICY if isinstance(error, UsageError) else BROKEN
    try:
        await websocket.send_text(orjson.dumps({"error": problem(error)}).decode())
        await websocket.close(code)
    except (WebSocketDisconnect, RuntimeError) as gone:
        log.debug("nobody is told any more: %s", gone)


async def _converse(parts: Parts, websocket: WebSocket, container: str, *, tty: bool, size: Size) -> None:
    argv = await _first(websocket)
    env = {"TERM": _term(websocket)} if tty else {}
    lines = parts.notebooks.terminals
    told: asyncio.Queue[str] = asyncio.Queue()
    async with parts.engine.terminal(container, argv or SHELL, tty=tty, size=size, env=env) as terminal:
        listening = _listen(websocket, terminal, lambda: lines.use(container))
        spoken = [_say(websocket, terminal, tty=tty), listening, parts.stopping.wait(), _tell(websocket, told)]
        said, heard, stopping, _ = tasks = [asyncio.ensure_future(work) for work in spoken]
        try:
            with lines.open(container, told.put_nowait if tty else _unheard):
                await asyncio.wait(tasks[:3], return_when=asyncio.FIRST_COMPLETED)
            if said.done():
                said.result()
            elif heard.done():
                heard.result()
            elif stopping.done():  # told before the command is ended, which may take longer than the server waits
                await _refuse(websocket, Unavailable("the daemon stops, and the command with it", hint=AGAIN))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _say(websocket: WebSocket, terminal: Terminal, *, tty: bool) -> None:
    """What the command writes, as fast as the client takes it; at last its exit code."""
    async for piece in terminal:
        stream = b"" if tty else b"\x02" if piece.stream == "stderr" else b"\x01"
        await websocket.send_bytes(stream + piece.data)
    await websocket.send_text(orjson.dumps({"exit": await terminal.exit_code()}).decode())
    await websocket.close(NORMAL)


async def _tell(websocket: WebSocket, told: asyncio.Queue[str]) -> None:
    """Lines of the appliance between what the command writes."""
    while True:
        words = await told.get()
        await websocket.send_bytes(f"\r\nappliance: {words}\r\n".encode())


def _unheard(words: str) -> None:
    """What a program reads holds no lines of ours."""


async def _listen(websocket: WebSocket, terminal: Terminal, used: Callable[[], None]) -> None:
    """What the client writes, as fast as the command reads it, until the client goes. Raises UsageError."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            used()
            await terminal.write(data)
            continue
        match _json(message["text"]):
            case {"resize": [int(columns), int(rows)]}:
                await terminal.resize(_size(columns, rows))
            case {"eof": True}:
                await terminal.end_input()
            case _:
                raise UsageError("not a message that a terminal knows", hint='`{"resize": [COLUMNS, ROWS]}`')


async def _first(websocket: WebSocket) -> list[str]:
    """Raises UsageError, WebSocketDisconnect."""
    try:
        async with asyncio.timeout(BEGIN_WITHIN_S):
            text = await websocket.receive_text()
    except (TimeoutError, KeyError):
        text = ""
    match _json(text):
        case {"argv": list(argv)} if all(isinstance(word, str) for word in argv) and (not argv or argv[0]):
            if argv:
                commands.check(argv, websocket.url.path)
            return argv
    raise UsageError("the first message is not the command", hint='send `{"argv": ["ls", "-l"]}`, or [] for a shell')


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _asked(websocket: WebSocket) -> tuple[bool, Size]:
    """Raises UsageError."""
    query = websocket.query_params
    try:
        size = _size(int(query.get("cols", USUAL.columns)), int(query.get("rows", USUAL.rows)))
    except ValueError:
        raise UsageError("cols and rows are whole numbers", where=websocket.url.path) from None
    return query.get("tty", "1") != "0", size


def _size(columns: int, rows: int) -> Size:
    """A terminal that has no size yet says 0."""
    if not (0 <= columns <= MOST_SIDE and 0 <= rows <= MOST_SIDE):
        raise UsageError(f"a terminal has 1 to {MOST_SIDE} columns and rows, not {columns} and {rows}")
    return Size(columns or USUAL.columns, rows or USUAL.rows)


def _term(websocket: WebSocket) -> str:
    asked = websocket.query_params.get("term", "")
    return asked if asked in TERMS else USUAL_TERM
