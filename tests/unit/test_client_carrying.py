"""Archives over a socket: a broken one is noticed, and an early refusal is heard while the rest is still to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from appliance.client import Client
from appliance.errors import Conflict, DaemonDown
from tests.unit.test_client import answer, serving


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "s"


def chunks(request: BaseHTTPRequestHandler) -> Iterator[bytes]:
    """Of a body of unknown length."""
    while size := int(request.rfile.readline(), 16):
        yield request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()


def test_a_body_of_unknown_length_arrives(path: Path) -> None:
    got: list[object] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        got.extend([request.path, request.headers["Content-Type"], b"".join(chunks(request))])
        answer(request, 201, {"name": "nb"})

    with serving(path, handle):
        made = Client(socket=path).import_notebook(iter([b"one", b"", b"two"]), "n b", start=True)
    assert made["name"] == "nb"
    assert got == ["/v1/notebooks/import?name=n+b&start=1", "application/gzip", b"onetwo"]


def test_a_refusal_ends_the_sending(path: Path) -> None:
    sent = 0

    def handle(request: BaseHTTPRequestHandler) -> None:
        answer(request, 409, {"code": "conflict", "detail": "taken"})

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 1
            yield bytes(1 << 16)

    with serving(path, handle), pytest.raises((Conflict, DaemonDown)):
        Client(socket=path).import_notebook(pieces())
    assert sent < 10_000


@pytest.mark.parametrize("whole", [True, False])
def test_an_archive_that_is_broken_off_is_noticed(path: Path, whole: bool) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"4\r\narch\r\n" + (b"3\r\nive\r\n0\r\n\r\n" if whole else b""))
        request.close_connection = True

    with serving(path, handle):
        pieces = Client(socket=path).export_notebook("nb", at="s1")
        if whole:
            assert b"".join(pieces) == b"archive"
        else:
            with pytest.raises(DaemonDown):
                list(pieces)
