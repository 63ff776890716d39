"""Charts as a picture in a file, by matplotlib, which takes seconds to import: only who writes a picture imports this.

Each chart is one above the other. No text is read as a formula or as markup.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from matplotlib import dates, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from appliance.charts.chart import MOST_LINES, Chart, Line, axis, limits, place, thinned
from appliance.foreign import clean

Format = Literal["png", "svg"]

MOST_CHARTS = 30
"""Of one picture; one more is 240 points higher."""
WIDTH_IN = 10.0
HEIGHT_IN = 3.2
DPI = 144
COLUMNS = 1500
"""Of points that are drawn; more cannot be seen."""
LONGEST_LABEL = 80
LARGEST = 1e300
"""Beyond it matplotlib's own sums overflow."""
MOST_TICKS = 8
TICKS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 604_800)
STYLE = {
    "font.size": 9,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # text stays text, to be searched and read aloud
    "svg.hashsalt": "appliance",  # the same chart is the same file
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
}


def render(charts: Sequence[Chart], form: Format) -> bytes:
    """The file's content; of the first `MOST_CHARTS`. At least one chart."""
    shown = charts[:MOST_CHARTS]
    with rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]  # its keys are a literal of hundreds
        warnings.simplefilter("ignore")  # of a letter that its font has not: a box stands there
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN * len(shown)), layout="constrained")
        for axes, chart in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown, strict=True):
            _draw(axes, chart)
        found = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(found, format=form, dpi=DPI, metadata=metadata)
    return found.getvalue()


def _draw(axes: Axes, chart: Chart) -> None:
    axes.set_title(clean(chart.title), loc="left")
    handles = []
    for line in [line for line in chart.lines if len(line.x)][:MOST_LINES]:
        thin = thinned(line, COLUMNS)
        mark = "o" if len(thin.x) == 1 else ""
        handles += axes.plot(_along(chart, thin), [_bounded(y) for y in thin.y], linewidth=1.2, marker=mark)
        handles[-1].set_gid(f"line-{len(handles)}")
    figure, along, within = chart.figure, chart.along, limits(chart.lines)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: clean(figure(value))))
    if not any(len(line.x) and line.x[-1] > line.x[0] for line in chart.lines) and along == "clock":
        left, right = (dates.date2num(_moment(x)) for x in (within.left, within.right))  # type: ignore[no-untyped-call]
        axes.set_xlim(left, right)  # else one point has years around it
    if along == "clock":
        locator = dates.AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        apart = (within.right - within.left) / MOST_TICKS
        if along == "elapsed" and apart <= TICKS_S[-1]:
            axes.xaxis.set_major_locator(MultipleLocator(next(seconds for seconds in TICKS_S if seconds >= apart)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: place(along, value, 0.0)))
        axes.set_xlabel(axis(along))
    labels = [clean(line.label)[:LONGEST_LABEL] for line in chart.lines if len(line.x)][:MOST_LINES]
    if any(labels):
        axes.legend(handles, labels, loc="best", fontsize="small")


def _along(chart: Chart, line: Line) -> list[Any]:
    if chart.along == "clock":
        return [_moment(x) for x in line.x]
    return [_bounded(x) for x in line.x]


def _moment(x: float) -> datetime:
    """As this machine's clock shows it: matplotlib itself knows no zones but UTC."""
    return datetime.fromtimestamp(x, UTC).astimezone().replace(tzinfo=None)


def _bounded(value: float) -> float:
    return min(LARGEST, max(-LARGEST, float(value)))
