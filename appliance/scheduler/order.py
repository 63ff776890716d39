"""Who goes first: each request has a moment at which it is due, and the earliest is the next.

It is due when it was asked for, earlier by `point_s` for each point of priority, and later the more its owner has had.
All three are bounded, so whatever waits has its turn before all that is asked for long enough after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.scheduler.fitting import weight
from appliance.scheduler.types import Held, Policy, Request

TURN_S = 900.0
"""What a card that is given counts of its owner's use at once; so that owners take turns in a burst."""


def order(
    requests: Sequence[Request], held: Sequence[Held], used: Mapping[str, float], policy: Policy, *, gpus: int
) -> list[Request]:
    """The first first. `used`: GPU-seconds of each owner, in relation to how many GPUs there are.

    Of one owner and one priority, who asked first goes first. What makes way for others does so here too: it never
    comes before a higher priority, or it would take the place that it was told to leave.
    """
    due = _due(requests, held, used, policy, max(gpus, 1))
    latest: dict[int, float] = {}
    for request in requests:
        if request.ready:
            latest[request.priority] = max(latest.get(request.priority, due[request.id]), due[request.id])

    def key(request: Request) -> tuple[float, bool, float, float, str]:
        own = due[request.id]
        above = [at for priority, at in latest.items() if request.preemptible and priority > request.priority]
        held_back = max(above, default=own) >= own and bool(above)
        return max([own, *above]), held_back, own, request.asked, request.id

    return sorted(requests, key=key)


def _due(
    requests: Sequence[Request], held: Sequence[Held], used: Mapping[str, float], policy: Policy, gpus: int
) -> dict[str, float]:
    loads: dict[str, float] = {}
    for request in requests:
        owner = request.who.owner
        loads.setdefault(owner, max(used.get(owner, 0.0), 0.0))
    for lease in held:
        owner = lease.request.who.owner
        if owner in loads and not lease.freeing:
            loads[owner] += TURN_S * weight(lease.request.shape)
    least = min(loads.values(), default=0.0)
    due: dict[str, float] = {}
    for request in sorted(requests, key=lambda one: (one.asked - one.priority * policy.point_s, one.asked, one.id)):
        owner = request.who.owner
        delay = min(policy.fair_s, (loads[owner] - least) / gpus)
        due[request.id] = request.asked - request.priority * policy.point_s + delay
        if request.ready:
            loads[owner] += TURN_S * weight(request.shape)
    return due
