"""The one HTTP client: over the unix socket, or over TCP with the token. Standard library only.

http.client and not a bigger library, because this module is most of what `appliance status` imports: httpx2 alone
takes 95 ms to import here, http.client 35, of the 150 ms that the command may take.
Blocking; not for several threads at once. A stream has a connection of its own, so it may be read beside calls.
"""

from __future__ import annotations

import binascii
import contextlib
import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode, urlsplit

from appliance.errors import ApplianceError, DaemonDown, Problem, SpecError, Unavailable, all_errors

if TYPE_CHECKING:
    from appliance import wire

TIMEOUT_S = 60.0
"""For one call; streams wait as long as it takes."""
PIECE = 1 << 18
JSON = "application/json"
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

    def start_run(self, workflow: str, inputs: Mapping[str, Any] | None = None, *, cache: bool = True) -> wire.Run:
        """With `cache` False every job runs, also one whose outputs are known already."""
        return cast("wire.Run", self.act("workflows", workflow, "runs", {"inputs": inputs or {}, "cache": cache}))

    def notebook_from_job(self, run: str, job: str, name: str, *, image: str = "") -> wire.JobNotebook:
        """Make and start a notebook that holds what a failed job read and wrote."""
        path = f"/v1/runs/{quote(run, safe='')}/jobs/{quote(job, safe='')}/notebook"
        body = {"name": name, "image": image}
        return cast("wire.JobNotebook", json.loads(self.call("POST", path, body=body, timeout_s=WORK_S)))

    def access(self, notebook: str) -> wire.Access:
        return cast("wire.Access", self._json("GET", f"/v1/notebooks/{quote(notebook, safe='')}/access"))

    def history(self, notebook: str) -> list[wire.Snapshot]:
        """Newest first."""
        return self.items(f"notebooks/{quote(notebook, safe='')}/history")

    def entries(self, notebook: str, path: str = "", *, at: str = "", limit: int = 0) -> wire.Entries:
        """What lies in a directory of the workspace, now or at a snapshot. Paths are as `paths.encode` writes them."""
        query = {"path": path, "at": at, "limit": limit or ""}
        return cast("wire.Entries", self._json("GET", f"/v1/notebooks/{quote(notebook, safe='')}/files", query))

    def read_file(self, notebook: str, path: str, *, at: str = "") -> Iterator[bytes]:
        """The content of a file of the workspace in pieces, now or at a snapshot."""
        return self.download(f"/v1/notebooks/{quote(notebook, safe='')}/file", {"path": path, "at": at})

    def restore(self, notebook: str, snapshot: str, path: str, to: str = "") -> wire.Snapshot:
        """The moment before, which holds what was replaced."""
        body = {"snapshot": snapshot, "path": path, "to": to}
        return cast("wire.Snapshot", self.act("notebooks", notebook, "restore", body))

    def fork(self, notebook: str, name: str, *, snapshot: str = "", start: bool = False) -> wire.Item:
        body = {"name": name, "snapshot": snapshot, "start": start}
        return cast("wire.Item", self.act("notebooks", notebook, "fork", body))

    def prune(self, notebook: str, *, dry_run: bool = False) -> wire.Pruning:
        return cast("wire.Pruning", self.act("notebooks", notebook, "prune", {"dry_run": dry_run}))

    def hold(self, notebook: str, snapshot: str, reason: str = "") -> None:
        self._json("PUT", _hold(notebook, snapshot), body={"reason": reason})

    def release(self, notebook: str, snapshot: str) -> None:
        self._json("DELETE", _hold(notebook, snapshot))

    def diff(
        self,
        notebook: str,
        older: str = "",
        newer: str = "",
        *,
        path: str = "",
        checksum: bool = False,
        limit: int | None = None,
    ) -> Iterator[wire.FileChange | wire.DiffEnd]:
        """What differs between two moments, ids or `now`; empty: the newest snapshot and now. `path` bounds it.

        As it is found. The last one is the DiffEnd; where it is missing the answer was broken off.
        """
        query = {"from": older, "to": newer, "path": path, "checksum": int(checksum), "limit": limit}
        lines = self._lines(f"/v1/notebooks/{quote(notebook, safe='')}/diff", query)
        return (json.loads(line) for line in lines if line.strip())

    def diff_file(self, notebook: str, path: str, older: str = "", newer: str = "", *, was: str = "") -> wire.FileDiff:
        """One file at two moments, line by line or cell by cell. `was`: its path in the older one."""
        query = {"from": older, "to": newer, "path": path, "was": was}
        content = self.call("GET", f"/v1/notebooks/{quote(notebook, safe='')}/diff/file", query, timeout_s=WORK_S)
        return cast("wire.FileDiff", json.loads(content))

    # -- datasets and models

    def versions(self, dataset: str, *, sizes: bool = False) -> list[wire.Version]:
        """Newest first. `sizes`: with what each has for itself and what it shares, which takes longer to tell."""
        query = {"sizes": int(sizes)}
        return cast("list[wire.Version]", self._json("GET", f"{_dataset(dataset)}/versions", query)["items"])

    def version(self, dataset: str, version: str) -> wire.Version:
        return cast("wire.Version", self._json("GET", f"{_dataset(dataset)}/versions/{quote(version, safe='')}"))

    def remove_version(self, dataset: str, version: str, *, confirm: str = "") -> None:
        """A committed version, for which `confirm` is `NAME:VERSION`, or an upload that is not."""
        path = f"{_dataset(dataset)}/versions/{quote(version, safe='')}"
        self.call("DELETE", path, {"confirm": confirm}, timeout_s=WORK_S)

    def version_entries(self, dataset: str, version: str = "", path: str = "", *, limit: int = 0) -> wire.Entries:
        """What lies in a directory of a version, the newest unless `version` names another."""
        query = {"version": version, "path": path, "limit": limit or ""}
        return cast("wire.Entries", self._json("GET", f"{_dataset(dataset)}/files", query))

    def manifest(self, dataset: str, version: str, path: str = "") -> Iterator[list[Any] | str]:
        """All entries of a version at or below `path`, as lines of a manifest; of what cannot be fetched the path.

        Raises DaemonDown where it is cut.
        """
        number = 0
        for line in self._lines(f"{_dataset(dataset)}/manifest", {"version": version, "path": path}):
            found = json.loads(line) if line.endswith(b"\n") and line.strip() else None
            if found == number:
                return
            if isinstance(found, list | str):
                number += 1
                yield found
        raise self._down(http.client.IncompleteRead(b""))

    def get_pack(self, dataset: str, version: str, path: str, files: Sequence[tuple[str, int]]) -> bytes:
        """As much of these files of the manifest of `path` as fits into one pack, each from an offset on."""
        request = json.dumps({"files": files}).encode()
        query = {"version": version, "path": path}
        target = f"{_dataset(dataset)}/archive"
        content, headers = self._exchange("POST", target, query, request, JSON, {}, timeout_s=WORK_S)
        if headers.get("Content-Digest", "") != _digest(content):
            raise Unavailable("a pack was damaged on its way", where=target, hint="repeat the command")
        return content

    def open_version(self, dataset: str, **request: object) -> wire.OpenVersion:
        """`message source base mirror restart`, as in wire's VersionRequest."""
        content = self.call("POST", f"{_dataset(dataset)}/versions", body=request, timeout_s=WORK_S)
        return cast("wire.OpenVersion", json.loads(content))

    def missing(self, dataset: str, version: str, lines: bytes, *, first: bool, last: bool) -> wire.Missing:
        """Send a part of the manifest, one JSON array a line. With the last one: what of it is not there yet."""
        query = {"first": int(first), "last": int(last)}
        target = f"{_dataset(dataset)}/versions/{version}/missing"
        content, _ = self._exchange("POST", target, query, lines, "application/x-ndjson", {}, timeout_s=WORK_S)
        return cast("wire.Missing", json.loads(content))

    def put_pack(self, dataset: str, version: str, pack: bytes) -> wire.Packed:
        """Raises Conflict where it was damaged on its way; then nothing of it was stored."""
        target = f"{_dataset(dataset)}/versions/{version}/pack"
        digest = {"Content-Digest": _digest(pack)}
        content, _ = self._exchange("POST", target, None, pack, "application/x-tar", digest, timeout_s=WORK_S)
        return cast("wire.Packed", json.loads(content))

    def commit_version(
        self, dataset: str, version: str, *, message: str = "", tags: Sequence[str] = ()
    ) -> wire.Version:
        body = {"message": message, "tags": list(tags)}
        target = f"{_dataset(dataset)}/versions/{version}/commit"
        return cast("wire.Version", json.loads(self.call("POST", target, body=body, timeout_s=WORK_S)))

    def tag(self, dataset: str, version: str, tag: str) -> None:
        self._json("PUT", f"{_dataset(dataset)}/tags/{quote(tag, safe='')}", body={"version": version})

    def untag(self, dataset: str, tag: str) -> None:
        self._json("DELETE", f"{_dataset(dataset)}/tags/{quote(tag, safe='')}")

    def hold_version(self, dataset: str, version: str, reason: str = "") -> None:
        self._json("PUT", f"{_dataset(dataset)}/versions/{quote(version, safe='')}/hold", body={"reason": reason})

    def release_version(self, dataset: str, version: str) -> None:
        self._json("DELETE", f"{_dataset(dataset)}/versions/{quote(version, safe='')}/hold")

    def branch(self, dataset: str, name: str, *, version: str = "", message: str = "") -> wire.Version:
        """A dataset `name` whose first version shares the content of this one."""
        return cast(
            "wire.Version",
            self.act("datasets", dataset, "branch", {"name": name, "version": version, "message": message}),
        )

    def lineage(self, dataset: str, version: str = "") -> wire.Lineage:
        return cast("wire.Lineage", self._json("GET", f"{_dataset(dataset)}/lineage", {"version": version}))

    def create_model(self, name: str, ref: str, model_type: str) -> wire.Model:
        return cast("wire.Model", self._json("POST", "/v1/models", body={"name": name, "ref": ref, "type": model_type}))

    def model_lineage(self, model: str) -> wire.ModelLineage:
        return cast("wire.ModelLineage", self._json("GET", f"/v1/models/{quote(model, safe='')}/lineage"))

    def space(self, *, fresh: bool = False, wait_s: float = 0.0) -> wire.Space:
        """`wait_s`: how long to wait for a count that goes on; its result may be asked for again."""
        return cast("wire.Space", self._json("GET", "/v1/space", {"fresh": int(fresh), "wait": wait_s}))

    def start_backup(self, target: str, *, verify: bool = False, keep: int = 0) -> wire.Backup:
        """Begun; it goes on by itself. `target` is an absolute path there, or `zfs:POOL/DATASET`."""
        body = {"target": target, "verify": verify, "keep": keep}
        return cast("wire.Backup", self._json("POST", "/v1/backups", body=body))

    def follow_backup(self, backup_id: str) -> Iterator[wire.Backup]:
        """How far it is, until it has ended; the last one is how."""
        return cast("Iterator[wire.Backup]", self.stream(f"/v1/backups/{quote(backup_id, safe='')}", {"follow": 1}))

    def forget_backups(self, target: str, *, confirm: str = "", dry_run: bool = False) -> wire.Forgotten:
        """`confirm` repeats the target; without it only a dry run is answered."""
        body = {"target": target, "confirm": confirm, "dry_run": dry_run}
        return cast("wire.Forgotten", json.loads(self.call("POST", "/v1/backups/forget", body=body, timeout_s=WORK_S)))

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
        connection = self._connect(None)
        self._streams.add(connection)
        try:
            connection.request("GET", _target(path, query), headers=self._headers(None))
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            while line := response.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise self._down(error) from error
        finally:
            self._streams.discard(connection)
            connection.close()

    def download(self, path: str, query: Mapping[str, object]) -> Iterator[bytes]:
        """An answer of known length in pieces. Raises DaemonDown where it ends early."""
        connection = self._connect(None)
        self._streams.add(connection)
        try:
            connection.request("GET", _target(path, query), headers=self._headers(None))
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            left = int(response.headers.get("Content-Length", 0))
            while left and (piece := response.read(min(left, PIECE))):
                left -= len(piece)
                yield piece
            if left:
                raise http.client.IncompleteRead(b"", left)
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
        headers = {"Accept": "application/json", "X-Appliance-Author": _author(os.environ)}
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


def _hold(notebook: str, snapshot: str) -> str:
    return f"/v1/notebooks/{quote(notebook, safe='')}/snapshots/{quote(snapshot, safe='')}/hold"


def _dataset(name: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}"


def _digest(content: bytes) -> str:
    """As Content-Digest says it, RFC 9530."""
    import hashlib  # deferred: only packs of files are checked

    return f"sha-256=:{binascii.b2a_base64(hashlib.sha256(content).digest(), newline=False).decode()}:"


def _author(environ: Mapping[str, str]) -> str:
    """The login name, also behind sudo, for the history; ASCII, as a header must be."""
    if not (name := environ.get("SUDO_USER", "")):
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = str(os.getuid())
    return quote(name)


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
