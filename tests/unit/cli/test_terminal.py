"""`notebook exec` as a user runs it: a process of its own at a pseudo-terminal, or at pipes."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.terminals import SHELL
from appliance.cli.terminal import HUNG_UP, Escape, command_of
from appliance.settings import Settings
from tests.unit.api.terminal_house import DEADLINE_S, Served, served

CONTAINER = "c" * 64
APPLIANCE = [sys.executable, "-m", "appliance.cli.main"]
COMMAND = [*APPLIANCE, "notebook", "exec"]


@pytest.mark.parametrize(
    ("typed", "passed", "leaves"),
    [
        ([b"~."], b"", True),
        ([b"~", b"."], b"", True),
        ([b"ls\r~."], b"ls\r", True),
        ([b"a~.\r"], b"a~.\r", False),
        ([b"~~."], b"~.", False),
        ([b"~", b"x~."], b"~x~.", False),
        ([b"\n~/bin\r"], b"\n~/bin\r", False),
        ([b"~\r~."], b"~\r", True),
        ([b"\xff\x00\x03"], b"\xff\x00\x03", False),
    ],
)
def test_the_way_out(typed: Sequence[bytes], passed: bytes, leaves: bool) -> None:
    escape = Escape()
    found = [escape.found(piece) for piece in typed]
    assert b"".join(data for data, _ in found) == passed
    assert [leave for _, leave in found] == [False] * (len(typed) - 1) + [leaves]


@given(st.lists(st.text("~.\r\na", max_size=4).map(str.encode)))
def test_how_keys_come_together_changes_nothing(pieces: list[bytes]) -> None:
    def passed(pieces: Sequence[bytes]) -> tuple[bytes, bool]:
        escape, found = Escape(), b""
        for piece in pieces:
            data, leave = escape.found(piece)
            found += data
            if leave:
                return found, True
        return found, False

    assert passed(pieces) == passed([b"".join(pieces)])


@pytest.mark.parametrize(
    ("rest", "found"),
    [
        (["--", "ls", "--", "-l"], (False, ["ls", "--", "-l"])),
        (["ls", "-T"], (False, ["ls", "-T"])),
        (["-T", "ls"], (True, ["ls"])),
        (["-T", "--", "-T"], (True, ["-T"])),
        (["-T"], (True, [])),
        (["--"], (False, [])),
        ([], (False, [])),
    ],
)
def test_the_command_is_what_follows(rest: list[str], found: tuple[bool, list[str]]) -> None:
    assert command_of(rest, ("-T",)) == found


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[Served]:
    with served(settings, tmp_path) as made:
        made.declare("notebook", "nb", container=CONTAINER, started=1.0)
        rows = [{"id": f"1-{place}", "state": "ready", "container": str(place) * 64, "ready": True} for place in (0, 1)]
        made.declare("deployment", "web", replicas=rows)
        yield made


def environment(house: Served) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APPLIANCE_")}
    return {**kept, "APPLIANCE_HOME": str(house.settings.home), "TERM": "xterm"}


class Screen:
    """A pseudo-terminal with the command in it."""

    def __init__(self, process: subprocess.Popen[bytes], own: int, its: int) -> None:
        self.process = process
        self._own, self._its = own, its
        self._seen = b""

    def type(self, keys: bytes) -> None:
        os.write(self._own, keys)

    def until(self, words: bytes) -> bytes:
        """What came up to these words."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in self._seen:
            assert time.monotonic() < deadline, self._seen
            if select.select([self._own], [], [], 0.2)[0]:
                self._seen += os.read(self._own, 1 << 16)
        before, _, self._seen = self._seen.partition(words)
        return before

    def line(self) -> Any:
        return json.loads(self.until(b"\n"))

    def size(self, columns: int, rows: int) -> None:
        resize(self._its, columns, rows)
        self.process.send_signal(signal.SIGWINCH)

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._its)


