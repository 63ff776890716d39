"""Ages that outlive a clock that is set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.deployments import elapsed
from appliance.deployments.elapsed import Elapsed
from tests.conftest import Clock


class Times:
    def __init__(self) -> None:
        self.clock, self.counted = Clock(), 50.0
        self.elapsed = Elapsed(self.clock, lambda: self.counted)

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds
        self.counted += seconds

    def age(self, at: float) -> float:
        return self.clock.now - self.elapsed.at("x", at)


def test_a_time_is_itself_while_nobody_sets_the_clock() -> None:
    times = Times()
    at = times.clock.now - 7.25
    for _ in range(5):
        assert times.elapsed.at("x", at) == at, "what is shown does not tremble"
        times.pass_(0.3)
    assert times.elapsed.at("x", 0.0) == 0.0


def test_what_lies_ahead_is_now() -> None:
    times = Times()
    at = times.clock.now + 3600
    assert abs(times.age(at)) <= 0.5
    times.pass_(10)
    assert abs(times.age(at) - 10) <= 0.5


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(-1e6, 1e6)), max_size=10))
def test_an_age_is_what_has_passed_however_the_clock_is_set(steps: list[tuple[float, float]]) -> None:
    times = Times()
    at, passed = times.clock.now - 5, 5.0
    times.age(at)
    for seconds, jump in steps:
        times.pass_(seconds)
        times.clock.now += jump
        passed += seconds
        assert abs(times.age(at) - passed) <= 0.51


def test_it_remembers_so_many_only() -> None:
    times = Times()
    for number in range(elapsed.REMEMBERED + 10):
        times.elapsed.at(str(number), 1.0)
    assert len(times.elapsed._seen) == elapsed.REMEMBERED
