"""Requests, streams and downloads over the unix socket, or over TCP with the token. Standard library only.

http.client and not a bigger library, because this is most of what `appliance status` imports: httpx2 alone
takes 95 ms to import here, http.client 35, of the 150 ms that the command may take.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import quote, urlencode, urlsplit

from appliance.errors import ApplianceError, DaemonDown, Problem, SpecError, all_errors

if TYPE_CHECKING:
    from appliance import wire

TIMEOUT_S = 60.0
"""For one call; streams wait as long as it takes."""
WORK_S = 24 * 3600.0
"""For a call that ends with its work: a rollback in the plain-directory store copies the workspace."""
PIECE = 1 << 18
JSON = "application/json"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("appliance", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Transport:
    """`socket` for a daemon on this machine, else `url` and `token`. Every method raises ApplianceError.

    `via` is `cli` or `tui`: a history shows it beside who asked.
    """

    def __init__(self, *, socket: Path | None = None, url: str = "", token: str = "", via: str = "") -> None:
        self._socket = socket
        self._url = urlsplit(url)
        self._token = token
        self._via = via
        self._kept: http.client.HTTPConnection | None = None
        self._streams: set[http.client.HTTPConnection] = set()

    @classmethod
    def from_environment(cls, home: Path, environ: Mapping[str, str] = os.environ, *, via: str = "") -> Self:
        """`APPLIANCE_URL` with `APPLIANCE_TOKEN`, else the socket of `home`."""
        if url := environ.get("APPLIANCE_URL"):
            return cls(url=url, token=environ.get("APPLIANCE_TOKEN", ""), via=via)
        return cls(socket=home / "run" / "api.sock", via=via)

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> bytes:
        """One request with an answer of JSON."""
        payload = None if body is None else json.dumps(body).encode()
        return self._exchange(method, path, query, payload, JSON, {}, timeout_s=timeout_s)[0]

    def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        payload: bytes | None,
        media_type: str,
        more: Mapping[str, str],
        *,
        timeout_s: float,
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """A kept connection that the daemon has closed meanwhile is opened again, once."""
        target = _target(path, query)
        headers = {**self._headers(payload, media_type), **more}
        for fresh in (self._kept is None, True):
            connection = self._kept or self._connect(timeout_s)
            self._kept = connection
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            try:
                connection.request(method, target, payload, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or isinstance(error, TimeoutError):
                    raise self._down(error, timeout_s) from error
                continue
            if response.status >= 400:
                raise _error(response.status, content)
            return content, response.headers
        raise AssertionError("unreachable: the second round is always fresh")

    def stream(self, path: str, query: Mapping[str, object]) -> Iterator[Any]:
        """The JSON documents of a server-sent event stream. Closing the iterator closes the connection."""
        for line in self._lines(path, query):
            if line.startswith(b"data:"):
                yield json.loads(line[5:])

    def _lines(self, path: str, query: Mapping[str, object]) -> Iterator[bytes]:
        with self._answer(path, query) as response:
            while line := response.readline():
                yield line

    def download(self, path: str, query: Mapping[str, object]) -> Iterator[bytes]:
        """An answer of known length in pieces. Raises DaemonDown where it ends early."""
        with self._answer(path, query) as response:
            left = int(response.headers.get("Content-Length", 0))
            while left and (piece := response.read(min(left, PIECE))):
                left -= len(piece)
                yield piece
            if left:
                raise http.client.IncompleteRead(b"", left)

    @contextlib.contextmanager
    def _answer(
        self, path: str, query: Mapping[str, object], body: Mapping[str, Any] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Of a GET, or with a body of a POST, to be read while its connection is open.

        Raises what the server has answered, and DaemonDown.
        """
        connection = self._connect(None)
        self._streams.add(connection)
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.request("GET" if body is None else "POST", _target(path, query), payload, self._headers(payload))
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise self._down(error) from error
        finally:
            self._streams.discard(connection)
            connection.close()

    def close(self) -> None:
        """Ends the streams too, also one that another thread is waiting on."""
        for stream in tuple(self._streams):
            if stream.sock is not None:
                with contextlib.suppress(OSError):  # gone already
                    stream.sock.shutdown(socket.SHUT_RDWR)
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _json(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        content = self.call(method, path, query, body)
        return json.loads(content) if content else None

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        if self._socket is not None:
            return _UnixConnection(str(self._socket), timeout)
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(self._url.netloc, timeout=timeout)
        return http.client.HTTPConnection(self._url.netloc, timeout=timeout)

    def _headers(self, payload: bytes | None, media_type: str = JSON) -> dict[str, str]:
        headers = {"Accept": "application/json", "X-Appliance-Author": _author(os.environ, self._via)}
        if payload is not None:
            headers["Content-Type"] = media_type
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _down(self, error: Exception, timeout_s: float | None = None) -> DaemonDown:
        """`timeout_s` is the limit that the request had; a stream has none."""
        where = str(self._socket) if self._socket else self._url.geturl()
        if isinstance(error, TimeoutError):
            limit = "in time" if timeout_s is None else f"within {timeout_s:g} s"
            return DaemonDown(f"the daemon did not answer {limit}", where=where, hint="`appliance doctor`")
        if isinstance(error, PermissionError):
            return DaemonDown(
                "no permission to use the daemon's socket", where=where, hint="use sudo, or the token over TCP"
            )
        return DaemonDown(
            f"the daemon does not answer ({str(error) or type(error).__name__})",
            where=where,
            hint="start it with ./install.sh, or `appliance serve` to see why it stops",
        )


def _author(environ: Mapping[str, str], via: str) -> str:
    """The login name, also behind sudo, and by which way, for the history; ASCII, as a header must be."""
    if not (name := environ.get("SUDO_USER", "")):
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return quote(f"{name} ({via})" if via else name)


def _target(path: str, query: Mapping[str, object] | None) -> str:
    given = {key: value for key, value in (query or {}).items() if value not in (None, "", False)}
    return f"{path}?{urlencode(given)}" if given else path


def _error(status: int, content: bytes) -> ApplianceError:
    """The error a problem document tells, as the class that was raised in the daemon."""
    try:
        problem = cast("wire.Problem", json.loads(content))
        cls = all_errors().get(problem["code"], ApplianceError)
        if cls is SpecError:
            return SpecError([Problem(**found) for found in problem.get("problems", [])])
        return cls(problem["detail"], hint=problem.get("hint", ""), where=problem.get("where", ""))
    except (ValueError, KeyError, TypeError):
        text = content.decode(errors="replace")[:200]
        return ApplianceError(f"the daemon answered {status}: {text}", hint="`appliance doctor`")