def resize(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def screen(house: Served, *arguments: str, command: Sequence[str] = COMMAND) -> Iterator[Screen]:
    own, its = pty.openpty()
    resize(its, 111, 22)
    with subprocess.Popen([*command, *arguments], stdin=its, stdout=its, stderr=its, env=environment(house)) as process:
        try:
            yield Screen(process, own, its)
        finally:
            process.kill()
            process.wait()
            os.close(own)
            os.close(its)


def test_at_a_terminal_keys_size_and_exit_code_are_passed(house: Served) -> None:
    with screen(house, "nb", "--", "vi", "--", "-x") as found:
        assert found.line() == {
            "container": CONTAINER,
            "argv": ["vi", "--", "-x"],
            "tty": True,
            "env": {"TERM": "xterm"},
            "size": [111, 22],
        }
        found.type(b"\x03\x04\x1a\x1b")
        typed = found.line()["typed"]
        while typed != "03041a1b":
            typed += found.line()["typed"]
        found.size(77, 33)
        assert found.line() == {"size": [77, 33]}
        before = found.modes
        found.type(b"exit 9")
        assert found.process.wait(DEADLINE_S) == 9
        after = found.modes
        assert not before[3] & termios.ECHO, "raw while it ran"
        assert after[3] & termios.ECHO, "and as it was again"
        assert after[3] & termios.ICANON


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (None, HUNG_UP)])
def test_however_it_is_left_the_terminal_is_as_it_was(house: Served, number: int | None, code: int) -> None:
    with screen(house, "nb") as found:
        found.line()
        if number is None:
            found.type(b"\r~.")
        else:
            found.process.send_signal(number)
        assert found.process.wait(DEADLINE_S) == code
        assert found.modes[3] & termios.ECHO
    assert house.engine.left.acquire(timeout=DEADLINE_S), "the command ends with it"


def test_a_daemon_that_stops_is_told_below_a_terminal_as_it_was(house: Served) -> None:
    with screen(house, "nb") as found:
        found.line()
        house.stop()
        found.until(b"the daemon stops, and the command with it")
        assert found.process.wait(DEADLINE_S) == 1
        assert found.modes[3] & termios.ECHO


def test_at_pipes_streams_stay_apart_and_bytes_as_they_are(house: Served) -> None:
    command, pipe = [*COMMAND, "nb", "--", "cat"], subprocess.PIPE
    with subprocess.Popen(command, env=environment(house), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        told = json.loads(process.stdout.readline())
        assert (told["tty"], told["argv"]) == (False, ["cat"])
        process.stdin.write(b"\xff\x00")
        process.stdin.flush()
        assert json.loads(process.stderr.readline()) == {"typed": "ff00"}
        process.stdin.close()
        assert json.loads(process.stdout.readline()) == {"eof": True}
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
    assert house.engine.left.acquire(timeout=DEADLINE_S)


def test_typed_keys_are_for_the_pager_and_not_for_the_command(house: Served) -> None:
    own, its = pty.openpty()
    try:
        with subprocess.Popen([*COMMAND, "nb"], stdin=its, stdout=subprocess.PIPE, env=environment(house)) as process:
            assert process.stdout is not None
            assert not json.loads(process.stdout.readline())["tty"]
            assert json.loads(process.stdout.readline()) == {"eof": True}
            os.write(own, b"q\n")
            assert not select.select([process.stdout], [], [], 1)[0]
            assert os.read(its, 10) == b"q\n", "nobody has taken it"
            process.kill()
    finally:
        os.close(own)
        os.close(its)


def test_what_is_wrong_is_told_before_anything_is_changed(house: Served) -> None:
    with screen(house, "nope") as found:
        found.until(b"no notebook named 'nope'")
        assert found.process.wait(DEADLINE_S) == 3


@pytest.mark.parametrize(
    ("arguments", "container", "argv"),
    [
        (["-t", "web"], "0" * 64, SHELL),
        (["web", "-t", "-r", "1-1", "--", "top", "-t"], "1" * 64, ["top", "-t"]),
        (["-r", "1-1", "web", "-t", "top"], "1" * 64, ["top"]),
    ],
)
def test_a_replica_is_spoken_with_where_it_is_asked_for(
    house: Served, arguments: list[str], container: str, argv: list[str]
) -> None:
    with screen(house, *arguments, command=[*APPLIANCE, "deployment", "exec"]) as found:
        told = found.line()
        assert (told["container"], told["argv"], told["tty"]) == (container, argv, True)
        found.type(b"exit 3")
        assert found.process.wait(DEADLINE_S) == 3


def test_a_terminal_that_is_not_there_cannot_be_given(house: Served) -> None:
    command = [*APPLIANCE, "deployment", "exec", "-t", "web"]
    ended = subprocess.run(command, env=environment(house), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"there is no terminal here to give it" in ended.stderr
