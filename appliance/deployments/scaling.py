"""How many replicas the load asks for: what Kubernetes' autoscaler does, as Gradient did. Pure.

Each metric asks for `ceil(ready replicas x observed / aimed at)`, or for as many as there are where that is within a
tenth of the aim; the largest counts. More come at once, a few at a time; fewer only after nothing has asked for
more during five minutes. What is not observed asks for nothing, and never for fewer. Times are seconds of a clock that
nobody sets: to set the machine's clock makes no opinion old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.spec.models import Metric

TOLERANCE = 0.1
SETTLE_S = 300.0
RISE_S = 15.0
RISE_BY = 4
RISE_TIMES = 2
"""Within `RISE_S` there are at most that many more, or that many times as many, whichever are more."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Reading:
    metric: Metric
    value: float | None
    """In the metric's unit, the average of the ready replicas; None: not observed."""
    seen: int
    """Of so many of them; one that has just become ready carries no load that is known."""


@dataclass(frozen=True, slots=True)
class Opinion:
    replicas: int
    why: str


@dataclass(frozen=True, slots=True)
class Course:
    """What was asked for lately, and how many there were; oldest first."""

    asked: tuple[tuple[float, int], ...] = ()
    counts: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    least: int
    most: int

    def clamp(self, replicas: int) -> int:
        """`least` counts where a spec has the two the wrong way round."""
        return max(self.least, min(self.most, replicas))


def form_opinion(readings: Sequence[Reading], *, count: int, ready: int) -> Opinion | None:
    """`count` replicas are declared, of which `ready` ones carry the load. None: nothing is known."""
    opinions = [_opinion(reading, count, ready) for reading in readings]
    known = [opinion for opinion in opinions if opinion is not None]
    if not known:
        return None
    highest = max(known, key=lambda opinion: opinion.replicas)
    if highest.replicas < count and len(known) < len(opinions):
        return None  # what cannot be seen may need them
    return highest


def decide(
    course: Course, opinion: Opinion | None, *, count: int, bounds: Bounds, now: float
) -> tuple[Course, Opinion]:
    """How many there shall be from now on, and why; `count` is how many there are by the last decision."""
    asked = bounds.clamp(opinion.replicas if opinion else count)
    asked_lately = (*(_since(course.asked, now - SETTLE_S) or [(now, count)]), (now, asked))
    counts = _known_at(course.counts or ((-math.inf, count),), now - RISE_S)
    start = min(count, *(replicas for _, replicas in counts))
    rise = max(start * RISE_TIMES, start + RISE_BY)
    settled = max(replicas for _, replicas in asked_lately)
    wanted = bounds.clamp(min(asked, max(count, rise)) if asked > count else min(count, settled))
    course = Course(asked_lately, (*counts, (now, wanted)))
    return course, Opinion(wanted, _why(opinion, asked=asked, wanted=wanted, count=count, bounds=bounds))


def describe(metric: Metric, value: float) -> str:
    if metric.kind == "requestDuration" and not value:
        return f"no request came for {SETTLE_S / 60:.0f} minutes"
    if metric.kind == "requestDuration":
        return f"requests take {value:.3g} s on average, {metric.value:g} s are aimed at"
    return f"{metric.kind} is {value:.0f} % on average, {metric.value:g} % are aimed at"


def _opinion(reading: Reading, count: int, ready: int) -> Opinion | None:
    metric, value, seen = reading.metric, reading.value, min(reading.seen, ready)
    if value is None or not math.isfinite(value) or value < 0 or metric.value <= 0 or seen <= 0:
        return None
    ratio, why = value / metric.value, describe(metric, value)
    wanted = math.ceil(min(seen * ratio, 1e6) - _ROUNDING)
    if ratio > 1 + TOLERANCE + _ROUNDING:
        return Opinion(max(count, wanted), why)  # those that are not ready yet are on their way
    if ratio >= 1 - TOLERANCE - _ROUNDING or seen < ready:
        return Opinion(count, why)
    return Opinion(max(1, min(count, wanted)), why)


def _why(opinion: Opinion | None, *, asked: int, wanted: int, count: int, bounds: Bounds) -> str:
    if opinion is None:
        return "nothing is known of its load"
    words = [opinion.why]
    if opinion.replicas > bounds.most:
        words.append(f"{opinion.replicas} would be needed, maxReplicas is {bounds.most}")
    if asked > wanted:
        words.append(f"{asked} are coming step by step")
    elif asked < wanted <= count:
        words.append(f"{asked} would do; fewer come after {SETTLE_S / 60:.0f} minutes of that")
    return "; ".join(words)


def _since(times: Sequence[tuple[float, int]], start: float) -> list[tuple[float, int]]:
    return [(at, replicas) for at, replicas in times if at >= start]


def _known_at(counts: Sequence[tuple[float, int]], start: float) -> list[tuple[float, int]]:
    """Those after `start`, and the last one before: so many there were then."""
    before = [entry for entry in counts if entry[0] <= start]
    return [*before[-1:], *(entry for entry in counts if entry[0] > start)]
