from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest

from appliance.errors import TooLarge, UsageError
from appliance.telemetry.push.exposition import MOST_MEASURES, Measure, is_label, parse

NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True)
LABELS = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_]{0,10}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(NAMES, st.lists(LABELS, unique=True, max_size=4), st.data())
def test_what_the_client_library_writes_is_read_back(name: str, labels: list[str], data: st.DataObject) -> None:
    registry = CollectorRegistry()
    gauge = Gauge(name, "words\nof \\ help", labels, registry=registry)
    rows = data.draw(st.lists(st.tuples(*(TEXTS for _ in labels)), unique=True, min_size=1, max_size=5))
    expected = {}
    for row in rows if labels else rows[:1]:
        value = data.draw(st.floats())
        (gauge.labels(*row) if labels else gauge).set(value)
        expected[tuple(sorted(zip(labels, row, strict=True)))] = value
    found = parse(generate_latest(registry).decode())
    assert {measure.metric for measure in found} == {name}
    told = {measure.labels: measure.value for measure in found}
    assert told.keys() == expected.keys()
    for key, value in expected.items():
        assert told[key] == value or (math.isnan(told[key]) and math.isnan(value))


@given(TEXTS, TEXTS, st.floats(allow_nan=False))
def test_names_in_quotes_are_read_back(name: str, value: str, number: float) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

    line = f'{{{quoted(name)}, "my.label"={quoted(value)}}} {number!r}'
    if name and name.isprintable():
        assert parse(line) == [Measure(name, (("my.label", value),), number)]
    else:
        with pytest.raises(UsageError):
            parse(line)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    read_or_refused(text)


@given(st.text(alphabet='ab{}=",\\ \n#1.eN+', max_size=60))
def test_any_text_of_the_format_s_own_characters(text: str) -> None:
    read_or_refused(text)


def read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except UsageError as error:
        words = (error.message, error.hint)
    else:
        assert all(measure.metric for measure in found)
        return
    assert words[0].startswith("line ")
    assert words[1]


def test_every_kind_of_metric_becomes_its_series() -> None:
    registry = CollectorRegistry()
    Counter("seen", "", registry=registry).inc(3)
    Summary("took", "", registry=registry).observe(2)
    Histogram("size", "", buckets=(1, 10), registry=registry).observe(5)
    Info("build", "", registry=registry).info({"version": "1.0"})
    found = {(measure.metric, measure.labels): measure.value for measure in parse(generate_latest(registry).decode())}
    assert found["seen_total", ()] == 3
    assert (found["took_sum", ()], found["took_count", ()]) == (2, 1)
    assert [found["size_bucket", (("le", le),)] for le in ("1.0", "10.0", "+Inf")] == [0, 1, 1]
    assert found["build_info", (("version", "1.0"),)] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x 1", Measure("x", (), 1)),
        ("x{} 1", Measure("x", (), 1)),
        ("  x\t\t-2.5e-3 \r\n", Measure("x", (), -0.0025)),
        ('x { b = "2" , a = "1" , } .5', Measure("x", (("a", "1"), ("b", "2")), 0.5)),
        ("x +Inf", Measure("x", (), math.inf)),
        ("x -inf", Measure("x", (), -math.inf)),
        ('x{a="\\\\ \\" \\n"} 1.', Measure("x", (("a", '\\ " \n'),), 1)),
        ('x{a="\u2028}"} 1', Measure("x", (("a", "\u2028}"),), 1)),
        ("# TYPE x counter\n#\n\nx 1\n# EOF\n", Measure("x", (), 1)),
    ],
)
def test_forms_of_a_line(text: str, expected: Measure) -> None:
    assert parse(text) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "x one",
        "x 1_000",
        "x \u0661",
        "x 0x10",
        "1x 1",
        "x-y 1",
        "x 1 1700000000000",
        'x{a="1" 1',
        "x{a='1'} 1",
        'x{a="1",a="2"} 1',
        'x{a="\\t"} 1',
        'x{a="1"b="2"} 1',
        'x{,a="1"} 1',
        'x{a="1"}',
        'x{__name__="y"} 1',
        'x{"y"} 1',
        '{"a\x1b[31m"} 1',
        '{a="1"} 1',
        "x 1\nx 2",
        'x{a="1",b="2"} 1\nx{b="2",a="1"} 2',
        'x{a="' + "v" * 1001 + '"} 1',
        "x" * 1001 + " 1",
        "x{" + ",".join(f'l{number}="1"' for number in range(31)) + "} 1",
    ],
)
def test_what_is_refused_and_its_line(line: str) -> None:
    with pytest.raises(UsageError, match=rf"line {2 + line.count(chr(10))}: "):
        parse("ok 1\n" + line)


def test_a_push_has_a_bounded_number_of_samples() -> None:
    text = "\n".join(f"x{number} 1" for number in range(MOST_MEASURES))
    assert len(parse(text)) == MOST_MEASURES
    with pytest.raises(TooLarge):
        parse(text + "\ny 1")


def test_label_names() -> None:
    assert [is_label(name) for name in ("a", "_a1", "__a", "", "1a", "a-b", "a\n", "ä")] == [
        *(True, True),
        *[False] * 6,
    ]
