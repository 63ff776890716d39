"""The client: errors come back as their classes, streams end, a restarted daemon is reached again."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from appliance.client import Client
from appliance.errors import Conflict, DaemonDown, NotFound, Problem, SpecError

Handle = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(path: Path, handle: Handle) -> Iterator[None]:
    """A daemon's stand-in: real HTTP over a real unix socket."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            handle(self)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
    path.unlink()


def answer(request: BaseHTTPRequestHandler, status: int, document: object) -> None:
    request.rfile.read(int(request.headers.get("Content-Length", 0)))  # unread, it would reset the connection
    body = json.dumps(document).encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
    request.close_connection = True  # without saying so: what a client sees of a daemon that was restarted


def test_a_problem_comes_back_as_its_class_with_the_next_step(tmp_path: Path) -> None:
    problem = {"code": "conflict", "detail": "it runs", "hint": "stop it", "where": "nb"}
    with serving(tmp_path / "s", lambda request: answer(request, 409, problem)):
        client = Client(socket=tmp_path / "s")
        with pytest.raises(Conflict) as caught:
            client.get("notebooks", "nb")
        client.close()
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == ("it runs", "stop it", 4)


def test_spec_problems_keep_their_places(tmp_path: Path) -> None:
    found = Problem("a.yaml", 3, 5, "jobs.x", "unknown key", "did you mean needs?")
    problem = {"code": "invalid_spec", "detail": str(found), "problems": [found.to_json()]}
    with serving(tmp_path / "s", lambda request: answer(request, 422, problem)):
        client = Client(socket=tmp_path / "s")
        with pytest.raises(SpecError) as caught:
            client.apply("x", "a.yaml")
        client.close()
    assert caught.value.problems == (found,)


def test_samples_are_pushed_for_somebody(tmp_path: Path) -> None:
    seen: list[object] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        seen.append((request.command, request.path, json.loads(request.rfile.read(length))))
        request.headers.replace_header("Content-Length", "0")
        answer(request, 200, {"kind": "run", "name": "train.3", "samples": 1})

    with serving(tmp_path / "s", handle):
        client = Client(socket=tmp_path / "s")
        stored = client.push_metrics([{"metric": "loss", "value": 0.5, "step": 1}], kind="run", name="train")
        client.close()
    body = {
        "for": {"kind": "run", "name": "train", "part": ""},
        "samples": [{"metric": "loss", "value": 0.5, "step": 1}],
    }
    assert seen == [("POST", "/v1/metrics", body)]
    assert stored["name"] == "train.3"


def test_no_daemon_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(DaemonDown) as caught:
        Client(socket=tmp_path / "none").status()
    assert caught.value.exit_code == 5
    assert "appliance serve" in caught.value.hint


@pytest.mark.parametrize(("via", "said"), [("cli", "ad%C3%A1%20%28cli%29"), ("", "ad%C3%A1")])
def test_who_asks_is_told_with_the_way_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, via: str, said: str
) -> None:
    monkeypatch.setenv("SUDO_USER", "ad\u00e1")
    seen: list[str | None] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["X-Appliance-Author"])
        answer(request, 200, {})

    with serving(tmp_path / "s", handle):
        client = Client(socket=tmp_path / "s", via=via)
        client.status()
        client.close()
    assert seen == [said]


def test_a_restarted_daemon_is_reached_on_a_kept_client(tmp_path: Path) -> None:
    client = Client(socket=tmp_path / "s")
    with serving(tmp_path / "s", lambda request: answer(request, 200, {"items": [1]})):
        assert client.items("notebooks") == [1]
    with serving(tmp_path / "s", lambda request: answer(request, 200, {"items": [2]})):
        assert client.items("notebooks") == [2]
    client.close()


def test_a_stream_gives_each_document_and_ends_with_the_server(tmp_path: Path) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b': open\n\nid: 1\ndata: {"seq": 1}\n\n: alive\n\nid: 2\ndata: {"seq": 2}\n\n')
        request.close_connection = True

    with serving(tmp_path / "s", handle):
        lines = list(Client(socket=tmp_path / "s").follow_logs(kind="run"))
    assert [line["seq"] for line in lines] == [1, 2]


def test_names_cannot_leave_their_place_in_the_path(tmp_path: Path) -> None:
    seen: list[str] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        answer(request, 404, {"code": "not_found", "detail": "no"})

    with serving(tmp_path / "s", handle):
        client = Client(socket=tmp_path / "s")
        with pytest.raises(NotFound):
            client.get("notebooks", "../secrets/x?y")
        client.close()
    assert seen == ["/v1/notebooks/..%2Fsecrets%2Fx%3Fy"]


def test_closing_ends_a_stream_that_another_thread_waits_on(tmp_path: Path) -> None:
    held, begun, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b'10\r\ndata: {"seq":1}\n\r\n')
        held.wait(60)
        request.close_connection = True

    def read() -> None:
        for line in client.follow_logs(kind="run"):
            assert line["seq"] == 1
            begun.set()
        ended.set()

    with serving(tmp_path / "s", handle):
        client = Client(socket=tmp_path / "s")
        thread = threading.Thread(target=read)
        thread.start()
        assert begun.wait(60)
        deadline = time.monotonic() + 60
        while not ended.wait(0.05) and time.monotonic() < deadline:
            client.close()
        held.set()
        thread.join(60)
    assert ended.is_set()


def test_a_download_that_ends_early_is_an_error(tmp_path: Path) -> None:
    def half(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"12345")
        request.close_connection = True

    with serving(tmp_path / "s", half):
        client = Client(socket=tmp_path / "s")
        pieces = client.read_file("nb", "a")
        assert next(pieces) == b"12345"
        with pytest.raises(DaemonDown):
            next(pieces)
        client.close()


def test_every_request_says_who_asks(tmp_path: Path) -> None:
    said: list[str] = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        said.append(request.headers["X-Appliance-Author"])
        answer(request, 200, {"items": []})

    with serving(tmp_path / "s", handle):
        client = Client(socket=tmp_path / "s")
        client.history("nb")
        client.close()
    assert said[0]
    assert said[0].isascii()


def test_a_daemon_that_is_slow_is_told_with_the_limit_it_had(tmp_path: Path) -> None:
    over = threading.Event()
    with serving(tmp_path / "s", lambda _: assert_ends(over)):
        client = Client(socket=tmp_path / "s")
        for limit, words in ((0.2, "within 0.2 s"), (0.3, "within 0.3 s")):
            with pytest.raises(DaemonDown, match=words):
                client.call("GET", "/v1/notebooks", timeout_s=limit)
        over.set()
        client.close()


def assert_ends(over: threading.Event) -> None:
    assert over.wait(60)
