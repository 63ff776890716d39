from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RouterError, UsageError
from appliance.router.maps import KEYS_MAP, MAPS, ROUTES_MAP
from appliance.router.pages import PAGES_MAP
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
    assert files.beside[ROUTES_MAP] == "deployments/x slot-0/srp/0/0/1/0/0\n"
    assert files.beside[KEYS_MAP] == ""
    tail = files.config[files.config.index("backend slot-0") :].splitlines()
    assert [line.split(" pool")[0].strip() for line in tail] == [
        "backend slot-0 from slots",
        "server r1 127.0.0.1:4001",
        "server r2 127.0.0.1:4002",
        "backend slot-1 from slots",
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


def test_only_what_changes_nothing_is_sent_again_and_to_an_only_server_unless_it_is_busy() -> None:
    config = render(Table(), DOOR).config
    assert "  retry-on conn-failure empty-response" in config
    slots = section(config, "defaults slots")
    busy = "{ be_sess_rate gt 1000 } !{ var(txn.flags) -m sub r }"
    assert f"  http-request disable-l7-retry if {busy} or !{{ method GET HEAD OPTIONS }}" in slots
    assert "  http-request disable-l7-retry unless { method GET HEAD OPTIONS }" in section(config, "backend daemon")


def section(config: str, name: str) -> list[str]:
    _, _, rest = config.partition(f"\n{name} from ")
    lines = rest.splitlines()[1:]
    return list(itertools.takewhile(lambda line: line.startswith("  "), lines))


def test_an_ordinary_request_passes_few_rules() -> None:
    """Each costs it some hundred instructions. Whoever adds one here measures it: tests/bench/bench_router.py."""
    config = render(Table(), DOOR).config
    leaves = "  http-request allow if { var(txn.flags) -m sub p } { nbsrv gt 0 }"
    before = list(itertools.takewhile(lambda line: line != leaves, section(config, "defaults slots")))
    asked = [line for line in section(config, "frontend door") + before if line.startswith("  http-request ")]
    assert leaves not in before
    assert len(asked) <= 20
    assert len(re.findall(r" -m sub ", "\n".join(asked))) <= 3


def test_a_websocket_may_be_silent_for_a_day() -> None:
    """A notebook that computes says nothing for hours; only what is no websocket is timed by `server` and `client`."""
    config = render(Table(), DOOR).config
    lines = [line for line in config.splitlines() if line.strip().startswith("timeout tunnel")]
    assert lines == ["  timeout tunnel 24h"]
    assert "  hard-stop-after 24h\n" in config
    assert "tunnel" not in "".join(section(config, "defaults slots"))


def test_a_haproxy_without_lua_is_asked_for_none() -> None:
    assert "lua" in render(Table(), DOOR).config
    assert "lua" not in render(Table(), replace(DOOR, holds=False)).config


def pages() -> dict[str, str]:
    found = dict(line.split(" ", 1) for line in render(Table(), DOOR).beside[PAGES_MAP].splitlines())
    return {key: text + found.get(f"{key}-rest", "") for key, text in found.items() if not key.endswith("-rest")}


def test_every_page_is_a_line_and_every_problem_is_json() -> None:
    problems = {key: json.loads(text) for key, text in pages().items() if key.endswith("-")}
    assert len(pages()) == 2 * len(problems) == 28
    assert all(problem["status"] == int(key[:3]) and problem["hint"] for key, problem in problems.items())
    assert problems["503-daemon-"]["code"] == "daemon_down"
    assert 'http-equiv="refresh"' in pages()["502-server-html"]
    assert 'http-equiv="refresh"' not in pages()["401-key-html"]


def test_a_problem_has_the_type_that_the_daemon_gives_it() -> None:
    for key, text in pages().items():
        if key.endswith("-"):
            problem = json.loads(text)
            assert problem["type"] == f"urn:appliance:{problem['code']}"
            assert {"type", "title", "status", "detail", "code", "hint"} <= set(problem)


def test_a_page_says_what_to_do() -> None:
    assert "Authorization: Bearer" in json.loads(pages()["401-key-"])["hint"]
    assert "paperspace" in json.loads(pages()["401-basic-"])["hint"]
    config = render(Table(), DOOR).config
    assert re.search(r"return status 413 .*%\[var\(txn.most\)\] bytes", config)
    for window in (1, 10, 60, 3600):
        assert re.search(rf"return status 429 .*%\[var\(txn.rate\)\] in {window} s", config)


def test_every_page_that_a_rule_names_is_there() -> None:
    files = render(Table(), DOOR)
    there = {line.split(" ", 1)[0] for line in files.beside[PAGES_MAP].splitlines()}
    named = re.findall(r"(?:return|http-error) status (\d+) (.*)", files.config)
    assert len(named) > 12
    for status, rule in named:
        keys = re.findall(r"str\((\d+-\w+-)\),concat\(,txn.format,(-rest)?\)", rule)
        assert keys
        for key, rest in keys:
            assert key.startswith(status)
            assert {f"{key}{rest}", f"{key}html{rest}"} <= there


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
    assert len(files.beside[ROUTES_MAP].splitlines()) == len(table.slots)
    assert all(len(line.split(" ")) == 2 for name in MAPS for line in files.beside[name].splitlines())


@given(st.text(), st.text(), st.integers())
def test_foreign_text_is_refused_or_harmless(name: str, identity: str, port: int) -> None:
    empty = render(Table(), DOOR).config.count("\n")
    try:
        route = check_route(Route(f"/notebooks/{name}", (Target(identity, port),), strip=False))
    except UsageError:
        return
    files = render(Table().put(route), DOOR)
    assert files.config.count("\n") == empty + 1
    assert files.beside[ROUTES_MAP] == f"notebooks/{name} slot-0/p/0/0/1/0/0\n"


@pytest.mark.parametrize(
    "change",
    [
        {"binds": (Bind("127.0.0.1", 7071),)},
        {"api_socket": Path("/other.sock")},
        {"threads": 3},
        {"connections": 100},
        {"user": "haproxy", "group": "haproxy"},
        {"holds": False},
    ],
)
def test_the_digest_tells_another_door(change: dict[str, object]) -> None:
    other = replace(DOOR, **change)  # type: ignore[arg-type]
    assert render(Table(), other).digest != render(Table(), DOOR).digest
    assert render(Table(capacity=512), DOOR).digest != render(Table(), DOOR).digest
