"""When a deployment that may sleep falls asleep, and what its waking was like. Pure.

Idle time is counted while somebody looks, by a clock that nobody sets: what was not seen, while the front door or the
daemon was away, counts as busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from appliance.router.meters import Meter
from appliance.spec.models import Sleep

GIVE_UP_S = 900.0
"""A waking that nobody was answered after is not told of: whatever went wrong has been told by then."""


@dataclass(frozen=True, slots=True)
class Idle:
    busy: float
    """When it last had something to do, seconds of the counting clock."""
    requests: Mapping[str, int]
    """By target, as counted at the last look."""


@dataclass(frozen=True, slots=True)
class Waking:
    began: float
    held: int = 0
    """Most that waited at one look."""
    waited: int = 0
    """Requests that have waited and gone on."""
    longest_s: float = 0.0
    over: float | None = None
    """When it served and nobody waited any more; what was logged of the last ones comes a moment later."""


def look(idle: Idle | None, meter: Meter | None, *, ready: bool, now: float) -> Idle:
    """After another look; `ready`: it is as it is declared, and nothing is on its way."""
    if meter is None:
        return Idle(now, {})
    requests = {target: server.requests for target, server in meter.servers.items()}
    if idle is None or not ready or _busy(idle.requests, meter):
        return Idle(now, requests)
    return Idle(idle.busy, requests)


def tired(idle: Idle, sleep: Sleep, now: float) -> bool:
    return now - idle.busy >= sleep.after_s


def watch(state: Waking, meter: Meter, now: float) -> Waking:
    """After another look."""
    served = bool(meter.servers) and not meter.held
    over = state.over if state.over is not None else now if served else None
    return replace(state, held=max(state.held, meter.held), over=over)


def released(state: Waking, held_s: float) -> Waking:
    """One that has waited got through."""
    return replace(state, waited=state.waited + 1, longest_s=max(state.longest_s, held_s))


def told(state: Waking, now: float) -> bool:
    """It is time to tell of it."""
    return state.over is not None and now > state.over


def given_up(state: Waking, now: float) -> bool:
    return now - state.began >= GIVE_UP_S


def tell(state: Waking) -> str:
    """Words for the event."""
    waited = max(1, state.waited, state.held)
    longest = state.longest_s or (state.over or state.began) - state.began
    return f"by a request; {waited} waited, the longest for {longest:.1f} s"


def _busy(before: Mapping[str, int], meter: Meter) -> bool:
    """A server that is gone, or counts anew, has done nothing since the last look that is known here."""
    served = any(server.requests > before.get(target, 0) for target, server in meter.servers.items())
    counted_anew = any(0 < server.requests < before.get(target, 0) for target, server in meter.servers.items())
    return bool(meter.held) or any(server.in_flight for server in meter.servers.values()) or served or counted_anew
