"""The route table: which path goes to which servers. Plain values, no effects."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from appliance.errors import UsageError

SLOTS = 256
"""Backends declared in advance: a route gets one without a reload. Doubled when they run out."""
WINDOWS_S = (1, 10, 60, 3600)
"""Over which requests are counted. A limit over another time is brought to the longest of these that is not longer,
where that leaves a request."""

_Item = TypeVar("_Item")
_PREFIX = re.compile(r"/(?:notebooks|deployments)/[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SUM = re.compile(r"[0-9A-F]{64}")
_MOST_S = 86_400.0
_MOST = 1 << 50


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One server of a route."""

    id: str
    """Stable for the life of the container, such as its short id. A changed port is followed."""
    port: int
    address: str = "127.0.0.1"
    """IPv4 address where this machine reaches it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Requests that find no ready target wait, in place of the waiting page."""

    seconds: float
    most: int
    """Waiting at once; one more is refused with 503."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call. The header that is checked is not passed on."""

    kind: Literal["basic", "key"]
    sums: frozenset[str]
    """SHA-256, upper-case hex, of each `Authorization` header that is let in."""


@dataclass(frozen=True, slots=True)
class Limits:
    requests: int = 0
    """Most requests of one client in `window_s`; 0: no limit."""
    window_s: float = 10.0
    body: int = 0
    """Largest body, bytes; 0: no limit."""
    timeout_s: float | None = None
    """Longest silence of a target, seconds; None: the front door's own."""


@dataclass(frozen=True, slots=True)
class Route:
    """`prefix` is `/notebooks/NAME` or `/deployments/NAME`; requests to it and below go to the least busy target."""

    prefix: str
    targets: Sequence[Target]
    """Ready servers only. Empty: requests are held where `hold` says so, else the waiting page answers."""
    strip: bool
    """Take the prefix off before the request is passed on; `X-Forwarded-Prefix` always tells it."""
    hold: Hold | None = None
    access: Access | None = None
    limits: Limits = Limits()

    @property
    def needs_slot(self) -> bool:
        """Whether HAProxy answers or holds its requests; else the daemon does."""
        return bool(self.targets) or self.hold is not None


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """What the front door is doing."""

    running: bool
    pid: int | None
    version: str
    """Of the running HAProxy, else of the installed program; empty where neither is known."""
    routes: Sequence[Route]
    message: str
    """What is degraded, in sentences; empty when all is well."""


def check_route(route: Route) -> Route:
    """The route, unless its words could not stand in a configuration. Raises UsageError."""
    check_prefix(route.prefix)
    for target in route.targets:
        _check_target(route.prefix, target)
    if len({target.id for target in route.targets}) < len(route.targets):
        raise UsageError("two servers have the same id", where=route.prefix, hint="give each server its own id")
    if route.hold is not None:
        _check_number(route.prefix, "hold", route.hold.seconds, _MOST_S)
        _check_whole(route.prefix, "most held", route.hold.most, least=1)
    if route.access is not None:
        _check_access(route.prefix, route.access)
    limits = route.limits
    _check_whole(route.prefix, "requests", limits.requests)
    _check_whole(route.prefix, "body", limits.body)
    _check_number(route.prefix, "window", limits.window_s, _MOST_S)
    if limits.timeout_s is not None:
        _check_number(route.prefix, "timeout", limits.timeout_s, _MOST_S)
    return replace(route, targets=tuple(route.targets), strip=bool(route.strip))


def _check_target(prefix: str, target: Target) -> None:
    if not _TARGET.fullmatch(target.id):
        raise UsageError(
            f"{target.id!r} cannot name a server",
            where=prefix,
            hint="use letters, digits, dot, dash and underscore, at most 63 of them",
        )
    if type(target.port) is not int or not 0 < target.port < 65536:
        raise UsageError(f"{target.port!r} is not a TCP port", where=prefix, hint="a port is a number from 1 to 65535")
    try:
        ipaddress.IPv4Address(str(target.address))
    except ValueError:
        raise UsageError(f"{target.address!r} is not an IPv4 address", where=prefix, hint="such as 127.0.0.1") from None


def _check_access(prefix: str, access: Access) -> None:
    if access.kind not in ("basic", "key") or not all(_SUM.fullmatch(one) for one in access.sums):
        raise UsageError(
            "these are no sums of headers", where=prefix, hint="a sum is a SHA-256 of 64 upper-case hexadecimal digits"
        )


def _check_number(prefix: str, name: str, value: float, most: float) -> None:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= most:
        raise UsageError(f"{name} cannot be {value!r} seconds", where=prefix, hint=f"above 0, at most {most:.0f}")


def _check_whole(prefix: str, name: str, value: int, least: int = 0) -> None:
    if type(value) is not int or not least <= value <= _MOST:
        raise UsageError(f"{name} cannot be {value!r}", where=prefix, hint=f"a whole number from {least}")


def check_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} is not a path of the front door",
            hint="it is /notebooks/NAME or /deployments/NAME, without a slash at the end",
        )
    return prefix


@dataclass(frozen=True, slots=True)
class Table:
    """All routes, and the slot of each that has targets or holds. Values: a change makes another table."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    capacity: int = SLOTS
    latest: int = field(default=-1, compare=False)
    """Slot given out last. The next is another: one that has just become free rests as long as possible."""

    def put(self, route: Route, occupied: Collection[int] = ()) -> Table:
        """With this route. `occupied` are slots that somebody still uses: not given out."""
        routes = {**self.routes, route.prefix: route}
        if not route.needs_slot:
            return replace(self, routes=routes, slots=_without(self.slots, route.prefix))
        if route.prefix in self.slots:
            return replace(self, routes=routes)
        taken = {*self.slots.values(), *occupied}
        turn = (*range(self.latest + 1, self.capacity), *range(len(taken) + 1))
        slot = next(number for number in turn if number not in taken)
        capacity = self.capacity
        while capacity <= slot:
            capacity *= 2
        return Table(routes, {**self.slots, route.prefix: slot}, capacity, latest=slot)

    def grows(self, route: Route, occupied: Collection[int] = ()) -> bool:
        """Whether this route needs more slots than HAProxy has now."""
        return self.put(route, occupied).capacity != self.capacity

    def drop(self, prefix: str) -> Table:
        return replace(self, routes=_without(self.routes, prefix), slots=_without(self.slots, prefix))

    def find(self, prefix: str, target_id: str) -> Target | None:
        route = self.routes.get(prefix)
        return next((target for target in route.targets if target.id == target_id), None) if route else None

    def retire(self, prefix: str, target_id: str) -> Table:
        """The route without this target."""
        route = self.routes[prefix]
        return self.put(replace(route, targets=tuple(target for target in route.targets if target.id != target_id)))

    def keep(self, stays: Callable[[Target], bool]) -> Table:
        """The same routes, with those of their targets that stay."""
        table = self
        for route in self.routes.values():
            kept = tuple(target for target in route.targets if stays(target))
            table = table if len(kept) == len(route.targets) else table.put(replace(route, targets=kept))
        return table

    def served(self) -> list[tuple[int, Route]]:
        """Slot and route of everything that HAProxy answers or holds, by slot."""
        return [(slot, self.routes[prefix]) for prefix, slot in sorted(self.slots.items(), key=lambda item: item[1])]


def _without(items: Mapping[str, _Item], key: str) -> dict[str, _Item]:
    return {name: item for name, item in items.items() if name != key}
