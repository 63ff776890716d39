"""What a running HAProxy must be told so that it serves the table. Pure; run it again and it has nothing to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from appliance.router.maps import BASIC, HOLD, KEY, KEYS_MAP, MAPS, ROUTES_MAP, Maps, flags_of, maps, slot_name, slot_of
from appliance.router.render import server_line
from appliance.router.table import Table


@dataclass(frozen=True, slots=True)
class Server:
    """A server as HAProxy reports it."""

    slot: int
    id: str
    address: str
    port: int
    state: str
    """ready, unchecked (ready, but nobody looks whether it lives), down (the look's verdict), drain or maint."""
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
    entries: Maps = field(default_factory=dict)
    """The maps in memory."""


def plan(table: Table, observed: Observed) -> list[str]:
    """Commands in an order that leaves no gap: servers before the path that leads to them, old servers last.

    Whoever may ask is known before a route asks for it, and forgotten after. A route that asks from now on does so
    before it has the servers of a revision that relies on it.
    """
    wanted = maps(table)
    there = {name: observed.entries.get(name, {}) for name in MAPS}
    return [
        *_added(KEYS_MAP, wanted, there),
        *_closed(wanted[ROUTES_MAP], there[ROUTES_MAP]),
        *_arrivals(table, observed),
        *_gone(ROUTES_MAP, wanted, there),
        *_added(ROUTES_MAP, wanted, there),
        *_gone(KEYS_MAP, wanted, there),
        *_departures(table, observed),
    ]


def leaving(table: Table, observed: Observed) -> list[Server]:
    """Servers that no route wants any more."""
    wanted = _wanted(table)
    return [server for server in observed.servers if server.name not in wanted]


def led_to(observed: Observed) -> set[int]:
    """Slots that paths lead to."""
    values = observed.entries.get(ROUTES_MAP, {}).values()
    return {slot for value in values if (slot := slot_of(value)) is not None}


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
            elif (server.address, server.port) != (target.address, target.port):
                commands.append(f"set server {name} addr {target.address} port {target.port}")
            if server is None or server.state in ("maint", "unchecked"):
                commands.append(f"enable health {name}")  # one that is added is not looked at until told
            if server is None or server.state in ("maint", "drain"):
                commands.append(f"set server {name} state ready")
    return commands


def _added(name: str, wanted: Maps, there: Maps) -> list[str]:
    commands = []
    for key, value in wanted[name].items():
        if key not in there[name]:
            commands.append(f"add map {name} {key} {value}")
        elif there[name][key] != value:
            commands.append(f"set map {name} {key} {value}")
    return commands


def _closed(wanted: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Entries of routes that stay in their slot and ask who comes; one that no longer holds waits for its servers."""
    return [
        f"set map {ROUTES_MAP} {key} {value}"
        for key, value in wanted.items()
        if value != there.get(key, value)
        and slot_of(value) == slot_of(there[key])
        and flags_of(value) & {BASIC, KEY}
        and (HOLD not in flags_of(there[key]) or HOLD in flags_of(value))
    ]


def _gone(name: str, wanted: Maps, there: Maps) -> list[str]:
    return [f"del map {name} {key}" for key in there[name] if key not in wanted[name]]


def _departures(table: Table, observed: Observed) -> list[str]:
    # A server in maintenance is either being added or being deleted: it takes no requests as it is. One that is down
    # says nothing of whether it drains, so it goes there at once; what it still has goes on.
    ways = {"ready": "drain", "unchecked": "drain", "down": "maint"}
    return [
        f"set server {server.name} state {ways[server.state]}"
        for server in leaving(table, observed)
        if server.state in ways
    ]


def _wanted(table: Table) -> set[str]:
    return {f"{slot_name(slot)}/{target.id}" for slot, route in table.served() for target in route.targets}
