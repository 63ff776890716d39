"""Replicas that take requests and end none: told, not acted on, for long answers look alike. Pure.

A replica that hangs is found and restarted by its liveness probe. Where its spec declares none, this is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.router.meters import Meter, ServerMeter

SILENT_S = 30.0
LEAST = 2
"""Fewer under way are no sign of anything: one may be a long one."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Of one target: since when none of its requests has ended, seconds of a counting clock."""

    since: float
    ended: int
    begun: int
    """As counted when it fell silent."""
    grown: bool = False
    """More have come since."""


def look(before: Mapping[str, Silence], meter: Meter | None, now: float) -> dict[str, Silence]:
    """After another look, by target. What was not seen is not counted."""
    if meter is None:
        return {}
    return {target: _look(before.get(target), server, now) for target, server in meter.servers.items()}


def _look(before: Silence | None, server: ServerMeter, now: float) -> Silence:
    ended = server.requests - server.in_flight
    if before is None or before.ended != ended or server.in_flight < LEAST:
        return Silence(now, ended, server.requests)
    return Silence(before.since, ended, before.begun, server.requests > before.begun)


def told(silences: Mapping[str, Silence], meter: Meter, now: float) -> dict[str, str]:
    """By target, in words: those of which nobody has heard for so long, while more was asked of them."""
    return {
        target: f"{meter.servers[target].in_flight} requests are under way, and none has ended for {SILENT_S:.0f} s:"
        " where it hangs, `healthChecks.liveness` in its spec restarts it"
        for target, found in silences.items()
        if target in meter.servers and found.grown and now - found.since >= SILENT_S
    }
