"""What the front door remembers: the route table and the further addresses, so that a restart changes neither."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from appliance.errors import ApplianceError, NoSpace, RouterError, UsageError
from appliance.router.ports import parse_bind
from appliance.router.render import Bind
from appliance.router.table import Route, Table, Target, check_route

_VERSION = 1


class Damaged(Exception):
    """The file cannot be read as a table; the message says why."""


@dataclass(frozen=True, slots=True)
class Saved:
    table: Table = field(default_factory=Table)
    binds: Sequence[Bind] = ()
    """Further addresses, as last wanted."""


def write(path: Path, text: str) -> None:
    """All or nothing: a crash leaves the former text. Readable by the owner only. Raises NoSpace or RouterError."""
    candidate = path.with_name(f"{path.name}.next")
    try:
        descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        candidate.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> ApplianceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            "the disk is full; the front door goes on as it was",
            where=str(path),
            hint="free some space, then repeat the command",
        )
    return RouterError(f"cannot be written: {error.strerror}", where=str(path), hint="look at who owns that path")


def to_json(saved: Saved, boot: str) -> str:
    """`boot` names the boot of the machine: ports of an earlier one mean nothing."""
    routes = [
        {
            "prefix": route.prefix,
            "strip": route.strip,
            "targets": [{"id": target.id, "port": target.port} for target in route.targets],
        }
        for route in saved.table.routes.values()
    ]
    document = {
        "version": _VERSION,
        "boot": boot,
        "binds": [str(bind) for bind in saved.binds],
        "capacity": saved.table.capacity,
        "slots": saved.table.slots,
        "routes": routes,
    }
    return json.dumps(document)


def load(path: Path, boot: str) -> Saved:
    """Empty where there is no file; without routes where the machine was restarted since. Raises Damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Saved()
    except (OSError, ValueError) as error:
        raise Damaged(str(error)) from error
    try:
        binds = tuple(parse_bind(text) for text in document["binds"])
        return Saved(_table(document) if document["boot"] == boot else Table(), binds)
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
