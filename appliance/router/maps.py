"""What HAProxy looks up for each request, as lines of maps. Pure.

Everything about a route stands in one entry, so one command changes all of it at once; only the sums of the headers
that are let in have a map of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from appliance.router.table import WINDOWS_S, Limits, Route, Table

ROUTES_MAP = "routes.map"
KEYS_MAP = "keys.map"
Maps = Mapping[str, Mapping[str, str]]
"""File -> key -> value."""
MAPS = (ROUTES_MAP, KEYS_MAP)
"""Those that change at run time."""

STRIP, BASIC, KEY, BODY, TIMEOUT, HOLD = "s", "a", "k", "b", "t", "h"
AGAIN = "r"
"""There is more than one target: what one did not answer may be asked of another."""
PLAIN = "p"
"""A request that finds a server ready is checked for nothing and limited in nothing."""
RATES = dict(zip(WINDOWS_S, "1234", strict=True))
"""Window in seconds -> its flag."""
_IN = "in"
_SLOT = re.compile(r"slot-(\d+)")


def maps(table: Table) -> Maps:
    routes = {entry_key(route): entry_value(slot, route) for slot, route in table.served()}
    keys = {
        f"{entry_key(route)}/{one}": _IN
        for _, route in table.served()
        for one in sorted(route.access.sums if route.access else ())
    }
    return {ROUTES_MAP: routes, KEYS_MAP: keys}


def to_text(entries: Mapping[str, str]) -> str:
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def entry_key(route: Route) -> str:
    return route.prefix.removeprefix("/")


def entry_value(slot: int, route: Route) -> str:
    """SLOT/FLAGS/BODY/REQUESTS/TIMEOUT/HOLD/MOST: bytes, a count in the flag's window, ms, seconds, a count.

    A rule looks at a flag before it looks at the field behind it.
    """
    limits, hold, access = route.limits, route.hold, route.access
    requests, window = rate(limits)
    particular = access is not None or limits.body > 0 or requests > 0 or limits.timeout_s is not None
    flags = (
        (STRIP, route.strip),
        (BASIC, access is not None and access.kind == "basic"),
        (KEY, access is not None and access.kind == "key"),
        (BODY, limits.body > 0),
        (RATES[window], requests > 0),
        (TIMEOUT, limits.timeout_s is not None),
        (HOLD, hold is not None),
        (AGAIN, len(route.targets) > 1),
        (PLAIN, not particular),
    )
    fields = (
        slot_name(slot),
        "".join(flag for flag, there in flags if there) or "-",
        limits.body,
        requests,
        max(1, round((limits.timeout_s or 0) * 1000)),
        f"{hold.seconds:.3f}" if hold else 0,
        hold.most if hold else 0,
    )
    return "/".join(map(str, fields))


def slot_of(value: str) -> int | None:
    """Of an entry of a route; None: it is not in a slot."""
    return slot_number(value.partition("/")[0])


def flags_of(value: str) -> set[str]:
    _, _, rest = value.partition("/")
    return set(rest.partition("/")[0])


def rate(limits: Limits) -> tuple[int, int]:
    """Requests and the window, seconds, that HAProxy counts them in: 0 where there is no limit, else at least one.

    Never more often than declared, but for less than one request in the longest window.
    """
    if not limits.requests:
        return 0, WINDOWS_S[0]
    shorter = [window for window in reversed(WINDOWS_S) if window <= limits.window_s]
    for window in (*shorter, *WINDOWS_S):
        if requests := math.floor(limits.requests * window / limits.window_s + 1e-9):
            return requests, window
    return 1, WINDOWS_S[-1]


def slot_name(slot: int) -> str:
    return f"slot-{slot}"


def slot_number(name: str) -> int | None:
    """None: not a slot."""
    found = _SLOT.fullmatch(name)
    return int(found[1]) if found else None
