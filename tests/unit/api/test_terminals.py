"""Terminals over the real API and the real client, as the daemon serves them."""

from __future__ import annotations

import json
import logging
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.api import terminals
from appliance.client import Client
from appliance.client.terminals import Ended, Terminal, Written
from appliance.errors import Conflict, DaemonDown, Forbidden, NotFound, Unavailable, UsageError
from appliance.settings import Settings
from tests.unit.api.terminal_house import DEADLINE_S, Served, served
from tests.unit.api.test_api import TOKEN

CONTAINER = "c" * 64


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Iterator[Served]:
    with served(settings, tmp_path) as made:
        made.declare("notebook", "nb", container=CONTAINER, started=1.0)
        made.declare("notebook", "off", container="", started=None)
        rows = [{"id": f"1-{place}", "state": "ready", "container": str(place) * 64, "ready": True} for place in (0, 1)]
        made.declare("deployment", "web", replicas=rows)
        yield made


class Heard:
    """What comes out of a terminal, in order."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._came: list[Written | Ended] = []

    def next(self) -> Written | Ended:
        deadline = time.monotonic() + DEADLINE_S
        while not self._came:
            assert time.monotonic() < deadline
            select.select([self.terminal], [self.terminal] if self.terminal.waiting else [], [], 1)
            self.terminal.flush()
            self._came += self.terminal.receive()
        return self._came.pop(0)

    def words(self, stream: str = "stdout") -> Any:
        found = self.next()
        assert isinstance(found, Written)
        assert found.stream == stream
        return json.loads(found.data)


def test_it_begins_as_asked_and_passes_everything_on(house: Served) -> None:
    terminal = house.client().notebook_terminal("nb", ["vi", "é"], tty=True, size=(101, 33), term="screen")
    heard = Heard(terminal)
    assert heard.words() == {
        "container": CONTAINER, "argv": ["vi", "é"], "tty": True, "env": {"TERM": "screen"}, "size": [101, 33],
    }  # fmt: skip
    terminal.write(b"\x03\x00\xff")
    assert heard.words() == {"typed": "0300ff"}
    terminal.resize(80, 25)
    assert heard.words() == {"size": [80, 25]}
    terminal.write(b"exit 17")
    assert heard.next() == Ended(17)
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S)


def test_what_is_typed_in_a_session_is_use_of_it_and_it_can_be_told_a_line(house: Served) -> None:
    lines = house.house.parts.notebooks.terminals
    terminal = house.client().notebook_terminal("nb", ["vi"], tty=True)
    heard = Heard(terminal)
    heard.words()
    opened = lines.mark(CONTAINER)
    assert opened, "to open one is use as well"
    terminal.resize(80, 25)
    heard.words()
    assert lines.mark(CONTAINER) == opened
    for number in (1, 2):
        terminal.write(b"x")
        heard.words()
        assert lines.mark(CONTAINER) == opened + number
    house.tell(CONTAINER, "it is stopped soon")
    said = heard.next()
    assert isinstance(said, Written)
    assert b"it is stopped soon" in said.data
    assert said.data.startswith(b"\r\n")
    assert said.data.endswith(b"\r\n")
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S)
    house.tell(CONTAINER, "nobody hears it")

    terminal = house.client().notebook_terminal("nb", ["cat"], tty=False)
    heard = Heard(terminal)
    heard.words()
    house.tell(CONTAINER, "no line in what a program reads")
    terminal.write(b"\x01")
    assert heard.words("stderr") == {"typed": "01"}
    terminal.close()


def test_without_a_pty_streams_stay_apart_and_the_input_ends(house: Served) -> None:
    terminal = house.client().notebook_terminal("nb", ["cat"], tty=False)
    heard = Heard(terminal)
    assert heard.words()["env"] == {}
    terminal.write(b"\x01")
    assert heard.words("stderr") == {"typed": "01"}
    terminal.end_input()
    assert heard.words() == {"eof": True}
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S), "it ends with its client"


def test_what_is_not_said_is_as_usual(house: Served) -> None:
    terminal = house.client().notebook_terminal("nb", [], tty=True, size=(0, 0), term="xterm-my-own")
    told = Heard(terminal).words()
    assert told["argv"] == terminals.SHELL
    assert (told["size"], told["env"]) == ([80, 24], {"TERM": "xterm-256color"})
    terminal.close()


@pytest.mark.parametrize(("replica", "container"), [("", "0" * 64), ("1-1", "1" * 64)])
def test_a_replica_is_found_as_for_any_command(house: Served, replica: str, container: str) -> None:
    terminal = house.client().replica_terminal("web", ["sh"], replica=replica, tty=True)
    assert Heard(terminal).words()["container"] == container
    terminal.close()


def test_what_cannot_be_is_refused_in_words(
    house: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = house.client()
    with pytest.raises(NotFound, match="no notebook named 'nope'"):
        client.notebook_terminal("nope", [], tty=True)
    with pytest.raises(Conflict, match="'off' does not run") as stopped:
        client.notebook_terminal("off", [], tty=True)
    assert stopped.value.hint == "`appliance notebook start off`"
    with pytest.raises(NotFound, match="no replica '9-9'"):
        client.replica_terminal("web", ["sh"], replica="9-9", tty=True)
    with pytest.raises(UsageError, match="1 to 65535"):
        client.notebook_terminal("nb", [], tty=True, size=(65536, 1))
    monkeypatch.setattr(terminals, "MOST_OPEN", 1)
    terminal = client.notebook_terminal("nb", [], tty=True)
    with pytest.raises(Conflict, match="1 terminals are open"):
        client.notebook_terminal("nb", [], tty=True)
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S)
    with pytest.raises(DaemonDown):
        Client(socket=Path("/nowhere/socket")).notebook_terminal("nb", [], tty=True)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == [], "it is nobody's defect"


@pytest.mark.parametrize("argv", [[""], ["ls", 3], ["echo", "x" * 200_000]])
def test_what_is_no_command_is_refused(house: Served, argv: Any) -> None:
    terminal = house.client().notebook_terminal("nb", argv, tty=True)
    with pytest.raises(UsageError, match=r"not the command|too long"):
        Heard(terminal).next()
    terminal.close()
    assert house.engine.begun == []


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b"{", b'{"resize": [1]}', b'{"resize": [70000, 1]}', b'{"resize": ["1", 1]}', b'{"more": 1}'],
)
def test_what_no_terminal_knows_ends_it(house: Served, message: bytes) -> None:
    terminal = house.client().notebook_terminal("nb", [], tty=True)
    heard = Heard(terminal)
    heard.words()
    terminal._protocol.send_text(message)
    with pytest.raises(UsageError):
        heard.next()
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S)


def test_behind_the_front_door_it_needs_the_token(house: Served) -> None:
    def client(token: str) -> Client:
        made = Client(socket=house.settings.front_socket)
        made._token = token
        return made

    for wrong in ("", "t0k3"):
        with pytest.raises(Forbidden, match="no valid token"):
            client(wrong).notebook_terminal("nb", [], tty=True)
    terminal = client(TOKEN).notebook_terminal("nb", [], tty=True)
    assert Heard(terminal).words()["container"] == CONTAINER
    terminal.close()
    assert len(house.engine.begun) == 1


def test_a_daemon_that_stops_says_so(house: Served) -> None:
    terminal = house.client().notebook_terminal("nb", [], tty=True)
    heard = Heard(terminal)
    heard.words()
    house.stop()
    with pytest.raises(Unavailable, match="the daemon stops"):
        heard.next()
    terminal.close()
    assert house.engine.left.acquire(timeout=DEADLINE_S)


def test_a_client_that_reads_nothing_makes_the_command_wait_and_lets_the_daemon_stop(house: Served) -> None:
    terminal = house.client().notebook_terminal("nb", [], tty=True)
    terminal.write(b"flood")
    (talking,) = _begun(house)
    deadline, before = time.monotonic() + DEADLINE_S, -1
    while before != talking.written:
        assert time.monotonic() < deadline
        before = talking.written
        time.sleep(0.5)
    assert 0 < talking.written < 4 << 20
    house.stop()
    assert house.engine.left.acquire(timeout=DEADLINE_S)
    terminal.close()


def _begun(house: Served) -> list[Any]:
    deadline = time.monotonic() + DEADLINE_S
    while not (house.engine.begun and house.engine.begun[0].written):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return house.engine.begun
