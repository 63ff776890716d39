"""A model of HAProxy takes the commands; the plan must lead to the table and never through a gap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given

from appliance.router.sync import Observed, Server, leaving, plan, removal
from appliance.router.table import Route, Table, Target
from tests.unit.router import strategies


@dataclass
class Model:
    servers: dict[str, Server] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)

    def observed(self) -> Observed:
        return Observed(tuple(self.servers.values()), dict(self.entries))

    def take(self, command: str) -> None:
        match command.split():
            case ["add", "server", name, address, *_]:
                assert name not in self.servers
                slot, _, identity = name.partition("/")
                number, port = int(slot.removeprefix("slot-")), int(address.rpartition(":")[2])
                self.servers[name] = Server(number, identity, port, "maint", 0, 0)
            case ["set", "server", name, "state", state]:
                self.servers[name] = replace(self.servers[name], state=state)
            case ["set", "server", name, "addr", "127.0.0.1", "port", port]:
                self.servers[name] = replace(self.servers[name], port=int(port))
            case ["del", "server", name]:
                server = self.servers.pop(name)
                assert server.state == "maint"
                assert server.idle
            case ["add", "map", "routes.map", key, value]:
                assert key not in self.entries
                self.entries[key] = value
            case ["set", "map", "routes.map", key, value]:
                assert key in self.entries
                self.entries[key] = value
            case ["del", "map", "routes.map", key]:
                del self.entries[key]
            case _:
                raise AssertionError(command)

    def ready(self, slot: str) -> list[Server]:
        return [
            server for server in self.servers.values() if server.name.startswith(f"{slot}/") and server.state == "ready"
        ]


def serve(model: Model, table: Table) -> None:
    for command in plan(table, model.observed()):
        model.take(command)
        for value in model.entries.values():
            assert model.ready(value.partition("/")[0]), f"a path leads nowhere after {command!r}"


@given(strategies.tables, strategies.changes)
def test_the_plan_leads_to_the_table_without_a_gap(first: Table, changes: list[Route | str]) -> None:
    model = Model()
    serve(model, first)
    second = strategies.apply(changes, replace(first, capacity=max(64, first.capacity)))
    serve(model, second)
    assert plan(second, model.observed()) == []
    wanted = {f"slot-{slot}/{target.id}": target.port for slot, route in second.served() for target in route.targets}
    ready = {name: server.port for name, server in model.servers.items() if server.state == "ready"}
    assert ready == wanted
    for server in leaving(second, model.observed()):
        for command in removal(server):
            model.take(command)
    assert set(model.servers) == set(wanted)


def test_a_restarted_container_is_followed_to_its_new_port() -> None:
    table = Table().put(Route("/notebooks/a", (Target("x", 5),), strip=False))
    observed = Observed((Server(0, "x", 4, "ready", 1, 0),), {"notebooks/a": "slot-0"})
    assert plan(table, observed) == ["set server slot-0/x addr 127.0.0.1 port 5"]


def test_a_server_that_returns_while_it_drains_is_used_again() -> None:
    table = Table().put(Route("/notebooks/a", (Target("x", 4),), strip=False))
    observed = Observed((Server(0, "x", 4, "drain", 1, 0),), {"notebooks/a": "slot-0"})
    assert plan(table, observed) == ["set server slot-0/x state ready"]
