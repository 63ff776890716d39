"""Terminals in notebooks and in replicas: a websocket that is read and written without waiting.

A library, because frames are masked and pieced together, and the part of it that opens no sockets: the terminal's loop
waits for the keyboard and for the daemon at once, and neither may hold the other up. Imported with the first terminal.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from appliance.client.kinds import Kinds
from appliance.client.transport import TIMEOUT_S, _error, _target
from appliance.errors import ApplianceError, DaemonDown

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

PIECE = 1 << 16
MOST_MESSAGE = 1 << 20
"""Bytes; the daemon sends far smaller ones."""
LAST_S = 2.0
"""For the goodbye to be sent."""


class Written(NamedTuple):
    """By the command; on a pty all of it is stdout."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Ended(NamedTuple):
    exit_code: int


class Terminal:
    """Wait until `fileno` may be read, and with something `waiting` also written; then `receive` and `flush`.

    Every method raises ApplianceError.
    """

    def __init__(self, connection: HTTPConnection, protocol: ClientProtocol, *, tty: bool) -> None:
        self._connection = connection
        self._socket: socket.socket = connection.sock
        self._socket.setblocking(False)
        self._protocol = protocol
        self._tty = tty
        self._out = bytearray()
        self._parts: list[bytes] = []
        self._text = False
        self._ended = False

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waiting(self) -> int:
        """Bytes that the daemon has not taken yet."""
        return len(self._out)

    def begin(self, argv: Sequence[str]) -> None:
        self._control({"argv": list(argv)})

    def write(self, data: bytes) -> None:
        if self._open():
            self._protocol.send_binary(data)
            self.flush()

    def resize(self, columns: int, rows: int) -> None:
        self._control({"resize": [columns, rows]})

    def end_input(self) -> None:
        self._control({"eof": True})

    def flush(self) -> None:
        """As much as goes now."""
        for data in self._protocol.data_to_send():
            self._out += data
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:  # what the daemon has said before it went is still to be read, and then its end
                self._out.clear()
                return
            del self._out[:sent]

    def receive(self) -> Iterator[Written | Ended]:
        """What has come by now. After an Ended comes nothing. Raises DaemonDown where the connection ends before."""
        while not self._ended:
            try:
                data = self._socket.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise _cut(error) from error
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
            yield from self._events()
            if self._ended:
                return
            if not data or self._protocol.close_expected():
                raise _cut(None)
            self.flush()  # the answers to pings

    def close(self) -> None:
        """The command, if it still runs, is hung up."""
        with suppress(ApplianceError, OSError):
            self._socket.settimeout(LAST_S)
            if self._open():
                self._protocol.send_close(1000)
                self.flush()
        self._connection.close()

    def _control(self, document: dict[str, Any]) -> None:
        if self._open():
            self._protocol.send_text(json.dumps(document).encode())
            self.flush()

    def _open(self) -> bool:
        """The daemon may have closed it, and that is yet to be read."""
        return self._protocol.state.name == "OPEN"

    def _events(self) -> Iterator[Written | Ended]:
        from websockets.frames import Frame, Opcode  # deferred: see above

        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.opcode is not Opcode.CONT:
                self._parts, self._text = [], event.opcode is Opcode.TEXT
            self._parts.append(bytes(event.data))
            if event.fin:
                yield self._message(b"".join(self._parts))

    def _message(self, data: bytes) -> Written | Ended:
        if not self._text:
            if self._tty:
                return Written("stdout", data)
            return Written("stderr" if data[:1] == b"\x02" else "stdout", data[1:])
        try:
            document = json.loads(data)
            if "exit" in document:
                self._ended = True
                return Ended(int(document["exit"]))
        except (ValueError, TypeError):
            document = {}
        raise _error(0, json.dumps(document.get("error")).encode())


class Terminals(Kinds):
    def notebook_terminal(
        self, notebook: str, argv: Sequence[str], *, tty: bool, size: tuple[int, int] = (0, 0), term: str = ""
    ) -> Terminal:
        """A command in the notebook's session, none: a shell. `size` is columns and rows. Close it."""
        path = f"/v1/notebooks/{quote(notebook, safe='')}/terminal"
        return self._terminal(path, argv, tty=tty, size=size, term=term)

    def replica_terminal(
        self,
        deployment: str,
        argv: Sequence[str],
        *,
        replica: str = "",
        tty: bool,
        size: tuple[int, int] = (0, 0),
        term: str = "",
    ) -> Terminal:
        """The same in a replica: the named one, else one that is ready."""
        path = f"/v1/deployments/{quote(deployment, safe='')}/terminal"
        return self._terminal(path, argv, tty=tty, size=size, term=term, replica=replica)

    def _terminal(
        self, path: str, argv: Sequence[str], *, tty: bool, size: tuple[int, int], term: str, **more: object
    ) -> Terminal:
        query = {"cols": size[0], "rows": size[1], "tty": str(int(tty)), "term": term, **more}
        connection = self._connect(TIMEOUT_S)
        try:
            connection.connect()
            protocol = _handshake(connection, _target(path, query), self._headers(None))
        except OSError as error:
            connection.close()
            raise self._down(error, TIMEOUT_S) from error
        except ApplianceError:
            connection.close()
            raise
        made = Terminal(connection, protocol, tty=tty)
        made.begin(argv)
        return made


def _handshake(connection: HTTPConnection, resource: str, headers: dict[str, str]) -> ClientProtocol:
    """Raises what the daemon has answered, OSError."""
    from websockets.client import ClientProtocol  # deferred: see above
    from websockets.http11 import Response
    from websockets.uri import WebSocketURI

    secure = isinstance(connection.sock, ssl.SSLSocket)
    path, _, query = resource.partition("?")
    uri = WebSocketURI(secure, connection.host, connection.port or 80, path, query)
    protocol = ClientProtocol(uri, max_size=MOST_MESSAGE)
    request = protocol.connect()
    request.headers.update(headers)
    protocol.send_request(request)
    for data in protocol.data_to_send():
        connection.sock.sendall(data)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if data := connection.sock.recv(PIECE):
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        if protocol.handshake_exc is None and protocol.state.name == "OPEN":
            return protocol
        answers = [event for event in protocol.events_received() if isinstance(event, Response)]
        if answers:
            raise _error(answers[0].status_code, bytes(answers[0].body or b""))
        if not data or protocol.handshake_exc is not None:
            raise ConnectionResetError("no answer to the handshake")
    raise TimeoutError


def _cut(error: OSError | None) -> DaemonDown:
    why = f" ({error})" if error else ""
    return DaemonDown(f"the connection ended before the command{why}", hint="`appliance status`; the command was ended")
