"""Series as people look at them: rates of counters, containers joined, runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.client import curves
from appliance.client.curves import Figure


def point(at: float, value: float, step: int | None = None, **more: float) -> Any:
    return {"at": at, "value": value, **({} if step is None else {"step": step}), **more}


def series(metric: str, *points: Any, name: str = "fit.1", part: str = "a", container: str = "c", **labels: str) -> Any:
    about = {"kind": "run", "name": name, "part": part, "container": container, "metric": metric, "labels": labels}
    return {**about, "points": list(points), "cut": False}


def values(points: Sequence[Figure]) -> list[float]:
    return [found.value for found in points]


def test_containers_that_followed_each_other_are_one_curve() -> None:
    later = series("loss", point(5.0, 1.0), container="c2")
    (curve,) = curves.curves([later, series("loss", point(1.0, 3.0), point(2.0, 2.0))])
    assert [found.at for found in curve.points] == [1.0, 2.0, 5.0]
    assert curve.whose == "run/fit.1"


def test_other_labels_and_parts_are_other_curves_and_the_programs_own_come_first() -> None:
    given_ = [
        series("container_pids", point(1.0, 1.0)),
        series("loss", point(1.0, 1.0), part="b"),
        series("loss", point(1.0, 1.0), phase="eval"),
        series("loss", point(1.0, 1.0)),
    ]
    assert [(curve.called, curve.part) for curve in curves.curves(given_)] == [
        ("loss", "a"),
        ('loss{phase="eval"}', "a"),
        ("loss", "b"),
        ("container_pids", "a"),
    ]


def test_a_counter_of_ours_is_told_per_second_of_each_container_by_itself() -> None:
    name = "container_io_read_bytes_total"
    first = series(name, point(0.0, 100.0), point(2.0, 300.0), point(3.0, 50.0))
    second = series(name, point(10.0, 9000.0), point(11.0, 9001.0), container="c2")
    (curve,) = curves.curves([first, second])
    assert values(curve.points) == [100.0, 50.0, 1.0]


def test_a_users_own_total_is_left_as_it_is() -> None:
    (curve,) = curves.curves([series("loss_total", point(0.0, 3.0), point(1.0, 2.0))])
    assert values(curve.points) == [3.0, 2.0]


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=20))
def test_rates_are_never_negative_and_without_a_restart_add_up(grown: list[float]) -> None:
    counter = [Figure(float(at), value, None, value, value) for at, value in enumerate(accumulate(grown))]
    found = values(curves.rates(counter))
    assert sum(found) == pytest.approx(counter[-1].value - counter[0].value, abs=1e-3)
    back = [Figure(float(at), value, None, value, value) for at, value in enumerate(grown)]
    for (before, now), rate in zip(pairwise(grown), values(curves.rates(back)), strict=True):
        assert rate == (now - before if now >= before else now)


def test_a_summary_counts_what_lies_within_a_bucket() -> None:
    (curve,) = curves.curves([series("x", point(0.0, 2.0, least=1.0, most=9.0), point(1.0, 4.0))])
    assert curves.summary(curve) == (2.0, 4.0, 1.0, 9.0, 3.0, 2)
    (bare,) = curves.curves([series("x")])
    assert curves.summary(bare) is None


def side(whose: str, *given_: Any, began: float | None = None) -> tuple[str, float | None, Any]:
    return whose, began, curves.curves(given_)


def test_runs_are_compared_by_step_where_every_point_has_one() -> None:
    one = side("run/a.1", series("loss", point(10.0, 0.9, 1), point(20.0, 0.5, 2), part="train"))
    two = side("run/b.1", series("loss", point(99.0, 0.8, 1), part="fit"))
    (found,) = curves.compared([one, two])
    assert (found.along, found.part, found.called) == ("step", "", "loss")
    assert [(beside.whose, beside.x, beside.y) for beside in found.sides] == [
        ("run/a.1", (1.0, 2.0), (0.9, 0.5)),
        ("run/b.1", (1.0,), (0.8,)),
    ]


def test_else_by_the_time_since_each_began() -> None:
    one = side("run/a.1", series("loss", point(10.0, 0.9, 1), point(20.0, 0.5)), began=7.0)
    two = side("run/b.1", series("loss", point(99.0, 0.8, 1)), series("acc", point(95.0, 0.1)))
    _, found = curves.compared([one, two])
    assert found.along == "elapsed"
    assert [beside.x for beside in found.sides] == [(3.0, 13.0), (4.0,)]


def test_parts_matter_where_one_of_them_has_the_metric_in_two() -> None:
    one = side("run/a.1", series("loss", point(1.0, 1.0), part="x"), series("loss", point(1.0, 2.0), part="y"))
    two = side("run/b.1", series("loss", point(1.0, 3.0), part="y"))
    found = curves.compared([one, two])
    assert [(part.part, [beside.y for beside in part.sides]) for part in found] == [
        ("x", [(1.0,)]),
        ("y", [(2.0,), (3.0,)]),
    ]


def test_a_step_that_was_told_again_counts_as_it_was_told_last() -> None:
    told = [Figure(at, value, step, value, value) for at, value, step in ((1, 9.0, 1), (2, 8.0, 2), (3, 7.0, 1))]
    assert [(found.step, found.value) for found in curves.by_step(told)] == [(1, 7.0), (2, 8.0)]


@pytest.mark.parametrize(
    ("metric", "value", "words"),
    [
        ("container_memory_bytes", 2.5e9, "2.5 GB"),
        ("container_memory_bytes", 12, "12 B"),
        ("container_cpu_percent", 99.96, "100%"),
        ("container_network_sent_bytes_total", 1500, "1.5 kB/s"),
        ("epoch_seconds", 1.25, "1.25 s"),
        ("loss", 0.123456, "0.1235"),
        ("tokens", 123456, "123456"),
        ("tokens", 1e300, "1e+300"),
        ("delta_bytes", -2e6, "-2 MB"),
    ],
)
def test_values_are_told_by_the_unit_in_the_name(metric: str, value: float, words: str) -> None:
    assert curves.figure(metric, value) == words
