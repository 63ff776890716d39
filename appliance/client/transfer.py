"""Files of a dataset version, to the daemon and from it: manifests and packs."""

from __future__ import annotations

import binascii
import http.client
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from appliance.client.datasets import dataset_path
from appliance.client.transport import JSON, WORK_S, Transport
from appliance.errors import Unavailable

if TYPE_CHECKING:
    from appliance import wire


class Transfer(Transport):
    """What `appliance dataset put` and `get` are made of."""

    def manifest(self, dataset: str, version: str, path: str = "") -> Iterator[list[Any] | str]:
        """All entries of a version at or below `path`, as lines of a manifest; of what cannot be fetched the path.

        Raises DaemonDown where it is cut.
        """
        number = 0
        for line in self._lines(f"{dataset_path(dataset)}/manifest", {"version": version, "path": path}):
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
        target = f"{dataset_path(dataset)}/archive"
        content, headers = self._exchange("POST", target, query, request, JSON, {}, timeout_s=WORK_S)
        if headers.get("Content-Digest", "") != _digest(content):
            raise Unavailable("a pack was damaged on its way", where=target, hint="repeat the command")
        return content

    def open_version(self, dataset: str, **request: object) -> wire.OpenVersion:
        """`message source base mirror restart`, as in wire's VersionRequest."""
        content = self.call("POST", f"{dataset_path(dataset)}/versions", body=request, timeout_s=WORK_S)
        return cast("wire.OpenVersion", json.loads(content))

    def missing(self, dataset: str, version: str, lines: bytes, *, first: bool, last: bool) -> wire.Missing:
        """Send a part of the manifest, one JSON array a line. With the last one: what of it is not there yet."""
        query = {"first": int(first), "last": int(last)}
        target = f"{dataset_path(dataset)}/versions/{version}/missing"
        content, _ = self._exchange("POST", target, query, lines, "application/x-ndjson", {}, timeout_s=WORK_S)
        return cast("wire.Missing", json.loads(content))

    def put_pack(self, dataset: str, version: str, pack: bytes) -> wire.Packed:
        """Raises Conflict where it was damaged on its way; then nothing of it was stored."""
        target = f"{dataset_path(dataset)}/versions/{version}/pack"
        digest = {"Content-Digest": _digest(pack)}
        content, _ = self._exchange("POST", target, None, pack, "application/x-tar", digest, timeout_s=WORK_S)
        return cast("wire.Packed", json.loads(content))

    def commit_version(
        self, dataset: str, version: str, *, message: str = "", tags: Sequence[str] = ()
    ) -> wire.Version:
        body = {"message": message, "tags": list(tags)}
        target = f"{dataset_path(dataset)}/versions/{version}/commit"
        return cast("wire.Version", json.loads(self.call("POST", target, body=body, timeout_s=WORK_S)))


def _digest(content: bytes) -> str:
    """As Content-Digest says it, RFC 9530."""
    import hashlib  # deferred: only packs of files are checked

    return f"sha-256=:{binascii.b2a_base64(hashlib.sha256(content).digest(), newline=False).decode()}:"
