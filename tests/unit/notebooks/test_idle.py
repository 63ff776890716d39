"""When a session that nobody uses ends: single rows of looks, and the laws that hold for any."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.notebooks.idle import (
    LOOK_EVERY_S,
    MOST_GAP_S,
    Busy,
    Course,
    End,
    Idle,
    Look,
    Policy,
    Timer,
    Verdict,
    Warn,
    judge,
    judge_timer,
)

POLICY = Policy(after_s=600, warn_s=120)
NOTHING = Look()
WORK = Look(busy="the kernel of a.ipynb computes")


@dataclass
class Row:
    """Looks at one session, one after the other."""

    policy: Policy = POLICY
    now: float = 1000.0
    course: Course = field(default_factory=Course)

    def look(self, look: Look = NOTHING, after_s: float = LOOK_EVERY_S) -> Verdict:
        self.now += after_s
        self.course, verdict = judge(self.course, self.policy, look, self.now)
        return verdict

    def until(self, kind: type[Verdict]) -> float:
        """Seconds of looks that find nothing until the verdict is of this kind."""
        begun = self.now
        while not isinstance(self.look(), kind):
            assert self.now - begun < 10_000
        return self.now - begun


def test_nothing_goes_on_then_a_warning_then_the_end() -> None:
    row = Row()
    assert row.look(WORK) == Busy(WORK.busy)
    since = row.now + LOOK_EVERY_S
    assert row.look() == Idle(since, since + 600)
    assert row.until(Warn) == 480
    assert row.until(End) == 120
    assert row.look() == End(since)


def test_activity_takes_the_warning_back_and_the_next_one_stands_as_long() -> None:
    row = Row()
    row.until(Warn)
    assert row.look(WORK) == Busy(WORK.busy)
    assert isinstance(row.look(), Idle)
    assert row.until(Warn) == 480
    assert row.until(End) == 120


def test_a_time_without_looks_counts_for_nothing() -> None:
    row = Row()
    row.until(Warn)
    verdict = row.look(after_s=3 * 86_400)
    assert verdict == Idle(row.now, row.now + 600), "a laptop that slept has seen nothing"
    assert row.until(End) == 600
    assert isinstance(Row().look(after_s=MOST_GAP_S), Idle), "the first look finds nobody idle since before it"


def test_a_doubt_puts_the_end_off_by_one_look() -> None:
    row = Row()
    row.until(Warn)
    while row.now < row.course.since + 600 - LOOK_EVERY_S:  # type: ignore[operator]
        row.look()
    assert isinstance(row.look(Look(doubt=True)), Warn)
    assert isinstance(row.look(), End)


def test_never_and_a_policy_that_changes() -> None:
    row = Row(Policy(after_s=0, warn_s=120))
    assert all(row.look() == Busy("") for _ in range(1000))
    row.policy = POLICY
    assert isinstance(row.look(), Idle), "what was seen before nobody asked is not held against it"
    row.until(Warn)
    row.policy = Policy(after_s=6000, warn_s=120)
    assert isinstance(row.look(), Idle)
    row.policy = Policy(after_s=60, warn_s=120)
    assert isinstance(row.look(), Warn), "a shorter time does not end it without a warning"
    assert row.until(End) == 30


def test_a_warning_time_of_nothing_and_one_longer_than_the_time_itself() -> None:
    assert Row(Policy(after_s=60, warn_s=0)).until(End) <= 80
    row = Row(Policy(after_s=60, warn_s=3600))
    assert isinstance(row.look(), Idle), "a pause between two cells is not warned of"
    assert row.until(Warn) == 30
    assert row.until(End) == 30


LOOKS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 9.0, 10.0, 10.0, 10.0, 30.0, 59.0, 61.0, 5000.0]),
        st.sampled_from([NOTHING] * 12 + [Look(doubt=True), WORK]),
    ),
    max_size=150,
)
POLICIES = st.builds(
    Policy, after_s=st.sampled_from([0.0, 60.0, 100.0, 300.0]), warn_s=st.sampled_from([0.0, 30.0, 60.0, 500.0])
)


@given(LOOKS, POLICIES)
def test_it_never_ends_while_anything_was_busy_nor_without_a_warning(
    looks: list[tuple[float, Look]], policy: Policy
) -> None:
    row = Row(policy)
    busy = warned = begun = row.now
    standing = False
    for pause, look in looks:
        if pause > MOST_GAP_S:
            begun = row.now + pause  # nothing is known of the time before
        verdict = row.look(look, pause)
        if look.busy:
            busy = row.now
            assert not isinstance(verdict, Warn | End)
        if isinstance(verdict, Warn) and not standing:
            warned, standing = row.now, True
        if isinstance(verdict, Busy | Idle):
            standing = False
        if isinstance(verdict, End):
            assert policy.after_s
            assert not look.doubt
            assert standing
            assert row.now - max(busy, begun) >= policy.after_s
            assert row.now - warned >= min(policy.warn_s, policy.after_s / 2)
            assert pause <= MOST_GAP_S


@given(POLICIES.filter(lambda policy: policy.after_s > 0))
def test_it_does_end_where_nothing_goes_on(policy: Policy) -> None:
    assert Row(policy).until(End) <= policy.after_s + 3 * LOOK_EVERY_S


class TestTimer:
    policy = Policy(after_s=0, warn_s=120, shutdown_s=600)

    def run(self, timer: Timer, ran_s: float, now: float) -> tuple[Timer, Verdict]:
        return judge_timer(timer, self.policy, ran_s, now)

    def test_a_warning_then_the_end_whatever_goes_on(self) -> None:
        timer, now = Timer(), 0.0
        verdicts = []
        for look in range(70):
            now = 10.0 * look
            timer, verdict = self.run(timer, now, now)
            verdicts.append(type(verdict))
        assert verdicts[47:49] == [Idle, Warn]
        assert verdicts[59:61] == [Warn, End]

    @pytest.mark.parametrize("ran_s", [600.0, 1e9])
    def test_a_daemon_that_was_away_warns_before_it_ends_anything(self, ran_s: float) -> None:
        timer, verdict = self.run(Timer(), ran_s, 5.0)
        assert isinstance(verdict, Warn)
        assert verdict.ends == 125.0
        timer, verdict = self.run(timer, ran_s, 500.0)
        assert isinstance(verdict, Warn), "nobody may have read it while the machine slept"
        assert verdict.ends == 620.0

    def test_a_clock_that_is_set_moves_nothing(self) -> None:
        timer, before = self.run(Timer(), 60.0, 1000.0)
        for ran_s in (-1e9, 1e9):
            timer, verdict = self.run(timer, ran_s, 1010.0)
            assert verdict == before == Idle(940.0, 1540.0)

    def test_none(self) -> None:
        assert judge_timer(Timer(1.0, 2.0, 3.0), POLICY, 1e9, 4.0) == (Timer(), Busy(""))
