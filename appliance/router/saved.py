"""The route table on disk: what a restart serves before anyone has said anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

from appliance.errors import UsageError
from appliance.router.table import Route, Table, Target, check_route

_VERSION = 1


class Damaged(Exception):
    """The file cannot be read as a table; the message says why."""


def write(path: Path, text: str) -> None:
    """All or nothing: a crash leaves the former text. Readable by the owner only."""
    candidate = path.with_name(f"{path.name}.next")
    descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    candidate.replace(path)


def to_json(table: Table, boot: str) -> str:
    """`boot` names the boot of the machine: ports of an earlier one mean nothing."""
    routes = [
        {
            "prefix": route.prefix,
            "strip": route.strip,
            "targets": [{"id": target.id, "port": target.port} for target in route.targets],
        }
        for route in table.routes.values()
    ]
    document = {"version": _VERSION, "boot": boot, "capacity": table.capacity, "slots": table.slots, "routes": routes}
    return json.dumps(document)


def load(path: Path, boot: str) -> Table:
    """Empty where there is no file or the machine was restarted since. Raises Damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Table()
    except (OSError, ValueError) as error:
        raise Damaged(str(error)) from error
    try:
        return _table(document) if document["boot"] == boot else Table()
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _table(document: dict[str, object]) -> Table:
    routes, slots, capacity = document["routes"], document["slots"], document["capacity"]
    if not isinstance(routes, list) or not isinstance(slots, dict) or type(capacity) is not int:
        raise ValueError("not a route table")
    found = {}
    for item in routes:
        targets = tuple(Target(target["id"], target["port"]) for target in item["targets"])
        route = check_route(Route(item["prefix"], targets, item["strip"]))
        found[route.prefix] = route
    with_targets = {prefix for prefix, route in found.items() if route.targets}
    numbers = list(slots.values())
    in_range = all(type(number) is int and 0 <= number < capacity for number in numbers)
    if set(slots) != with_targets or len(set(numbers)) != len(numbers) or not in_range:
        raise ValueError("routes and slots do not fit together")
    return Table(found, dict(slots), capacity)


def this_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
