"""Charts: every point is seen, nothing foreign is obeyed, and no numbers break them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.charts import picture, terminal
from appliance.charts.chart import MOST_LINES, Along, Chart, Line, limits, place, thinned
from appliance.charts.sparkline import sparkline

HOSTILE = "_a $\\frac{x$ </text><script>alert(1)</script> \x1b[31m\n日本"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
ALONG: list[Along] = ["clock", "elapsed", "step"]


@st.composite
def lines(draw: st.DrawFn) -> Line:
    x = sorted(draw(st.lists(FINITE, max_size=30)))
    y = draw(st.lists(FINITE, min_size=len(x), max_size=len(x)))
    return Line(draw(st.text(max_size=10)), x, y)


@given(st.lists(lines(), max_size=4), st.sampled_from(ALONG), st.booleans(), st.integers(10, 200), st.integers(1, 40))
def test_any_numbers_are_drawn_within_the_width(
    some: list[Line], along: Along, colour: bool, width: int, height: int
) -> None:
    text = terminal.draw(Chart("x", some, along), width=width, height=height, colour=colour)
    assert text.replace("\n", "").isprintable()
    rows = text.split("\n")
    assert len(rows) <= max(height, 3 + 3 + len(some)) + 1
    widest = max(width, terminal.LEAST_WIDTH + terminal.LONGEST_FIGURE + 2)
    assert all(len(row) <= widest for row in rows if "└" in row or "┤" in row or "│" in row)


@given(st.lists(lines(), max_size=4))
def test_limits_hold_every_point_or_are_finite_and_wide(some: list[Line]) -> None:
    found = limits(some)
    assert 0 < found.right - found.left < float("inf")
    assert 0 < found.high - found.low < float("inf")


@given(lines(), st.integers(1, 10))
def test_thinned_keeps_the_ends_the_least_and_the_most(line: Line, columns: int) -> None:
    found = thinned(line, columns)
    assert len(found.x) <= max(4 * columns, 0)
    assert set(zip(found.x, found.y, strict=True)) <= set(zip(line.x, line.y, strict=True))
    assert all(before <= after for before, after in pairwise(found.x))
    if line.x:
        assert (found.x[0], found.x[-1]) == (line.x[0], line.x[-1])
        assert (min(found.y), max(found.y)) == (min(line.y), max(line.y))


def dots(text: str) -> list[str]:
    """The rows of the plot, without axes."""
    return [re.split("[┤│]", row)[1] for row in text.split("\n") if "┤" in row or "│" in row]


def test_a_rising_line_rises() -> None:
    text = terminal.draw(Chart("up", [Line("", range(100), range(100))], "step"), width=60, height=12, colour=False)
    columns = [len(row) - len(row.lstrip("⠀")) for row in dots(text)]
    assert columns == sorted(columns, reverse=True)
    assert columns[0] > columns[-1]
    assert text.startswith("up\n")
    assert re.search(r"99 ┤", text)
    assert re.search(r" 0 +50 +99 step", text)


def test_without_colour_each_line_is_drawn_in_its_digit() -> None:
    some = [Line("run/a.1", [0, 9], [0, 0]), Line("run/b.1", [0, 9], [9, 9]), Line("none", [], [])]
    text = terminal.draw(Chart("loss", some, "step"), width=60, height=12, colour=False)
    plot = dots(text)
    assert set(plot[0]) == {"2"}
    assert set(plot[-1]) == {"1"}
    assert text.endswith("\n1 run/a.1\n2 run/b.1")


def test_with_colour_lines_have_colours_where_the_terminal_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    some = [Line("a", [0, 9], [0, 0]), Line("b", [0, 9], [9, 9])]
    text = terminal.draw(Chart("loss", some, "step"), width=60, height=12, colour=True)
    assert "\x1b[36m━\x1b[0m a" in text
    assert "\x1b[33m━\x1b[0m b" in text


def test_no_line_beyond_those_that_can_be_told_apart() -> None:
    some = [Line(f"n{number}", [0, 1], [0, number]) for number in range(MOST_LINES + 5)]
    text = terminal.draw(Chart("x", some, "step"), width=60, height=30, colour=False)
    assert f"n{MOST_LINES - 1}" in text
    assert f"n{MOST_LINES}" not in text


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([5], "▁"), ([5, 5], "▁▁"), ([0, 7], "▁█"), ([0, 0, 7, 7], "▁█"), ([7, 0, 0, 0], "▅▁")],
)
def test_a_sparkline_has_the_means_of_its_columns(values: list[float], bars: str) -> None:
    assert sparkline(values, 2) == bars


@given(st.lists(FINITE), st.integers(1, 9))
def test_any_numbers_have_a_sparkline_of_at_most_its_columns(values: list[float], columns: int) -> None:
    assert len(sparkline(values, columns)) == min(len(values), columns)


def test_places_are_told_as_far_as_they_differ() -> None:
    assert place("step", 12.0, 100.0) == "12"
    assert place("elapsed", 90.0, 0.0) == "90s"
    assert place("elapsed", 5400.0, 0.0) == "90m"
    assert re.fullmatch(r"\d\d:\d\d:\d\d", place("clock", 1e9, 60.0))
    assert re.fullmatch(r"\d\d-\d\d \d\d:\d\d", place("clock", 1e9, 1e7))
    assert place("clock", 1e300, 1.0)


CHARTS = [
    Chart(HOSTILE, [Line(HOSTILE, [0, 1, 2], [1, 2, 3]), Line("plain", [0, 1], [3, 3])], "step"),
    Chart("edge", [Line("x", [0, 9], [-1.7e308, 1.7e308])], "elapsed"),
    Chart("one", [Line("x", [1.8e9], [3.0])], "clock"),
    Chart("none", [], "clock"),
]


def test_a_picture_is_a_png() -> None:
    assert picture.render(CHARTS, "png").startswith(b"\x89PNG\r\n\x1a\n")


def test_a_drawing_is_well_formed_and_its_text_is_only_text() -> None:
    drawn = picture.render(CHARTS, "svg")
    root = ET.fromstring(drawn)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert "script" not in names
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("}text")]
    shown = "_a $\\frac{x$ </text><script>alert(1)</script> \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}日本"
    assert sum(shown in text for text in texts) == 2, "the title and the legend"
    assert any("plain" in text for text in texts)
    assert {element.get("id") for element in root.iter()} >= {"line-1", "line-2"}
    assert picture.render(CHARTS, "svg") == drawn, "the same chart is the same file"


def test_a_picture_has_no_more_charts_than_it_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MOST_CHARTS", 2)
    root = ET.fromstring(picture.render([Chart(f"n{number}", [], "step") for number in range(4)], "svg"))
    texts = {element.text for element in root.iter() if element.tag.endswith("}text")}
    assert "n1" in texts
    assert "n2" not in texts
