"""How metrics look: tables of figures with their course, charts in the terminal, and the charts of a picture."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance.charts.chart import MOST_LINES, Along, Chart, Line
from appliance.charts.sparkline import sparkline
from appliance.cli import render
from appliance.client import curves
from appliance.client.curves import Comparison, Curve

if TYPE_CHECKING:
    from appliance import wire

UNASKED = 4
"""Charts of a comparison that nobody has asked for by name."""
COURSE = 24
HEIGHT = 16
WIDEST = 160


def table(found: Sequence[Curve]) -> None:
    parts = any(curve.part for curve in found)
    rows: list[render.Row] = []
    for curve in found:
        told = curves.summary(curve)
        assert told is not None, "those without a point are left out"
        figures = [curves.figure(curve.metric, value) for value in (told.last, told.least, told.mean, told.most)]
        course = sparkline([point.value for point in curve.points], COURSE)
        whose = [curve.part] if parts else []
        rows.append((curve.called, *whose, *figures, told.points, course))
    header = ("metric", *(("part",) if parts else ()), "last", "min", "mean", "max", "points", "course")
    if rows:
        render.table(header, rows, empty="")


def compared_table(found: Sequence[Comparison]) -> None:
    parts = any(one.part for one in found)
    rows: list[render.Row] = []
    for one in found:
        for number, side in enumerate(one.sides):
            told = side.summary
            values = (told.first, told.last, told.least, told.most, told.mean)
            figures = [curves.figure(one.metric, value) for value in values]
            whose = ([one.part] if not number else [""]) if parts else []
            rows.append((one.called if not number else "", *whose, side.whose, *figures, told.points))
    header = ("metric", *(("part",) if parts else ()), "whose", "first", "last", "min", "max", "mean", "points")
    render.table(header, rows, empty="they have nothing that could be compared")


def charts(found: Sequence[Curve]) -> list[Chart]:
    """One for each metric: its parts and labels are lines."""
    drawn: dict[str, list[Curve]] = {}
    for curve in found:
        if curve.points:
            drawn.setdefault(curve.metric, []).append(curve)
    return [_chart(metric, some) for metric, some in drawn.items()]


def compared_charts(found: Sequence[Comparison]) -> list[Chart]:
    return [
        Chart(
            " of ".join(filter(None, (_title(one.called, one.metric), one.part))),
            [Line(side.whose, side.x, side.y) for side in one.sides],
            one.along,
            _figures(one.metric),
        )
        for one in found
    ]


def compared_document(one: Comparison) -> dict[str, Any]:
    sides = [
        {"whose": side.whose, **side.summary._asdict(), "x": list(side.x), "values": list(side.y)} for side in one.sides
    ]
    return {"metric": one.called, "part": one.part, "along": one.along, "sides": sides}


def compared_rows(one: Comparison) -> list[tuple[object, ...]]:
    return [
        (one.called, one.part, side.whose, one.along, x, y)
        for side in one.sides
        for x, y in zip(side.x, side.y, strict=True)
    ]


def draw(found: Sequence[Chart]) -> None:
    if not found:
        return
    from appliance.charts.terminal import draw as drawn  # deferred: tables need no canvas

    colour = sys.stdout.isatty()
    width = min(WIDEST, shutil.get_terminal_size((100, 30)).columns)
    for chart in found:
        print()
        print(drawn(chart, width=width, height=HEIGHT, colour=colour))
        if (more := len(chart.lines) - MOST_LINES) > 0:
            render.say(f"{more} more lines are not drawn; a KIND/NAME/PART has fewer")


def points(one: wire.MetricSeries) -> None:
    """A line for each; a counter as it is, as a rate needs two."""
    counter = curves.is_rate(one["metric"])
    name = curves.called(one["metric"], sorted(one["labels"].items()))
    part = f"{one['part']} | " if one["part"] else ""
    for point in one["points"]:
        told = f"{point['value']:.15g}" if counter else curves.figure(one["metric"], point["value"])
        step = f"  step {point['step']}" if "step" in point else ""
        print(render.clean(f"{render.clock(point['at'])} {part}{name}  {told}{step}"))


def _chart(metric: str, some: Sequence[Curve]) -> Chart:
    stepped = all(point.step is not None for curve in some for point in curve.points)
    along: Along = "step" if stepped else "clock"
    lines = []
    for curve in some:
        found = curves.by_step(curve.points) if stepped else curve.points
        x = [float(point.step or 0) if stepped else point.at for point in found]
        lines.append(Line(_label(curve, some), x, [point.value for point in found]))
    return Chart(_title(metric, metric), lines, along, _figures(metric))


def _label(curve: Curve, some: Sequence[Curve]) -> str:
    """What tells it from the others of its metric."""
    if len(some) == 1:
        return ""
    labels = curve.called.removeprefix(curve.metric)
    return " ".join(filter(None, (curve.part, labels))) or curve.whose


def _title(called: str, metric: str) -> str:
    return f"{called} per second" if curves.is_rate(metric) else called


def _figures(metric: str) -> Any:
    return lambda value: curves.figure(metric, value)
