from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from appliance.errors import UsageError
from appliance.router.table import Access, Hold, Limits, Route, Table, Target, check_prefix, check_route
from tests.unit.router import strategies


def route(name: str, *targets: Target, strip: bool = False) -> Route:
    return Route(f"/notebooks/{name}", targets, strip)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "/notebooks",
        "/notebooks/",
        "/notebooks/a/",
        "/notebooks/a/b",
        "notebooks/a",
        "//notebooks/a",
        "/notebooks/..",
        "/notebooks/.a",
        "/notebooks/a b",
        "/notebooks/a\n",
        "/notebooks/a\nserver x 1.2.3.4:80",
        "/notebooks/a;quit",
        "/notebooks/%61",
        "/notebooks/ä",
        "/v1/a",
        "/Notebooks/a",
        "/notebooks/" + "a" * 64,
    ],
)
def test_a_prefix_that_is_no_path_of_the_door_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError):
        check_prefix(prefix)


@pytest.mark.parametrize("name", ["a", "A.b_c-d", "0", "a" * 63])
def test_a_good_prefix_is_kept(name: str) -> None:
    assert check_prefix(f"/deployments/{name}") == f"/deployments/{name}"


@pytest.mark.parametrize("identity", ["", "a b", "a\n", "a;b", "-a", "a/b", "ä", "a" * 64])
def test_a_server_id_that_could_be_a_command_is_refused(identity: str) -> None:
    with pytest.raises(UsageError, match="cannot name a server"):
        check_route(route("a", Target(identity, 80)))


@pytest.mark.parametrize("port", [0, -1, 65536, True, "80", 80.0])
def test_a_port_is_a_number_in_range(port: int) -> None:
    with pytest.raises(UsageError, match="not a TCP port"):
        check_route(route("a", Target("x", port)))


def test_two_targets_with_one_id_are_refused() -> None:
    with pytest.raises(UsageError, match="same id"):
        check_route(route("a", Target("x", 80), Target("x", 81)))


def test_a_route_without_targets_has_no_slot_and_gives_its_slot_back() -> None:
    table = Table().put(route("a", Target("x", 1)))
    assert table.slots == {"/notebooks/a": 0}
    assert table.put(route("a")).slots == {}
    assert "/notebooks/a" in table.put(route("a")).routes


def test_a_route_that_holds_keeps_its_slot_without_targets() -> None:
    held = replace(route("a"), hold=Hold(60, 10))
    table = Table().put(route("a", Target("x", 1))).put(held)
    assert table.slots == {"/notebooks/a": 0}
    assert table.served() == [(0, held)]
    assert table.put(route("a")).slots == {}


@pytest.mark.parametrize(
    "change",
    [
        {"hold": Hold(0, 1)},
        {"hold": Hold(-1, 1)},
        {"hold": Hold(float("inf"), 1)},
        {"hold": Hold(float("nan"), 1)},
        {"hold": Hold(60, 0)},
        {"hold": Hold(60, 1.5)},  # type: ignore[arg-type]
        {"access": Access("basic", frozenset({"a" * 64}))},
        {"access": Access("key", frozenset({"A" * 63}))},
        {"access": Access("key", frozenset({"A" * 64 + "\n"}))},
        {"access": Access("open", frozenset())},  # type: ignore[arg-type]
        {"limits": Limits(requests=-1)},
        {"limits": Limits(requests=5, window_s=0)},
        {"limits": Limits(body=-1)},
        {"limits": Limits(timeout_s=0)},
        {"limits": Limits(timeout_s=True)},
        {"targets": (Target("x", 1, "host"),)},
        {"targets": (Target("x", 1, "::1"),)},
        {"targets": (Target("x", 1, "1.2.3.4 check"),)},
    ],
)
def test_what_haproxy_could_not_take_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        check_route(replace(route("a"), **change))  # type: ignore[arg-type]


def test_a_route_keeps_its_slot_when_its_targets_change() -> None:
    table = Table().put(route("a", Target("x", 1))).put(route("b", Target("y", 2)))
    assert table.put(route("b", Target("z", 3))).slots["/notebooks/b"] == 1


def test_a_slot_that_still_has_servers_is_not_given_out() -> None:
    assert Table().put(route("a", Target("x", 1)), occupied={0, 1}).slots == {"/notebooks/a": 2}


def test_a_slot_that_has_just_become_free_is_given_out_last() -> None:
    table = Table(capacity=3)
    given = []
    for name in "abcde":
        table = table.put(route(name, Target("x", 1)))
        given.append(table.slots[f"/notebooks/{name}"])
        table = table.drop(f"/notebooks/{name}")
    assert given == [0, 1, 2, 0, 1]
    assert table.capacity == 3


def test_the_slots_double_when_they_run_out() -> None:
    table = Table(capacity=2)
    for name in "abc":
        table = table.put(route(name, Target("x", 1)))
    assert table.capacity == 4
    assert sorted(table.slots.values()) == [0, 1, 2]


def test_retire_takes_one_target_out() -> None:
    table = Table().put(route("a", Target("x", 1), Target("y", 2)))
    assert table.find("/notebooks/a", "x") == Target("x", 1)
    table = table.retire("/notebooks/a", "x")
    assert table.find("/notebooks/a", "x") is None
    assert table.find("/notebooks/b", "x") is None
    assert table.routes["/notebooks/a"].targets == (Target("y", 2),)


@given(strategies.tables)
def test_slots_belong_to_exactly_the_routes_that_need_one(table: Table) -> None:
    assert set(table.slots) == {prefix for prefix, found in table.routes.items() if found.needs_slot}
    numbers = list(table.slots.values())
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < table.capacity for number in numbers)


@given(strategies.routes)
def test_valid_routes_pass(found: Route) -> None:
    assert check_route(found) == found
