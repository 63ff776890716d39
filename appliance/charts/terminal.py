"""A chart as text: braille dots by plotille's canvas, which needs nothing else; the axes and the legend are ours.

plotille's own figure numbers its axes in raw digits at uneven places, and knows no bytes and no clock.
"""

from __future__ import annotations

from bisect import bisect_right

from plotille import Canvas, color

from appliance.charts.chart import MOST_LINES, Chart, Limits, Line, axis, limits, place, share, thinned
from appliance.foreign import clean

COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue", "white", "bright_cyan", "bright_yellow",
           "bright_magenta", "bright_green", "bright_red")  # fmt: skip
MARKS = "123456789abc"
"""In place of colours, where there are none."""
ROWS_A_TICK = 4
LEAST_WIDTH = 20
LONGEST_FIGURE = 12


def draw(chart: Chart, *, width: int, height: int, colour: bool) -> str:
    """Lines of text, of at most `width` columns and about `height` rows, the axes and the legend among them.

    Without colour the lines are drawn in digits that the legend names, where there is more than one.
    """
    lines = [line for line in chart.lines if len(line.x)][:MOST_LINES]
    rows = max(3, height - 3 - len(lines))
    within = limits(lines)
    ticked = {*range(0, rows - ROWS_A_TICK // 2, ROWS_A_TICK), rows - 1}
    ticks = {row: _tick(chart, within, row, rows) for row in ticked}
    margin = max(map(len, ticks.values()))
    columns = max(LEAST_WIDTH, width - margin - 2)
    marked = not colour and len(lines) > 1
    canvas = Canvas(columns, rows, 0, 0, columns * 2, rows * 4)
    for number, line in enumerate(lines):
        if marked:
            _mark(canvas, line, within, MARKS[number])
        else:
            _trace(canvas, thinned(line, columns), within, COLOURS[number] if colour else None)
    drawn = canvas.plot().split("\n")
    told = [clean(chart.title)[:width]]
    for row, text in enumerate(drawn):
        tick = ticks.get(rows - 1 - row)
        told.append(f"{tick or '':>{margin}} {'┤' if tick is not None else '│'}{text.rstrip('⠀')}")
    told.append(f"{'':>{margin}} └{'─' * columns}")
    told.append(f"{'':>{margin}}  {_places(chart, within, columns)}")
    if len(lines) > 1 or any(line.label for line in lines):
        marks = MARKS if marked else "━" * MOST_LINES
        told += [_painted(marks[number], number, colour) + " " + clean(line.label)[: width - 2]
                 for number, line in enumerate(lines)]  # fmt: skip
    return "\n".join(told)


def _tick(chart: Chart, within: Limits, row: int, rows: int) -> str:
    part = row / (rows - 1)
    return clean(chart.figure(within.low * (1 - part) + within.high * part))[:LONGEST_FIGURE]


def _places(chart: Chart, within: Limits, columns: int) -> str:
    """Both ends of the x axis and its middle where there is room, and what it counts."""
    width = within.right - within.left
    left, middle, right = (place(chart.along, within.left + part * width, width) for part in (0.0, 0.5, 1.0))
    name = axis(chart.along)
    end = f"{right} {name}" if name else right
    room = columns - len(left) - len(middle) - len(end)
    if room < 2:
        return f"{left}{' ' * max(1, columns - len(left) - len(end))}{end}"
    before = columns // 2 - len(left) - len(middle) // 2
    before = min(max(1, before), room - 1)
    return f"{left}{' ' * before}{middle}{' ' * (room - before)}{end}"


def _trace(canvas: Canvas, line: Line, within: Limits, colour: str | None) -> None:
    dots = [_dot(canvas, x, y, within) for x, y in zip(line.x, line.y, strict=True)]
    for before, after in zip([dots[0], *dots], dots, strict=False):
        canvas.line(*before, *after, color=colour)


def _mark(canvas: Canvas, line: Line, within: Limits, mark: str) -> None:
    """One character in each column that the line crosses; the later line is in front."""
    width = within.right - within.left
    first, last = (_dot(canvas, x, line.y[0], within)[0] // 2 for x in (line.x[0], line.x[-1]))
    for column in range(first, last + 1):
        x = within.left + (column + 0.5) / canvas.width * width
        canvas.point(column * 2, _dot(canvas, x, _between(line, x), within)[1], marker=mark)


def _between(line: Line, x: float) -> float:
    """y of the straight line between the two points beside x."""
    after = bisect_right(line.x, x)
    if after == 0 or after == len(line.x):
        return line.y[min(after, len(line.x) - 1)]
    part = share(x, line.x[after - 1], line.x[after])
    return line.y[after - 1] * (1 - part) + line.y[after] * part


def _dot(canvas: Canvas, x: float, y: float, within: Limits) -> tuple[int, int]:
    across, up = canvas.width * 2 - 1, canvas.height * 4 - 1
    return (
        round(share(x, within.left, within.right) * across),
        round(share(y, within.low, within.high) * up),
    )


def _painted(mark: str, number: int, colour: bool) -> str:
    return str(color(mark, fg=COLOURS[number])) if colour else mark
