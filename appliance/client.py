"""The one HTTP client: over the unix socket, or over TCP with the token. Standard library only.

http.client and not a bigger library, because this module is most of what `appliance status` imports: httpx2 alone
takes 95 ms to import here, http.client 35, of the 150 ms that the command may take.
Blocking; not for several threads at once. A stream has a connection of its own, so it may be read beside calls.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode, urlsplit

from appliance.errors import ApplianceError, DaemonDown, Problem, SpecError, all_errors

if TYPE_CHECKING:
    from appliance import wire

TIMEOUT_S = 60.0
"""For one call; streams wait as long as it takes."""
WORK_S = 24 * 3600.0
"""For a call that ends with its work: a rollback in the plain-directory store copies the workspace."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("appliance", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """`socket` for a daemon on this machine, else `url` and `token`. Every method raises ApplianceError."""

    def __init__(self, *, socket: Path | None = None, url: str = "", token: str = "") -> None:
        self._socket = socket
        self._url = urlsplit(url)
        self._token = token
        self._kept: http.client.HTTPConnection | None = None
        self._streams: set[http.client.HTTPConnection] = set()

    @classmethod
    def from_environment(cls, home: Path, environ: Mapping[str, str] = os.environ) -> Client:
        """`APPLIANCE_URL` with `APPLIANCE_TOKEN`, else the socket of `home`."""
        if url := environ.get("APPLIANCE_URL"):
            return cls(url=url, token=environ.get("APPLIANCE_TOKEN", ""))
        return cls(socket=home / "run" / "api.sock")

    # -- reading

    def status(self) -> wire.Status:
        return cast("wire.Status", json.loads(self.status_bytes()))

    def status_bytes(self) -> bytes:
        """The status document as it came, for a caller that only passes it on."""
        return self.call("GET", "/v1/status")

    def items(self, kind: str, /, **query: object) -> list[Any]:
        """Items of a kind in the plural, such as `runs`, or of a list below one resource."""
        return cast("wire.Page", self._json("GET", f"/v1/{kind}", query))["items"]

    def get(self, kind: str, name: str) -> Any:
        return self._json("GET", f"/v1/{quote(kind)}/{quote(name, safe='')}")

    def logs(self, **query: object) -> list[wire.LogLine]:
        """`kind name part since contains after limit`, as in telemetry's LogQuery."""
        return cast("list[wire.LogLine]", self._json("GET", "/v1/logs", query)["items"])

    def follow_logs(self, **query: object) -> Iterator[wire.LogLine]:
        """Endless: what is stored, then each line as it is stored."""
        return cast("Iterator[wire.LogLine]", self.stream("/v1/logs", {**query, "follow": 1}))

    def follow_events(self, after: int | None = None) -> Iterator[wire.Event]:
        """Endless. `after` is the id of the last event seen; None starts with the next event."""
        query = {"follow": 1} if after is None else {"follow": 1, "after": after}
        return cast("Iterator[wire.Event]", self.stream("/v1/events", query))

    # -- declaring

    def apply(self, text: str, file: str, *, name: str | None = None, dry_run: bool = False) -> list[wire.Change]:
        request: dict[str, Any] = {"text": text, "file": file, "dry_run": dry_run}
        if name:
            request["name"] = name
        return cast("list[wire.Change]", self._json("POST", "/v1/apply", body=request)["items"])

    def delete(self, kind: str, name: str, *, confirm: str = "") -> None:
        """`confirm` repeats the name; needed where data goes with the resource."""
        self.call("DELETE", f"/v1/{quote(kind)}/{quote(name, safe='')}", {"confirm": confirm}, timeout_s=WORK_S)

    def act(self, kind: str, name: str, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """An action on one resource, such as ("notebooks", "nb", "start"). Answers the API's document."""
        path = f"/v1/{quote(kind)}/{quote(name, safe='')}/{verb}"
        content = self.call("POST", path, body=body or {}, timeout_s=WORK_S)
        return json.loads(content) if content else None

    def start_run(self, workflow: str, inputs: Mapping[str, Any] | None = None) -> wire.Run:
        return cast("wire.Run", self.act("workflows", workflow, "runs", {"inputs": inputs or {}}))

    def access(self, notebook: str) -> wire.Access:
        return cast("wire.Access", self._json("GET", f"/v1/notebooks/{quote(notebook, safe='')}/access"))

    def history(self, notebook: str) -> list[wire.Snapshot]:
        """Newest first."""
        return self.items(f"notebooks/{quote(notebook, safe='')}/history")

    def versions(self, dataset: str) -> list[wire.Version]:
        """Newest first."""
        return self.items(f"datasets/{quote(dataset, safe='')}/versions")

    def sql(self, query: str) -> wire.SqlAnswer:
        return cast("wire.SqlAnswer", self._json("POST", "/v1/sql", body={"query": query}))

    def put_secret(self, name: str, value: str) -> None:
        self._json("PUT", f"/v1/secrets/{quote(name, safe='')}", body={"value": value})

    # -- plumbing

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> bytes:
        """One request. A kept connection that the daemon has closed meanwhile is opened again, once."""
        target = _target(path, query)
        payload = None if body is None else json.dumps(body).encode()
        for fresh in (self._kept is None, True):
            connection = self._kept or self._connect(timeout_s)
            self._kept = connection
            connection.timeout = timeout_s
            if connection.sock is not None:
                connection.sock.settimeout(timeout_s)
            try:
                connection.request(method, target, payload, self._headers(payload))
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh or isinstance(error, TimeoutError):
                    raise self._down(error) from error
                continue
            if response.status >= 400:
                raise _error(response.status, content)
            return content
        raise AssertionError("unreachable: the second round is always fresh")

    def stream(self, path: str, query: Mapping[str, object]) -> Iterator[Any]:
        """The JSON documents of a server-sent event stream. Closing the iterator closes the connection."""
        connection = self._connect(None)
        self._streams.add(connection)
        try:
            connection.request("GET", _target(path, query), headers=self._headers(None))
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            while line := response.readline():
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
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

    def _headers(self, payload: bytes | None) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _down(self, error: Exception) -> DaemonDown:
        where = str(self._socket) if self._socket else self._url.geturl()
        if isinstance(error, TimeoutError):
            return DaemonDown(
                f"the daemon did not answer within {TIMEOUT_S:.0f} s", where=where, hint="`appliance doctor`"
            )
        if isinstance(error, PermissionError):
            return DaemonDown(
                "no permission to use the daemon's socket", where=where, hint="use sudo, or the token over TCP"
            )
        return DaemonDown(
            f"the daemon does not answer ({str(error) or type(error).__name__})",
            where=where,
            hint="start it with ./install.sh, or `appliance serve` to see why it stops",
        )


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
