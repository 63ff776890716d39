"""A clock that is wrong for a while makes nothing old."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.workflows.kept.steady import JUMP_S, SETTLED_S, Steady

DAY = 86_400.0
YEAR = 365 * DAY


def looks(steady: Steady, begin: float, passed: float, *, minutes: int) -> list[bool]:
    """One a minute; at the first of them the clock says `begin`."""
    return [steady.look(begin + 60 * minute, passed + 60 * minute) for minute in range(minutes)]


def test_it_is_believed_a_few_minutes_after_the_start() -> None:
    assert looks(Steady(), 1_800_000_000, 50, minutes=7) == [False] * 5 + [True] * 2


def test_a_clock_of_another_year_is_not_believed_before_it_is_set_right() -> None:
    steady = Steady()
    assert looks(steady, 1_800_000_000, 0, minutes=6)[-1]
    assert not any(looks(steady, 1_800_000_360 + 30 * YEAR, 360, minutes=4))
    assert looks(steady, 1_800_000_600, 600, minutes=6) == [False] * 5 + [True]


def test_after_a_laptop_has_slept_it_is_believed_again() -> None:
    steady = Steady()
    looks(steady, 1_800_000_000, 0, minutes=10)
    assert looks(steady, 1_800_000_600 + 9 * DAY, 600, minutes=7) == [False] * 5 + [True] * 2


@given(st.lists(st.floats(-JUMP_S * 0.9, JUMP_S * 0.9), min_size=1, max_size=30))
def test_small_corrections_are_followed(steps: list[float]) -> None:
    steady, ahead = Steady(), 1_800_000_000.0
    looks(steady, ahead, 0, minutes=10)
    for minute, step in enumerate(steps, start=10):
        ahead += step
        assert steady.look(ahead + 60 * minute, 60.0 * minute)


@given(st.lists(st.tuples(st.floats(1, 400), st.floats(-40 * YEAR, 40 * YEAR)), min_size=1, max_size=40))
def test_it_is_believed_only_after_it_went_evenly_for_all_that_time(steps: list[tuple[float, float]]) -> None:
    steady, passed, ahead = Steady(), 0.0, 1_800_000_000.0
    even_since: float | None = None
    for pause, step in steps:
        passed += pause
        before, ahead = ahead, ahead + (step if abs(step) > 2 * JUMP_S else 0)
        if even_since is None or ahead != before:
            even_since = passed
        assert steady.look(ahead + passed, passed) == (passed - even_since >= SETTLED_S)
