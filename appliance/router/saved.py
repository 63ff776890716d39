"""What the front door remembers: the route table and the further addresses, so that a restart changes neither."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appliance.errors import ApplianceError, NoSpace, RouterError, UsageError
from appliance.router.ports import parse_bind
from appliance.router.render import Bind
from appliance.router.table import SLOTS, Access, Hold, Limits, Route, Table, Target, check_route

_VERSION = 2
"""1 knew neither addresses of targets nor hold, access and limits, and kept 64 slots."""


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
    routes = [_route_document(route) for route in saved.table.routes.values()]
    document = {
        "version": _VERSION,
        "boot": boot,
        "binds": [str(bind) for bind in saved.binds],
        "capacity": saved.table.capacity,
        "slots": saved.table.slots,
        "routes": routes,
    }
    return json.dumps(document)


def _route_document(route: Route) -> dict[str, object]:
    return {
        "prefix": route.prefix,
        "strip": route.strip,
        "targets": [asdict(target) for target in route.targets],
        "hold": asdict(route.hold) if route.hold else None,
        "access": {"kind": route.access.kind, "sums": sorted(route.access.sums)} if route.access else None,
        "limits": asdict(route.limits),
    }


def load(path: Path, boot: str) -> Saved:
    """Empty where there is no file; without targets where the machine was restarted since. Raises Damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Saved()
    except (OSError, ValueError) as error:
        raise Damaged(str(error)) from error
    try:
        binds = tuple(parse_bind(text) for text in document["binds"])
        table = _table(document)
        return Saved(table if document["boot"] == boot else nobody(table), binds)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def nobody(table: Table) -> Table:
    """Its routes, which lead to nobody: who comes waits where a route holds."""
    return table.keep(lambda _: False)


def _table(document: dict[str, Any]) -> Table:
    routes, slots, capacity = document["routes"], document["slots"], document["capacity"]
    if not isinstance(routes, list) or not isinstance(slots, dict) or type(capacity) is not int:
        raise ValueError("not a route table")
    found = {route.prefix: route for route in map(_route, routes)}
    with_slot = {prefix for prefix, route in found.items() if route.needs_slot}
    numbers = list(slots.values())
    in_range = all(type(number) is int and 0 <= number < capacity for number in numbers)
    if set(slots) != with_slot or len(set(numbers)) != len(numbers) or not in_range:
        raise ValueError("routes and slots do not fit together")
    if document.get("version", 1) == 1:
        capacity = max(capacity, SLOTS)
    return Table(found, dict(slots), capacity)


def _route(item: dict[str, Any]) -> Route:
    hold, access, limits = item.get("hold"), item.get("access"), item.get("limits")
    return check_route(
        Route(
            item["prefix"],
            tuple(Target(**target) for target in item["targets"]),
            item["strip"],
            hold=Hold(**hold) if hold is not None else None,
            access=Access(access["kind"], frozenset(access["sums"])) if access is not None else None,
            limits=Limits(**limits) if limits is not None else Limits(),
        )
    )


def this_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
