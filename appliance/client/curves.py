"""Series of metrics as people look at them: counters as rates, containers that followed each other as one curve, runs
side by side. Pure; names and labels are foreign text, whoever shows them cleans them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from appliance import wire

SAMPLED = ("container_", "machine_")
"""How the names begin of what the appliance itself samples; all others are the programs' own."""
Labels = tuple[tuple[str, str], ...]


class Figure(NamedTuple):
    """A point: unix seconds, its value, and of a bucket the least and the most in it."""

    at: float
    value: float
    step: int | None
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Curve:
    kind: str
    name: str
    part: str
    metric: str
    labels: Labels
    points: tuple[Figure, ...]
    """By time."""
    cut: bool = False
    """There are older points."""

    @property
    def whose(self) -> str:
        """`run/fit.3`, `machine`."""
        return "/".join(filter(None, (self.kind, self.name)))

    @property
    def called(self) -> str:
        return called(self.metric, self.labels)


class Summary(NamedTuple):
    first: float
    last: float
    least: float
    most: float
    mean: float
    """Of the points, each as much as any other."""
    points: int


@dataclass(frozen=True, slots=True)
class Beside:
    """One of those that are compared, over an axis that they share."""

    whose: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    summary: Summary


@dataclass(frozen=True, slots=True)
class Comparison:
    called: str
    part: str
    """Empty where each has it in one part only."""
    metric: str
    along: Literal["step", "elapsed"]
    """Steps where every point has one, else seconds since each began."""
    sides: tuple[Beside, ...]


def is_rate(metric: str) -> bool:
    """A counter of ours: what it grew in a second says more than how far it has come."""
    return metric.startswith(SAMPLED) and metric.endswith("_total")


def called(metric: str, labels: Iterable[tuple[str, str]]) -> str:
    """`loss`, `loss{phase="eval"}`."""
    told = ", ".join(f'{key}="{value}"' for key, value in labels)
    return f"{metric}{{{told}}}" if told else metric


def order(metric: str) -> tuple[bool, str]:
    """What programs measure themselves comes first."""
    return metric.startswith(SAMPLED), metric


def curves(series: Iterable[wire.MetricSeries]) -> list[Curve]:
    """In order; those that differ by their container only are one. A counter of one point has no rate: no point."""
    found: dict[tuple[str, str, str, str, Labels], Curve] = {}
    for one in series:
        labels = tuple(sorted(one["labels"].items()))
        points = tuple(_figure(point) for point in one["points"])
        if is_rate(one["metric"]):
            points = rates(points)
        made = Curve(one["kind"], one["name"], one["part"], one["metric"], labels, points, one["cut"])
        key = (made.kind, made.name, made.part, made.metric, made.labels)
        if before := found.get(key):
            together = tuple(sorted(before.points + points, key=lambda point: point.at))
            made = replace(made, points=together, cut=before.cut or made.cut)
        found[key] = made
    return sorted(
        found.values(), key=lambda curve: (order(curve.metric), curve.kind, curve.name, curve.part, curve.labels)
    )


def rates(points: Sequence[Figure]) -> tuple[Figure, ...]:
    """Per second since the point before. A counter that goes back has begun anew, from 0."""
    found = []
    for before, now in pairwise(points):
        if (took := now.at - before.at) > 0:
            grown = now.value - before.value if now.value >= before.value else now.value
            rate = grown / took
            found.append(Figure(now.at, rate, now.step, rate, rate))
    return tuple(found)


def summary(curve: Curve) -> Summary | None:
    """None of a curve without a point."""
    points = curve.points
    if not points:
        return None
    mean = sum(point.value / len(points) for point in points)
    least, most = min(point.least for point in points), max(point.most for point in points)
    return Summary(points[0].value, points[-1].value, least, most, mean, len(points))


def compared(subjects: Sequence[tuple[str, float | None, Sequence[Curve]]]) -> list[Comparison]:
    """Of each: whose, when it began (None: with its first point), its curves. A metric is compared that any has.

    Where each has a metric with its labels in one part only, the parts' names do not matter.
    """
    lonely = _in_one_part(subjects)
    groups: dict[tuple[tuple[bool, str], Labels, str], list[tuple[int, Curve]]] = {}
    for number, (_, _, some) in enumerate(subjects):
        for curve in some:
            if curve.points:
                part = "" if (curve.metric, curve.labels) in lonely else curve.part
                groups.setdefault((order(curve.metric), curve.labels, part), []).append((number, curve))
    began = [_began(when, some) for _, when, some in subjects]
    found = []
    for (_, _, part), members in sorted(groups.items()):
        stepped = all(point.step is not None for _, curve in members for point in curve.points)
        sides = tuple(_beside(subjects[number][0], curve, stepped, began[number]) for number, curve in members)
        first = members[0][1]
        found.append(Comparison(first.called, part, first.metric, "step" if stepped else "elapsed", sides))
    return found


def by_step(points: Iterable[Figure]) -> list[Figure]:
    """In the order of their steps, of each step the latest: a run that was resumed tells some again."""
    latest = {point.step or 0: point for point in sorted(points, key=lambda point: point.at)}
    return [latest[step] for step in sorted(latest)]


def figure(metric: str, value: float) -> str:
    """A value in words, by the unit in the metric's name."""
    rate = is_rate(metric)
    bare = metric.removesuffix("_total") if rate else metric
    each = "/s" if rate else ""
    if bare.endswith("_bytes"):
        return f"{_bytes(value)}{each}"
    if bare.endswith("_percent"):
        return f"{value:.3g}%"
    if bare.endswith("_seconds") and not rate:
        return f"{value:.4g} s"
    return f"{value:.4g}{each}" if abs(value) < 1e4 or value != int(value) else f"{value:.6g}{each}"


def _figure(point: wire.MetricPoint) -> Figure:
    value = point["value"]
    return Figure(point["at"], value, point.get("step"), point.get("least", value), point.get("most", value))


def _in_one_part(subjects: Sequence[tuple[str, float | None, Sequence[Curve]]]) -> set[tuple[str, Labels]]:
    many: set[tuple[str, Labels]] = set()
    every: set[tuple[str, Labels]] = set()
    for _, _, some in subjects:
        seen: set[tuple[str, Labels]] = set()
        for curve in some:
            if curve.points:
                key = (curve.metric, curve.labels)
                (many if key in seen else seen).add(key)
        every |= seen
    return every - many


def _began(when: float | None, some: Sequence[Curve]) -> float:
    return min((curve.points[0].at for curve in some if curve.points), default=0.0) if when is None else when


def _beside(whose: str, curve: Curve, stepped: bool, began: float) -> Beside:
    points = by_step(curve.points) if stepped else curve.points
    x = tuple(float(point.step or 0) if stepped else point.at - began for point in points)
    told = summary(curve)
    assert told is not None, "a curve without a point is not compared"
    return Beside(whose, x, tuple(point.value for point in points), told)


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.4g} {unit}"
        value /= 1000
    return f"{value:.4g} TB"
