"""Datasets as their users meet them: put through the front door, over a daemon that is killed, and fetched again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.haproxy]

FILES = 300
LARGE = 96 << 20
"""Three packs, so that the daemon can be killed while some of them are still to come."""
HALF = 48 << 20
WITHIN_S = 300.0


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    for number in range(FILES):
        (root / f"f{number}").write_bytes(os.urandom(3000))
    (root / "large").write_bytes(os.urandom(LARGE))
    (root / os.fsdecode(b"odd \xff\n")).symlink_to("/etc/shadow")
    return root


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "appliance.cli.main", *arguments]


def test_a_put_survives_a_kill_and_what_is_fetched_is_what_was_put(
    daemon: RunningDaemon, source: Path, tmp_path: Path
) -> None:
    """Over TCP with the token, as from another machine."""
    assert daemon.cli("dataset", "create", "digits").returncode == 0
    token = (daemon.home / "token").read_text().strip()
    outside = {**daemon.environment, "APPLIANCE_URL": daemon.url, "APPLIANCE_TOKEN": token}
    arrived = daemon.home / "uploads"
    put = command("dataset", "put", "digits", str(source), "--tag", "v1")
    with half_way(daemon.port) as (url, go_on):
        interrupt(daemon, put, {**outside, "APPLIANCE_URL": url}, go_on)
    daemon.start()
    done = subprocess.run(put, env=outside, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    assert "was begun before" in done.stderr
    assert list(arrived.iterdir()) == []
    (version,) = daemon.client.versions("digits")
    assert done.stdout.strip() == version["ref"]
    target = tmp_path / "out"
    get = command("dataset", "get", "digits:v1", str(target))
    assert subprocess.run(get, env=outside, capture_output=True, timeout=WITHIN_S, check=False).returncode == 0
    compared = subprocess.run(["diff", "-r", "--no-dereference", str(source), str(target)], check=False)
    assert compared.returncode == 0
    refused = daemon.cli("delete", "dataset", "digits")
    assert refused.returncode == 4
    assert daemon.cli("dataset", "remove", version["ref"], "--confirm", version["ref"]).returncode == 0
    assert daemon.cli("dataset", "get", "digits", str(target)).returncode == 3


@contextmanager
def half_way(port: int) -> Iterator[tuple[str, threading.Event]]:
    """An address of the server on that port where HALF bytes get through, and the others when the event is set."""
    go_on, passed = threading.Event(), 0

    def pump(source: socket.socket, sink: socket.socket, *, counts: bool) -> None:
        nonlocal passed
        try:
            while data := source.recv(1 << 16):
                passed += len(data) if counts else 0
                if counts and passed > HALF:
                    go_on.wait(WITHIN_S)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # who still sends is to learn of it
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes the other pump
                end.close()

    def serve() -> None:
        with suppress(OSError):  # the listener is shut down at the end
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                sockets.extend((client, server))
                threading.Thread(target=pump, args=(client, server), kwargs={"counts": True}, daemon=True).start()
                threading.Thread(target=pump, args=(server, client), kwargs={"counts": False}, daemon=True).start()

    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", go_on
        finally:
            go_on.set()
            listener.shutdown(socket.SHUT_RDWR)
            serving.join(WITHIN_S)
            for each in sockets:
                each.close()


def interrupt(daemon: RunningDaemon, put: list[str], environment: dict[str, str], go_on: threading.Event) -> None:
    """Kill the daemon when more of the large file is there than before, and not yet all of it."""
    before = parts(daemon.home)
    going = subprocess.Popen(put, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WITHIN_S
    while parts(daemon.home) <= before:
        assert going.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    daemon.kill()
    go_on.set()
    _, complaint = going.communicate(timeout=WITHIN_S)
    assert going.returncode == 5, complaint
    assert "goes on where it was" in complaint


def parts(home: Path) -> int:
    """Bytes of what is half sent."""
    found = (home / "volumes").glob("datasets+*/live/.appliance-*.part")
    try:
        return sum(path.stat().st_size for path in found)
    except FileNotFoundError:
        return 0  # it has become whole just now
