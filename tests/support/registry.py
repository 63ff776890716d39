"""A read-only image registry on a port of this machine, holding one tiny image. Engines trust 127.0.0.1 without TLS."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *, login: str = "", salt: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.login = login
        """`USER:PASSWORD` that every request must bring; empty: none."""
        self.pulls = 0
        self.told: set[str] = set()
        """Every `Authorization` that came."""
        self.blobs: dict[str, bytes] = {}
        self.manifest = self._image(salt)

    @property
    def ref(self) -> str:
        return f"127.0.0.1:{self.server_port}/team/tiny:1"

    def _image(self, salt: str) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("salt")
            entry.size = len(salt)
            archive.addfile(entry, io.BytesIO(salt.encode()))
        layer = gzip.compress(buffer.getvalue())
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/x"], "Env": ["A=b"], "ExposedPorts": {"8000/tcp": {}}},
            "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
        }
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(CONFIG, json.dumps(config).encode()),
            "layers": [self._blob(LAYER, layer)],
        }
        return json.dumps(document).encode()

    def _blob(self, media_type: str, data: bytes) -> dict[str, object]:
        self.blobs[_digest(data)] = data
        return {"mediaType": media_type, "size": len(data), "digest": _digest(data)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        wanted = "Basic " + base64.b64encode(self.server.login.encode()).decode()
        self.server.told.add(self.headers.get("Authorization") or "")
        if self.server.login and self.headers.get("Authorization") != wanted:
            self._answer(401, _error("UNAUTHORIZED"), {"WWW-Authenticate": 'Basic realm="test"'})
        elif self.path == "/v2/":
            self._answer(200, b"{}")
        elif self.path.startswith("/v2/team/tiny/blobs/"):
            self._answer(200, self.server.blobs[self.path.rpartition("/")[2]])
        elif self.path in ("/v2/team/tiny/manifests/1", f"/v2/team/tiny/manifests/{_digest(self.server.manifest)}"):
            self.server.pulls += self.command == "GET"
            headers = {"Content-Type": MANIFEST, "Docker-Content-Digest": _digest(self.server.manifest)}
            self._answer(200, self.server.manifest, headers)
        else:
            self._answer(404, _error("MANIFEST_UNKNOWN"))

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def registry(*, login: str = "", salt: str = "") -> Iterator[Registry]:
    with Registry(login=login, salt=salt) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _error(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
