"""A shell in a notebook, by a real daemon: at a pseudo-terminal here, and through the front door with the token."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import random
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.daemon import RunningDaemon, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

WITHIN_S = 180.0
EXEC = [sys.executable, "-m", "appliance.cli.main", "notebook", "exec", "shell"]


@pytest.fixture(scope="module")
def notebook(daemon: RunningDaemon, notebook_image: str) -> str:
    made = daemon.cli("notebook", "create", "shell", "--env", "GREETING=hello", timeout_s=600)
    assert made.returncode == 0, made.stderr
    return "shell"


class Screen:
    def __init__(self, process: subprocess.Popen[bytes], own: int, its: int) -> None:
        self.process = process
        self._own, self._its = own, its

    def type(self, keys: bytes) -> None:
        os.write(self._own, keys)

    def until(self, wanted: str) -> str:
        seen, deadline = b"", time.monotonic() + WITHIN_S
        while not (found := re.search(wanted, seen.decode(errors="replace"))):
            assert time.monotonic() < deadline, seen
            if select.select([self._own], [], [], 0.5)[0]:
                seen += os.read(self._own, 1 << 16)
        return found[1] if found.groups() else found[0]

    def size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)


@contextmanager
def screen(daemon: RunningDaemon, **environment: str) -> Iterator[Screen]:
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 99, 0, 0))
    environ = {**daemon.environment, "TERM": "xterm", **environment}
    with subprocess.Popen(EXEC, stdin=its, stdout=its, stderr=its, env=environ) as process:
        try:
            yield Screen(process, own, its)
        finally:
            process.kill()
            process.wait()
            os.close(own)
            os.close(its)


def test_a_shell_is_like_one_here(daemon: RunningDaemon, notebook: str) -> None:
    with screen(daemon) as found:
        found.until(r"[#$] ")
        found.type(b'echo "$GREETING $PWD $0 $(stty size)"\r')
        assert found.until(r"hello /notebooks bash 31 99")
        found.size(77, 20)
        found.type(b'until [ "$(stty size)" = "20 77" ]; do sleep 0.1; done; echo resiz""ed\r')
        found.until("resized")
        found.type(b"sleep 4329\r")
        eventually(lambda: runs(daemon, "sleep 4329"), within_s=60, what="the command runs")
        found.type(b"\x03")
        found.type(b"echo code=$?\r")
        assert found.until(r"code=(\d+)") == "130"
        found.type(b"exit 23\r")
        assert found.process.wait(WITHIN_S) == 23


def test_it_ends_with_its_client_and_what_was_to_go_on_goes_on(daemon: RunningDaemon, notebook: str) -> None:
    with screen(daemon) as found:
        found.until(r"[#$] ")
        found.type(b"nohup sleep 4330 > /dev/null 2>&1 &\rsleep 4331\r")
        for seconds in (4330, 4331):
            eventually(lambda seconds=seconds: runs(daemon, f"sleep {seconds}"), within_s=60, what="both run")  # type: ignore[misc]
        found.process.kill()
        eventually(lambda: not runs(daemon, "sleep 4331"), within_s=60, what="the command has ended")
        assert runs(daemon, "sleep 4330")


def test_bytes_go_through_the_front_door_with_the_token(daemon: RunningDaemon, notebook: str) -> None:
    token = (daemon.home / "token").read_text().strip()
    given = random.Random(6).randbytes(20 << 20)
    for sent, code in ((token, 7), ("wrong", 1)):
        environ = {**daemon.environment, "APPLIANCE_URL": daemon.url, "APPLIANCE_TOKEN": sent}
        ended = subprocess.run(
            [*EXEC, "--", "sh", "-c", "cat; echo oh >&2; exit 7"],
            input=given, env=environ, capture_output=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        if sent == token:
            assert hashlib.sha256(ended.stdout).digest() == hashlib.sha256(given).digest()
            assert ended.stderr == b"oh\n"
        else:
            assert b"no valid token" in ended.stderr
    with screen(daemon, APPLIANCE_URL=daemon.url, APPLIANCE_TOKEN=token) as found:
        found.until(r"[#$] ")
        found.type(b"exit 5\r")
        assert found.process.wait(WITHIN_S) == 5


def test_a_daemon_that_stops_says_so_and_leaves_nothing(daemon: RunningDaemon, notebook: str) -> None:
    with screen(daemon) as found:
        found.until(r"[#$] ")
        found.type(b"sleep 4332\r")
        eventually(lambda: runs(daemon, "sleep 4332"), within_s=60, what="the command runs")
        daemon.stop()
        found.until("the daemon stops, and the command with it")
        assert found.process.wait(WITHIN_S) == 1
    daemon.start()
    assert not runs(daemon, "sleep 4332")
    assert runs(daemon, "jupyter"), "the session goes on"


def runs(daemon: RunningDaemon, words: str) -> bool:
    return daemon.cli("notebook", "exec", "-T", "shell", "--", "pgrep", "-f", f"^.*{words}").returncode == 0
