"""What a chart shows, whoever draws it: lines over one axis, its limits, its ticks. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Along = Literal["clock", "elapsed", "step"]
"""What x counts: unix seconds, seconds since each line began, or steps."""

MOST_LINES = 12
"""Of one chart: more cannot be told apart."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Line:
    """`x` ascends; both are as long, and all of both are finite."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    lines: Sequence[Line]
    along: Along
    figure: Callable[[float], str] = "{:.4g}".format
    """A value of y in words."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Never of no width, so that whoever draws may divide by it."""

    left: float
    right: float
    low: float
    high: float


def limits(lines: Iterable[Line]) -> Limits:
    """Of everything that is drawn."""
    found = [line for line in lines if len(line.x)]
    if not found:
        return Limits(0.0, 1.0, 0.0, 1.0)
    left, right = _wide(min(line.x[0] for line in found), max(line.x[-1] for line in found), at_left=True)
    low, high = _wide(min(min(line.y) for line in found), max(max(line.y) for line in found), at_left=False)
    return Limits(left, right, low, high)


def thinned(line: Line, columns: int) -> Line:
    """At most about four points a column: the first, the last, the least and the most in each, as all would look."""
    if len(line.x) <= 4 * columns:
        return line
    left, width = line.x[0], (line.x[-1] - line.x[0]) / columns
    kept: list[int] = []
    begin = 0
    for column in range(columns):
        end = begin
        edge = left + (column + 1) * width
        while end < len(line.x) and (column == columns - 1 or line.x[end] < edge):
            end += 1
        if end > begin:
            some = range(begin, end)
            kept += sorted({begin, min(some, key=line.y.__getitem__), max(some, key=line.y.__getitem__), end - 1})
        begin = end
    return Line(line.label, [line.x[index] for index in kept], [line.y[index] for index in kept])


def share(value: float, low: float, high: float) -> float:
    """How far a value is from `low` to `high`, which differ: 0 to 1, also of one beyond them."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def place(along: Along, x: float, width: float) -> str:
    """A value of x in words; `width`: of the whole axis, which tells how exact they are."""
    if along == "step":
        return f"{x:.0f}" if abs(x) < 1e6 else f"{x:.4g}"
    if along == "elapsed":
        return _elapsed(x)
    try:
        moment = time.localtime(x)
    except (OverflowError, ValueError, OSError):
        return f"{x:.0f}"
    return time.strftime("%H:%M:%S" if width < 2 * 3600 else "%H:%M" if width < DAY_S else "%m-%d %H:%M", moment)


def axis(along: Along) -> str:
    return {"clock": "", "elapsed": "since it began", "step": "step"}[along]


def _elapsed(seconds: float) -> str:
    for size, unit in ((DAY_S, "d"), (3600.0, "h"), (60.0, "m")):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"


def _wide(least: float, most: float, *, at_left: bool) -> tuple[float, float]:
    """Some width where there is none: to the right of x, on both sides of y."""
    if math.nextafter(least, math.inf) < most and math.isfinite(most - least):
        return least, most
    room = max(1.0, 4 * math.ulp(most)) if at_left else max(abs(least), abs(most)) * 1e-3 or 1.0
    low, high = (least if at_left else least - room), most + room
    if not math.isfinite(high - low):  # at the end of all numbers: nothing can be divided by such a width
        return min(least, 0.0) / 2, max(most, 0.0) / 2
    return low, high
