"""What a running HAProxy must be told so that it serves the table. Pure; run it again and it has nothing to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.router.render import ROUTES_MAP, entry_key, entry_value, server_line, slot_name
from appliance.router.table import Table


@dataclass(frozen=True, slots=True)
class Server:
    """A server as HAProxy reports it."""

    slot: int
    id: str
    port: int
    state: str
    """ready, drain or maint."""
    sessions: int
    """Requests and websockets in flight."""
    queued: int

    @property
    def name(self) -> str:
        return f"{slot_name(self.slot)}/{self.id}"

    @property
    def idle(self) -> bool:
        return self.sessions == 0 and self.queued == 0


@dataclass(frozen=True, slots=True)
class Observed:
    servers: Sequence[Server] = ()
    entries: Mapping[str, str] = field(default_factory=dict)
    """The map in memory: path to slot."""


def plan(table: Table, observed: Observed) -> list[str]:
    """Commands in an order that leaves no gap: servers before the path that leads to them, old servers last."""
    return [*_arrivals(table, observed), *_entries(table, observed), *_departures(table, observed)]


def leaving(table: Table, observed: Observed) -> list[Server]:
    """Servers that no route wants any more."""
    wanted = _wanted(table)
    return [server for server in observed.servers if server.name not in wanted]


def removal(server: Server) -> list[str]:
    """HAProxy deletes only a server in maintenance that nothing uses."""
    return [f"set server {server.name} state maint", f"del server {server.name}"]


def _arrivals(table: Table, observed: Observed) -> list[str]:
    there = {server.name: server for server in observed.servers}
    commands = []
    for slot, route in table.served():
        for target in route.targets:
            name = f"{slot_name(slot)}/{target.id}"
            server = there.get(name)
            if server is None:
                commands.append(f"add server {name} {server_line(target)}")
            elif server.port != target.port:
                commands.append(f"set server {name} addr 127.0.0.1 port {target.port}")
            if server is None or server.state != "ready":
                commands.append(f"set server {name} state ready")
    return commands


def _entries(table: Table, observed: Observed) -> list[str]:
    wanted = {entry_key(route): entry_value(slot, route) for slot, route in table.served()}
    commands = [f"del map {ROUTES_MAP} {key}" for key in observed.entries if key not in wanted]
    for key, value in wanted.items():
        if key not in observed.entries:
            commands.append(f"add map {ROUTES_MAP} {key} {value}")
        elif observed.entries[key] != value:
            commands.append(f"set map {ROUTES_MAP} {key} {value}")
    return commands


def _departures(table: Table, observed: Observed) -> list[str]:
    # A server still in maintenance is either being added or being deleted: it takes no requests as it is.
    return [f"set server {server.name} state drain" for server in leaving(table, observed) if server.state == "ready"]


def _wanted(table: Table) -> set[str]:
    return {f"{slot_name(slot)}/{target.id}" for slot, route in table.served() for target in route.targets}
