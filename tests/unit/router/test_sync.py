"""A model of HAProxy takes the commands; the plan must lead to the table and never through a gap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from appliance.router.maps import HOLD, KEYS_MAP, MAPS, ROUTES_MAP, maps
from appliance.router.sync import Observed, Server, leaving, led_to, plan, removal
from appliance.router.table import Access, Route, Table, Target
from tests.unit.router import strategies

ENTRIES = {ROUTES_MAP: {"notebooks/a": "slot-0/p/0/0/1/0/0"}}


@dataclass
class Model:
    servers: dict[str, Server] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in MAPS})
    checked: set[str] = field(default_factory=set)

    def observed(self) -> Observed:
        return Observed(tuple(self.servers.values()), {name: dict(entries) for name, entries in self.maps.items()})

    def take(self, command: str) -> None:
        match command.split():
            case ["add", "server", name, place, *_]:
                assert name not in self.servers
                slot, _, identity = name.partition("/")
                address, _, port = place.rpartition(":")
                self.servers[name] = Server(
                    int(slot.removeprefix("slot-")), identity, address, int(port), "maint", 0, 0
                )
                self.checked.discard(name)
            case ["enable", "health", name]:
                assert name in self.servers
                self.checked.add(name)
            case ["set", "server", name, "state", state]:
                self.servers[name] = replace(self.servers[name], state=state)
            case ["set", "server", name, "addr", address, "port", port]:
                self.servers[name] = replace(self.servers[name], address=address, port=int(port))
            case ["del", "server", name]:
                server = self.servers.pop(name)
                assert server.state == "maint"
                assert server.idle
            case ["add", "map", name, key, value]:
                assert key not in self.maps[name]
                self.maps[name][key] = value
            case ["set", "map", name, key, value]:
                assert key in self.maps[name]
                self.maps[name][key] = value
            case ["del", "map", name, key]:
                del self.maps[name][key]
            case _:
                raise AssertionError(command)

    def ready(self, slot: str) -> list[Server]:
        return [
            server for server in self.servers.values() if server.name.startswith(f"{slot}/") and server.state == "ready"
        ]


def serve(model: Model, table: Table) -> None:
    before, led = set(model.maps[KEYS_MAP]), dict(model.maps[ROUTES_MAP])
    for command in plan(table, model.observed()):
        model.take(command)
        for key, value in model.maps[ROUTES_MAP].items():
            slot, flags, *_ = value.split("/")
            assert model.ready(slot) or HOLD in flags, f"a path leads nowhere after {command!r}"
            wanted = maps(table)
            if value == wanted[ROUTES_MAP].get(key) != led.get(key):  # else it is as it was while sums are added
                sums = {one for one in wanted[KEYS_MAP] if one.startswith(f"{key}/")}
                assert sums <= set(model.maps[KEYS_MAP]), f"somebody who may ask is refused after {command!r}"
    assert before - set(model.maps[KEYS_MAP]) == before - set(maps(table)[KEYS_MAP])


@given(strategies.tables, strategies.changes, st.randoms(use_true_random=False))
def test_the_plan_leads_to_the_table_without_a_gap(first: Table, changes: list[Route | str], chance: Random) -> None:
    model = Model()
    serve(model, first)
    for name, server in model.servers.items():
        assert name in model.checked
        model.servers[name] = replace(server, state=chance.choice(["ready", "ready", "down", "unchecked"]))
    down = {name for name, server in model.servers.items() if server.state != "ready"}
    second = strategies.apply(changes, replace(first, capacity=max(256, first.capacity)))
    if down:
        for command in plan(second, model.observed()):
            model.take(command)
    else:
        serve(model, second)
    model.servers = {
        name: replace(server, state="ready") if server.state == "unchecked" and name in model.checked else server
        for name, server in model.servers.items()
    }
    assert plan(second, model.observed()) == []
    assert model.maps == maps(second)
    wanted = {f"slot-{slot}/{target.id}": target for slot, route in second.served() for target in route.targets}
    serving = {name: server for name, server in model.servers.items() if server.state in ("ready", "down")}
    assert serving.keys() == wanted.keys()
    assert all(
        (server.address, server.port) == (wanted[name].address, wanted[name].port) for name, server in serving.items()
    )
    for server in leaving(second, model.observed()):
        for command in removal(server):
            model.take(command)
    assert set(model.servers) == set(wanted)


def test_slots_that_a_path_leads_to_are_in_use() -> None:
    """As where HAProxy did not hear that the route is gone: it must not lead to the next one's servers."""
    entries = {"notebooks/a": "slot-3/-/0/0/1/0/0", "notebooks/old": "slot-5", "notebooks/odd": "elsewhere/-"}
    assert led_to(Observed((), {ROUTES_MAP: entries})) == {3, 5}
    assert led_to(Observed()) == set()


def test_a_route_is_closed_before_it_has_servers_that_rely_on_it() -> None:
    access = Access("key", frozenset({"A" * 64}))
    table = Table().put(Route("/notebooks/a", (Target("y", 5),), strip=False, access=access))
    observed = Observed((Server(0, "x", "127.0.0.1", 4, "ready", 1, 0),), ENTRIES)
    commands = [" ".join(command.split()[:4]) for command in plan(table, observed)]
    first = [
        "add map keys.map notebooks/a/" + "A" * 64,
        "set map routes.map notebooks/a",
        "add server slot-0/y 127.0.0.1:5",
    ]
    assert commands[:3] == first


def test_a_restarted_container_is_followed_to_its_new_port() -> None:
    table = Table().put(Route("/notebooks/a", (Target("x", 5),), strip=False))
    observed = Observed((Server(0, "x", "127.0.0.1", 4, "ready", 1, 0),), ENTRIES)
    assert plan(table, observed) == ["set server slot-0/x addr 127.0.0.1 port 5"]


def test_a_server_that_returns_while_it_drains_is_used_again() -> None:
    table = Table().put(Route("/notebooks/a", (Target("x", 4),), strip=False))
    observed = Observed((Server(0, "x", "127.0.0.1", 4, "drain", 1, 0),), ENTRIES)
    assert plan(table, observed) == ["set server slot-0/x state ready"]


def test_a_server_that_is_down_stays_so_while_it_is_wanted_and_goes_when_it_is_not() -> None:
    """Whether it is down is the verdict of HAProxy's own looks."""
    table = Table().put(Route("/notebooks/a", (Target("x", 4),), strip=False))
    observed = Observed((Server(0, "x", "127.0.0.1", 4, "down", 0, 0),), ENTRIES)
    assert plan(table, observed) == []
    assert plan(Table(), observed) == ["del map routes.map notebooks/a", "set server slot-0/x state maint"]
