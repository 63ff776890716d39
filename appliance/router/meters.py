"""What each route does now, from HAProxy's own counters."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from appliance.router.table import Target

_SLOT = re.compile(r"slot-(\d+)")
_ERRORS = ("econ", "eresp", "hrsp_5xx")


@dataclass(frozen=True, slots=True)
class ServerMeter:
    """One target. The counts begin anew when HAProxy is replaced or the target leaves: a smaller one is no loss."""

    in_flight: int
    """Requests and websockets."""
    requests: int
    """Since HAProxy knows it."""
    errors: int
    """Of these: refused connections, answers that never came or broke off, and answers of 500 and above."""


@dataclass(frozen=True, slots=True)
class Meter:
    held: int = 0
    """Requests that wait for a target to be ready."""
    servers: Mapping[str, ServerMeter] = field(default_factory=dict)
    """By target id; targets that have left the route stay until their last request is done."""


def read(text: str, prefixes: Mapping[int, str]) -> dict[str, Meter]:
    """From `show stat` of slots and their servers. `prefixes` by slot; a route that is not told of is still there."""
    servers: dict[int, dict[str, ServerMeter]] = {slot: {} for slot in prefixes}
    present = dict.fromkeys(prefixes, 0)
    places: dict[str, int] = {}
    for row in csv.reader(text.splitlines()):
        if row and row[0].startswith("# "):
            places = {name.removeprefix("# "): place for place, name in enumerate(row)}
            continue
        found = _SLOT.fullmatch(row[places["pxname"]]) if row and places else None
        if found is None or (slot := int(found[1])) not in prefixes:
            continue
        name, now = row[places["svname"]], _number(row, places, "scur")
        if name == "BACKEND":
            present[slot] = now
        else:
            errors = sum(_number(row, places, column) for column in _ERRORS)
            servers[slot][name] = ServerMeter(now, _number(row, places, "stot"), errors)
    return {prefix: Meter(_held(present[slot], servers[slot]), servers[slot]) for slot, prefix in prefixes.items()}


def with_former(meter: Meter, targets: Collection[Target], former: Mapping[int, int]) -> Meter:
    """With what HAProxys that were replaced still do. `former`: their connections, by the port of a target."""
    servers = dict(meter.servers)
    for target in targets:
        if now := former.get(target.port, 0):
            known = servers.get(target.id, ServerMeter(0, 0, 0))
            servers[target.id] = replace(known, in_flight=known.in_flight + now)
    return replace(meter, servers=servers)


def _held(present: int, servers: Mapping[str, ServerMeter]) -> int:
    """Whoever has come to the route and is with no server. Counted one after the other, so it may be one off."""
    return max(0, present - sum(server.in_flight for server in servers.values()))


def _number(row: list[str], places: Mapping[str, int], column: str) -> int:
    text = row[places[column]]
    return int(text) if text.isdigit() else 0
