"""A terminal's connection to the engine, on an engine that says everything at once."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from appliance.engine.client import Client
from appliance.engine.terminals import Size, Terminal, terminal
from appliance.errors import EngineError
from tests.unit.engine.fake import VERSION

pytestmark = pytest.mark.anyio

SIZE = Size(80, 24)


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.first = b""
        """Sent together with the head of the answer."""
        self.asked: list[str] = []
        self.looks: list[dict[str, int | None]] = [{"Running": False, "ExitCode": 4}]
        """Answers to a look at the command; the last one stays."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            self._answer(VERSION)
        else:
            looks = self.server.looks
            self._answer(looks.pop(0) if len(looks) > 1 else looks[0])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path.removeprefix("/v1.41"))
        if self.path.endswith("/start"):
            head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
            self.wfile.write(head + self.server.first)
            while data := self.rfile.read1(1 << 16):
                self.wfile.write(data)
            self.close_connection = True
        else:
            self._answer({"Id": "e" * 64})

    def _answer(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "s") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> Iterator[Client]:
    made = Client(f"unix://{tmp_path / 's'}")
    yield made
    made.forget()


async def output(opened: Terminal) -> list[tuple[str, bytes]]:
    return [(piece.stream, piece.data) async for piece in opened]


def framed(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


async def test_what_comes_with_the_head_of_the_answer_is_not_lost(engine: Engine, client: Client) -> None:
    engine.first = b"first words "
    async with terminal(client, "c", ["sh"], tty=True, size=SIZE, env={}) as opened:
        pieces = aiter(opened)
        assert (await anext(pieces)).data == b"first words "
        await opened.write(b"echo")
        assert (await anext(pieces)).data == b"echo"
        assert await opened.exit_code() == 4
    assert engine.asked == ["/containers/c/exec", f"/exec/{'e' * 64}/start", f"/exec/{'e' * 64}/resize?h=24&w=80"]


async def test_streams_are_told_apart_wherever_they_are_cut(engine: Engine, client: Client) -> None:
    long = bytes(100_000)
    engine.first = framed(1, b"one") + framed(2, b"two") + framed(1, b"")
    async with terminal(client, "c", ["sh"], tty=False, size=SIZE, env={}) as opened:
        for piece in (framed(2, long)[:5], framed(2, long)[5:70_000], framed(2, long)[70_000:], framed(1, b"cut")[:-1]):
            await opened.write(piece)
        await opened.end_input()
        found = await output(opened)
    assert found[:2] == [("stdout", b"one"), ("stderr", b"two")]
    assert b"".join(data for stream, data in found[2:] if stream == "stderr") == long
    assert b"".join(data for stream, data in found[2:] if stream == "stdout") == b"cu", "what came before the end"
    assert "/resize" not in "".join(engine.asked), "there is no terminal"


async def test_a_command_that_only_closes_its_output_is_no_good_end(
    engine: Engine, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.engine.terminals.ENDED_WITHIN_S", 0.2)
    engine.looks = [{"Running": True, "Pid": 0, "ExitCode": None}] * 100 + [{"Running": False, "ExitCode": 0}]
    monkeypatch.setattr("appliance.engine.executing.BEGUN_WITHIN_S", 0.2)
    async with terminal(client, "c", ["sh"], tty=False, size=SIZE, env={}) as opened:
        with pytest.raises(EngineError, match="goes on"):
            await opened.exit_code()
