"""A stand-in for the Docker engine on a unix socket: canned answers, and event streams that a test feeds and cuts."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
CUT = None


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.host = f"unix://{path}"
        self.answers: dict[str, tuple[int, Any]] = {"GET /version": (200, VERSION), "GET /info": (200, {"NCPU": 2})}
        """`METHOD /path` without the API version -> status and JSON body."""
        self.requests: list[str] = []
        self.since: list[str] = []
        """The `since` of every event stream that was opened."""
        self.events: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        """Sent as they come; CUT ends the stream."""
        self.hang = threading.Event()
        """While it is clear, `GET /hang`-like answers wait; set by the end of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = url.path.removeprefix("/v1.41")
        key = f"{self.command} {path}"
        self.server.requests.append(key)
        if path == "/events":
            self.server.since.append(parse_qs(url.query)["since"][0])
            self._stream()
            return
        status, body = self.server.answers.get(key, (404, {"message": f"no answer to {key}"}))
        if body == "hang":
            self.server.hang.wait(30)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (event := self.server.events.get()) is not CUT:
            data = json.dumps(event).encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.close_connection = True

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: object) -> None:
        return


@contextmanager
def fake_engine(path: Path) -> Iterator[FakeEngine]:
    with FakeEngine(path) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.hang.set()
            server.events.put(CUT)
            server.shutdown()
            thread.join()
