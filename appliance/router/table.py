"""The route table: which path goes to which servers. Plain values, no effects."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from appliance.errors import UsageError

SLOTS = 64
"""Backends declared in advance: a route gets one without a reload. Doubled when they run out."""

_Item = TypeVar("_Item")
_PREFIX = re.compile(r"/(?:notebooks|deployments)/[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


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
        if not _TARGET.fullmatch(target.id):
            raise UsageError(
                f"{target.id!r} cannot name a server",
                where=route.prefix,
                hint="use letters, digits, dot, dash and underscore, at most 63 of them",
            )
        if type(target.port) is not int or not 0 < target.port < 65536:
            raise UsageError(
                f"{target.port!r} is not a TCP port", where=route.prefix, hint="a port is a number from 1 to 65535"
            )
    if len({target.id for target in route.targets}) < len(route.targets):
        raise UsageError("two servers have the same id", where=route.prefix, hint="give each server its own id")
    return replace(route, targets=tuple(route.targets), strip=bool(route.strip))


def check_prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"{prefix!r} is not a path of the front door",
            hint="it is /notebooks/NAME or /deployments/NAME, without a slash at the end",
        )
    return prefix


@dataclass(frozen=True, slots=True)
class Table:
    """All routes, and the slot of each that has targets. Values: a change makes another table."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    capacity: int = SLOTS

    def put(self, route: Route, occupied: Collection[int] = ()) -> Table:
        """With this route. `occupied` are slots whose former servers still finish requests: not given out."""
        routes = {**self.routes, route.prefix: route}
        if not route.targets:
            return replace(self, routes=routes, slots=_without(self.slots, route.prefix))
        if route.prefix in self.slots:
            return replace(self, routes=routes)
        taken = {*self.slots.values(), *occupied}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        capacity = self.capacity
        while capacity <= slot:
            capacity *= 2
        return Table(routes, {**self.slots, route.prefix: slot}, capacity)

    def drop(self, prefix: str) -> Table:
        return replace(self, routes=_without(self.routes, prefix), slots=_without(self.slots, prefix))

    def find(self, prefix: str, target_id: str) -> Target | None:
        route = self.routes.get(prefix)
        return next((target for target in route.targets if target.id == target_id), None) if route else None

    def retire(self, prefix: str, target_id: str) -> Table:
        """The route without this target."""
        route = self.routes[prefix]
        return self.put(replace(route, targets=tuple(target for target in route.targets if target.id != target_id)))

    def served(self) -> list[tuple[int, Route]]:
        """Slot and route of everything that has targets, by slot."""
        return [(slot, self.routes[prefix]) for prefix, slot in sorted(self.slots.items(), key=lambda item: item[1])]


def _without(items: Mapping[str, _Item], key: str) -> dict[str, _Item]:
    return {name: item for name, item in items.items() if name != key}
