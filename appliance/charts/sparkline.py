"""The course of a metric in one row of text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from appliance.charts.chart import share

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], columns: int) -> str:
    """The course of evenly spaced values, in a row of bars. What never changes is a low line."""
    if not values:
        return ""
    least, most = min(values), max(values)
    means = _binned(values, columns)
    if not most > least:
        return BARS[0] * len(means)
    return "".join(BARS[round(share(mean, least, most) * (len(BARS) - 1))] for mean in means)


def _binned(values: Sequence[float], columns: int) -> list[float]:
    if len(values) <= columns:
        return list(values)
    edges = [column * len(values) // columns for column in range(columns + 1)]
    found = [values[begin:end] for begin, end in pairwise(edges)]
    return [sum(value / len(some) for value in some) for some in found]
