from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from appliance.errors import RouterError, UsageError
from appliance.router import listen, ports
from appliance.router.ports import Holder, Place
from appliance.router.render import Bind
from tests.support.ports import free_port


@pytest.fixture
def listener() -> Iterator[Bind]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Bind("127.0.0.1", server.getsockname()[1])


@pytest.mark.parametrize(
    ("text", "bind"),
    [("172.18.0.1:7070", Bind("172.18.0.1", 7070)), ("[fd00::1]:80", Bind("fd00::1", 80))],
)
def test_a_bind_is_address_and_port(text: str, bind: Bind) -> None:
    assert ports.parse_bind(text) == bind
    assert ports.parse_bind(str(bind)) == bind


@pytest.mark.parametrize(
    "text", ["", "7070", "1.2.3.4", "1.2.3:80", "host:80", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:80 x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ports.parse_bind(text)


def test_a_name_becomes_an_ipv4_address_where_it_has_one() -> None:
    assert ports.resolve("localhost", 80) == Bind("127.0.0.1", 80)
    with pytest.raises(RouterError, match="not an address"):
        ports.resolve("not a host", 80)


def test_a_listener_is_found_and_named(listener: Bind) -> None:
    assert ports.probe(listener) is Place.TAKEN
    holder = ports.holder(listener)
    assert holder is not None
    assert holder.pid == os.getpid()
    assert str(holder.pid) in str(holder)
    assert ports.listens(os.getpid())


def test_a_free_port_and_a_foreign_address(listener: Bind) -> None:
    free = Bind("127.0.0.1", free_port())
    assert ports.probe(free) is Place.FREE
    assert ports.holder(free) is None
    assert ports.probe(Bind("192.0.2.1", listener.port)) is Place.ABSENT


def test_a_connection_that_has_ended_does_not_hold_the_port() -> None:
    address = ("127.0.0.1", free_port())
    with socket.create_server(address) as server:
        client = socket.create_connection(address)
        accepted, _ = server.accept()
        accepted.close()  # first, so that TIME_WAIT is on this side
        client.close()
    assert ports.probe(Bind("127.0.0.1", address[1])) is Place.FREE


def test_connections_to_a_port_are_counted(listener: Bind) -> None:
    assert ports.connections(os.getpid(), listener.port) == 0
    with socket.create_connection((listener.address, listener.port)):
        assert ports.connections(os.getpid(), listener.port) == 1
    assert ports.connections(2**22 + 1, listener.port) == 0


def test_a_wide_address_covers_a_narrow_one() -> None:
    assert ports.covers(Bind("0.0.0.0", 80), Bind("172.18.0.1", 80))
    assert not ports.covers(Bind("0.0.0.0", 80), Bind("172.18.0.1", 81))
    assert not ports.covers(Bind("127.0.0.1", 80), Bind("172.18.0.1", 80))


MAIN, EXTRA = Bind("127.0.0.1", 7070), Bind("172.18.0.1", 7070)


def places(monkeypatch: pytest.MonkeyPatch, table: dict[Bind, Place], holder: Holder | None = None) -> None:
    monkeypatch.setattr(ports, "probe", lambda bind: table.get(bind, Place.FREE))
    monkeypatch.setattr(ports, "holder", lambda bind: holder)


def test_a_missing_extra_address_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, {EXTRA: Place.ABSENT})
    found = listen.choose(MAIN, [EXTRA, EXTRA], lambda pid: False)
    assert tuple(found.binds) == (MAIN,)
    assert found.missing == {EXTRA: Place.ABSENT}


def test_the_users_port_in_use_names_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, {MAIN: Place.TAKEN}, Holder(12, "nginx"))
    with pytest.raises(RouterError, match=r"port 7070 is in use by nginx \(pid 12\)") as caught:
        listen.choose(MAIN, [], lambda pid: False)
    assert "APPLIANCE_PORT" in caught.value.hint


def test_what_our_own_haproxy_holds_is_free_to_us(monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, {MAIN: Place.TAKEN, EXTRA: Place.TAKEN}, Holder(12, "haproxy"))
    assert tuple(listen.choose(MAIN, [EXTRA], lambda pid: pid == 12).binds) == (MAIN, EXTRA)


def test_an_address_of_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, {MAIN: Place.ABSENT})
    with pytest.raises(RouterError, match="no such address") as caught:
        listen.choose(MAIN, [], lambda pid: False)
    assert "APPLIANCE_HOST" in caught.value.hint


def test_an_extra_address_under_a_wide_one_is_not_bound_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    places(monkeypatch, {})
    wide = Bind("0.0.0.0", 7070)
    assert tuple(listen.choose(wide, [EXTRA], lambda pid: False).binds) == (wide,)
