from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RouterError, UsageError
from appliance.router.render import Bind, Door, render
from appliance.router.table import Route, Table, Target, check_route
from tests.unit.router import strategies

DOOR = Door(
    binds=(Bind("127.0.0.1", 7070), Bind("172.18.0.1", 7070)),
    api_socket=Path("/home/run/front.sock"),
    admin_socket=Path("/home/router/admin.sock"),
)


def test_the_files_of_one_route() -> None:
    table = Table(capacity=2).put(Route("/deployments/x", (Target("r1", 4001), Target("r2", 4002)), strip=True))
    files = render(table, DOOR)
    assert files.routes == "deployments/x slot-0/strip\n"
    tail = files.config[files.config.index("backend slot-0") :].splitlines()
    assert [line.split(" pool")[0].strip() for line in tail] == [
        "backend slot-0",
        "server r1 127.0.0.1:4001",
        "server r2 127.0.0.1:4002",
        "backend slot-1",
    ]


def test_the_containers_side_may_not_take_every_connection() -> None:
    lines = render(Table(), DOOR).config.splitlines()
    assert "  bind 127.0.0.1:7070" in lines
    assert "  bind 172.18.0.1:7070 maxconn 2048" in lines


def test_the_account_is_named_only_where_there_is_one() -> None:
    assert "\n  user " not in render(Table(), DOOR).config
    config = render(Table(), replace(DOOR, user="haproxy", group="haproxy")).config
    assert "\n  user haproxy\n  group haproxy\n" in config


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert "  bind [::1]:7070\n" in render(Table(), replace(DOOR, binds=(Bind("::1", 7070),))).config


def test_a_request_that_was_sent_is_never_repeated() -> None:
    assert "  retry-on conn-failure\n" in render(Table(), DOOR).config


def test_every_page_is_one_line_and_every_problem_is_json() -> None:
    pages = dict(line.split(" ", 1) for line in render(Table(), DOOR).pages.splitlines())
    assert len(pages) == 12
    problem = json.loads(pages["503-daemon-json"])
    assert (problem["status"], problem["code"]) == (503, "daemon_down")
    assert json.loads(pages["502-server-json"])["status"] == 502
    assert 'http-equiv="refresh"' in pages["503-daemon-html"]


@pytest.mark.parametrize(
    "path",
    ["/a'b/s", "/a$HOME/s", "/a,b/s", "/a@b/s", '/a"b/s', "/a\nb/s", "/a\\b/s", "/a#b/s", "/a%b/s", "relative/s"],
)
def test_a_path_with_a_meaning_in_the_configuration_is_refused(path: str) -> None:
    with pytest.raises(RouterError, match="such a path"):
        render(Table(), replace(DOOR, api_socket=Path(path)))


def test_a_socket_path_beyond_the_kernels_limit_is_refused() -> None:
    with pytest.raises(RouterError, match="longer than"):
        render(Table(), replace(DOOR, admin_socket=Path("/" + "a" * 120)))


@given(strategies.tables)
def test_routes_change_servers_and_nothing_else(table: Table) -> None:
    empty = render(Table(capacity=table.capacity), DOOR)
    files = render(table, DOOR)
    assert files.digest == empty.digest
    servers = [line for line in files.config.splitlines() if line.startswith("  server ") and "daemon" not in line]
    expected = sum(len(route.targets) for _, route in table.served())
    rest = [line for line in files.config.splitlines() if line not in set(servers)]
    assert rest == empty.config.splitlines()
    assert len(servers) == expected
    assert len(files.routes.splitlines()) == len(table.slots)


@given(st.text(), st.text(), st.integers())
def test_foreign_text_is_refused_or_harmless(name: str, identity: str, port: int) -> None:
    empty = render(Table(), DOOR).config.count("\n")
    try:
        route = check_route(Route(f"/notebooks/{name}", (Target(identity, port),), strip=False))
    except UsageError:
        return
    files = render(Table().put(route), DOOR)
    assert files.config.count("\n") == empty + 1
    assert files.routes == f"notebooks/{name} slot-0\n"


@pytest.mark.parametrize(
    "change",
    [
        {"binds": (Bind("127.0.0.1", 7071),)},
        {"api_socket": Path("/other.sock")},
        {"threads": 3},
        {"connections": 100},
        {"user": "haproxy", "group": "haproxy"},
    ],
)
def test_the_digest_tells_another_door(change: dict[str, object]) -> None:
    other = replace(DOOR, **change)  # type: ignore[arg-type]
    assert render(Table(), other).digest != render(Table(), DOOR).digest
    assert render(Table(capacity=128), DOOR).digest != render(Table(), DOOR).digest
