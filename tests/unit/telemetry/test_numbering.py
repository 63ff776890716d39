"""Which samples are stored, and under which number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.telemetry.database import METRICS, SERIES
from appliance.telemetry.metrics import numbering
from appliance.telemetry.metrics.numbering import Numbering
from appliance.telemetry.metrics.types import Sample, Subject

NOW = 1_800_000_000.0
RUN = Subject("run", "train.1", "fit", "c1")


def sample(metric: str = "loss", value: float = 1.0, at: float = NOW, **more: object) -> Sample:
    return replace(Sample(RUN, metric, value, at), **more)  # type: ignore[arg-type]


def test_a_series_is_told_once_and_keeps_its_number() -> None:
    known = Numbering()
    first = known.rows([sample(), sample(metric="accuracy"), sample(value=2.0, step=7)], now=NOW).rows
    assert [row[0] for row in first[SERIES]] == [1, 2]
    assert first[SERIES][0] == (1, "run", "train.1", "fit", "c1", "loss", {})
    assert [(row[1], row[2], row[3]) for row in first[METRICS]] == [(1, None, 1.0), (2, None, 1.0), (1, 7, 2.0)]
    second = known.rows([sample(labels=(("a", "b"),)), sample()], now=NOW).rows
    assert second[SERIES] == [(3, "run", "train.1", "fit", "c1", "loss", {"a": "b"})]
    assert [row[1] for row in second[METRICS]] == [3, 1]


@pytest.mark.parametrize(
    "bad",
    [
        sample(value=math.nan),
        sample(value=math.inf),
        sample(value=-math.inf),
        sample(value=1.7e308),
        sample(at=math.nan),
        sample(at=-1.0),
        sample(at=NOW + numbering.AHEAD_S + 1),
        sample(at=math.inf),
        sample(step=1 << 63),
        sample(metric=""),
        sample(metric="x" * (numbering.MOST_TEXT + 1)),
        sample(metric="a\nb"),
        sample(labels=(("a", "\x1b[2J"),)),
        sample(labels=tuple((f"l{number}", "") for number in range(numbering.MOST_LABELS + 1))),
    ],
)
def test_what_cannot_be_stored_is_counted_and_spoils_nothing(bad: Sample) -> None:
    answer = Numbering().rows([sample(), bad, bad, sample()], now=NOW)
    assert len(answer.rows[METRICS]) == 2
    assert len(answer.rows[SERIES]) == 1
    assert list(answer.left_out.values()) == [2]


def test_a_program_with_ever_new_labels_is_stopped_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering, "MOST_SERIES", 5)
    known = Numbering()
    bomb = [sample(labels=(("id", str(number)),)) for number in range(50)]
    other = replace(sample(), subject=Subject("run", "train.2", "fit", "c2"))
    answer = known.rows([*bomb, other, bomb[0]], now=NOW)
    assert len(answer.rows[SERIES]) == 6
    assert len(answer.rows[METRICS]) == 7
    [(reason, times)] = answer.left_out.items()
    assert times == 45
    assert "run/train.1/fit" in reason


def test_what_was_stored_before_is_known_again() -> None:
    known = Numbering()
    identity = (RUN, "loss", (("a", "b"),))
    known.learn([(4, identity), (9, identity)], next_number=12, now=NOW)
    rows = known.rows([sample(labels=(("a", "b"),)), sample()], now=NOW).rows
    assert [row[1] for row in rows[METRICS]] == [9, 12]


def test_who_is_forgotten_gets_another_number() -> None:
    known = Numbering()
    known.rows([sample(), sample(metric="old")], now=NOW)
    known.rows([sample()], now=NOW + 100)
    assert known.forget(unused_since=NOW + 50) == [2]
    assert [row[1] for row in known.rows([sample(), sample(metric="old")], now=NOW + 101).rows[METRICS]] == [1, 3]
    assert known.forget_subject("run", "train.1") == [1, 3]
    assert known.forget_subject("run", "train.1") == []


def test_only_series_at_rest_are_released() -> None:
    known = Numbering()
    known.learn([(7, (RUN, "gone", ()))], next_number=8, now=NOW - 100)
    known.rows([sample()], now=NOW)
    assert known.release([7, 8, 99], unused_since=NOW - 50) == [7, 99]
    assert [row[1] for row in known.rows([sample(metric="gone"), sample()], now=NOW).rows[METRICS]] == [9, 8]


def test_the_longest_unused_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering, "MOST_REMEMBERED", 10)
    known = Numbering()
    for number in range(10):
        known.rows([sample(metric=f"m{number}")], now=NOW + number)
    known.rows([sample(metric="m0")], now=NOW + 20)
    known.rows([sample(metric="new")], now=NOW + 21)
    again = known.rows([sample(metric="m0"), sample(metric="m2"), sample(metric="m1")], now=NOW + 22).rows
    assert [row[1] for row in again[METRICS]] == [1, 3, 12]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x", "y"])), max_size=60), st.data())
def test_one_number_is_one_series(names: list[tuple[str, str]], data: st.DataObject) -> None:
    known = Numbering()
    whose: dict[int, tuple[str, str]] = {}
    for name, label in names:
        if data.draw(st.booleans()):
            known.forget(unused_since=data.draw(st.sampled_from([NOW - 1, NOW + 1])))
        rows = known.rows([sample(metric=name, labels=(("l", label),) if label else ())], now=NOW).rows
        number = rows[METRICS][0][1]
        for row in rows.get(SERIES, []):
            assert row[0] not in whose
            whose[row[0]] = (row[5], row[6].get("l", ""))
        assert whose[number] == (name, label)
