"""The traffic of one deployment: what the telemetry has stored of it, and what is under way now."""

from __future__ import annotations

from appliance import wire
from appliance.api import deployments
from appliance.api.parts import Parts
from appliance.router.meters import Meter
from appliance.state.resources import Resource
from appliance.telemetry.requests import Traffic

STEPS = 60


async def traffic(parts: Parts, deployment: Resource, *, since: float, until: float) -> wire.Traffic:
    """Raises TelemetryError."""
    prefix = deployments.prefix(deployment)
    found = await parts.telemetry.traffic(prefix, since=since, until=until, steps=STEPS)
    meters = await deployments.meters(parts)
    meter = None if meters is None else meters.get(prefix)
    containers = {row["container"]: row["id"] for row in deployment.status.get("replicas", ())}
    return wire.Traffic(
        since=since,
        until=until,
        requests=found.requests,
        errors=found.errors,
        p50_s=found.p50_s,
        p95_s=found.p95_s,
        p99_s=found.p99_s,
        held=None if meter is None else meter.held,
        longest_held_s=found.longest_held_s,
        replicas=_replicas(found, meter, {key[: deployments.SHORT_ID]: part for key, part in containers.items()}),
        steps=[wire.TrafficStep(at=step.at, requests=step.requests, errors=step.errors) for step in found.steps],
    )


def _replicas(found: Traffic, meter: Meter | None, parts: dict[str, str]) -> list[wire.ReplicaTraffic]:
    """`parts` by container. Those that are there first, then those that have left."""
    rows = []
    for target in dict.fromkeys([*parts, *(name for name in found.targets if name)]):
        requests, errors = found.targets.get(target, (0, 0))
        under_way = deployments.in_flight(meter, target)
        name = parts.get(target, target)
        rows.append(wire.ReplicaTraffic(id=name, requests=requests, errors=errors, in_flight=under_way))
    return rows
