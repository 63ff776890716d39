"""Health of one replica from the results of its probes. Pure: results and `now` in, health out.

Kubernetes' rules: readiness and liveness begin after startup has succeeded; one success makes ready, a row of
`failure_threshold` failures makes unready, or restarts. Two things differ. Until the first success a probe comes at
least every second, however long its period, so that nobody waits for a period that has just begun; the patience of
startup is therefore counted in seconds (period times threshold) and not in failures. And where no readiness probe is
declared, a replica is ready once its port accepts a connection, not as soon as its container runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from appliance.spec.models import Deployment, Probe

Kind = Literal["startup", "readiness", "liveness"]

EAGER_S = 1.0
"""Longest pause between two probes before the first success."""
PORT_PROBE = Probe(tcp=True, period_s=0.25, timeout_s=1.0)
"""Does the port accept a connection?"""


@dataclass(frozen=True, slots=True)
class Probes:
    readiness: Probe
    startup: Probe | None = None
    liveness: Probe | None = None
    only_until_ready: bool = False
    """The readiness probe is not repeated after its first success."""

    def of(self, kind: Kind) -> Probe | None:
        match kind:
            case "startup":
                return self.startup
            case "readiness":
                return self.readiness
            case "liveness":
                return self.liveness


@dataclass(frozen=True, slots=True)
class Health:
    began: float
    """When the container started, seconds of a counter that nobody sets; all times here are of it."""
    started: bool = False
    ready: bool = False
    sick: str = ""
    """Why the replica has to be restarted; empty: it has not."""
    said: str = ""
    """What the last failed probe said; empty after a success."""
    failures: Mapping[Kind, int] = field(default_factory=dict)
    """In a row."""
    last: Mapping[Kind, float] = field(default_factory=dict)


def probes_of(spec: Deployment) -> Probes:
    return Probes(
        readiness=spec.readiness or PORT_PROBE,
        startup=spec.startup,
        liveness=spec.liveness,
        only_until_ready=spec.readiness is None,
    )


def fresh(probes: Probes, *, began: float) -> Health:
    return Health(began=began, started=probes.startup is None)


def adopted(*, began: float) -> Health:
    """Of a replica that was ready before the daemon restarted: it stays so until a probe says otherwise."""
    return Health(began=began, started=True, ready=True)


def next_probe(health: Health, probes: Probes) -> tuple[float, Kind] | None:
    """The next probe and its time; None: there is nothing to ask any more."""
    kinds: list[Kind] = ["startup"] if not health.started else ["readiness", "liveness"]
    if health.ready and probes.only_until_ready:
        kinds.remove("readiness")
    due = [(at, kind) for kind in kinds if (at := _due(health, probes, kind)) is not None]
    return None if health.sick else min(due, default=None)


def observe(health: Health, probes: Probes, kind: Kind, problem: str, now: float) -> Health:
    """After a probe was answered at `now`; an empty `problem` is a success."""
    count = health.failures.get(kind, 0) + 1 if problem else 0
    health = replace(
        health,
        said=problem,
        failures={**health.failures, kind: count},
        last={**health.last, kind: now},
    )
    probe = probes.of(kind) or PORT_PROBE
    if kind == "startup":
        return _after_startup(health, probe, problem, now)
    if kind == "readiness":
        ready = not problem or (health.ready and count < probe.failure_threshold)
        return replace(health, ready=ready)
    if count >= probe.failure_threshold:
        return replace(health, ready=False, sick=f"its liveness probe failed {count} times: {problem}")
    return health


def _due(health: Health, probes: Probes, kind: Kind) -> float | None:
    probe = probes.of(kind)
    if probe is None:
        return None
    last = health.last.get(kind)
    if last is None:
        return health.began + probe.initial_delay_s
    waiting = kind == "startup" or (kind == "readiness" and not health.ready)
    return last + (min(probe.period_s, EAGER_S) if waiting else probe.period_s)


def _after_startup(health: Health, probe: Probe, problem: str, now: float) -> Health:
    if not problem:
        return replace(health, started=True)
    patience = probe.period_s * probe.failure_threshold
    if now < health.began + probe.initial_delay_s + patience:
        return health
    return replace(health, sick=f"its startup probe did not succeed within {patience:.0f} s: {problem}")
