"""Which moments stay."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from appliance.history.retention import Policy, judge
from appliance.history.undo import undo_target
from appliance.state.snapshots import Snapshot

HOUR, DAY = 3600.0, 86_400.0
NOW = 1_800_000_000.0
CLASSES = ("hourly", "daily", "weekly", "monthly")

moments = st.builds(
    lambda age, cause, message, undone: Snapshot("", "u", "v", cause, message, NOW - age, undone=undone),
    st.one_of(st.floats(-DAY, 3 * DAY), st.floats(0, 3 * HOUR), st.floats(0, 800 * DAY)),
    st.sampled_from(["manual", "interval", "save", "start", "rollback", "undo"]),
    st.sampled_from(["", "a word"]),
    st.booleans(),
)
timelines = st.lists(moments, max_size=40).map(
    lambda found: [replace(moment, id=str(number)) for number, moment in enumerate(found)]
)
counts = st.integers(0, 5)
policies = st.builds(Policy, st.sampled_from([0.0, HOUR, DAY]), counts, counts, counts, counts)
held = st.sets(st.integers(0, 40)).map(lambda numbers: {str(number): ["user"] for number in numbers})


def kept(timeline: list[Snapshot], holds: dict[str, list[str]], policy: Policy, now: float = NOW) -> set[str]:
    return {verdict.moment.id for verdict in judge(timeline, holds, policy, now) if verdict.why}


def every(hours: float, count: int) -> list[Snapshot]:
    """Oldest first, the newest at the end of an hour just now."""
    return [Snapshot(str(at), "u", "v", "interval", "", NOW - at * hours * HOUR) for at in reversed(range(count))]


def test_the_newest_of_each_period_stays() -> None:
    strict = Policy(recent_s=0, hourly=3, daily=0, weekly=0, monthly=0)
    found = kept(every(0.25, 40), {}, strict)
    assert len(found) == 3
    assert "0" in found
    daily = replace(strict, hourly=0, daily=4)
    ages = sorted(int(found) for found in kept(every(1, 24 * 10), {}, daily))
    assert len(ages) == 4
    assert {after - before for before, after in pairwise(ages[1:])} == {24}


def test_periods_without_moments_are_not_counted() -> None:
    long_ago = [replace(moment, created=moment.created - 400 * DAY) for moment in every(24, 60)]
    policy = Policy(recent_s=DAY, hourly=0, daily=30, weekly=0, monthly=0)
    assert len(kept(long_ago, {}, policy)) == 30


def test_why_one_stays_is_said() -> None:
    timeline = [
        Snapshot("named", "u", "v", "manual", "before the paper", NOW - 900 * DAY),
        Snapshot("bare", "u", "v", "manual", "", NOW - 899 * DAY),
        Snapshot("held", "u", "v", "interval", "", NOW - 898 * DAY),
        Snapshot("undone", "u", "v", "rollback", "", NOW - 897 * DAY, undone=True),
        Snapshot("open", "u", "v", "rollback", "", NOW - 896 * DAY),
        Snapshot("top", "u", "v", "rollback", "", NOW - 895 * DAY),
        Snapshot("recent", "u", "v", "interval", "", NOW - HOUR),
        Snapshot("last", "u", "v", "stop", "", NOW),
    ]
    verdicts = judge(timeline, {"held": ["user: paper"]}, Policy(DAY, 1, 0, 0, 0), NOW)
    assert {verdict.moment.id: verdict.why for verdict in verdicts} == {
        "named": "taken by hand with a message",
        "bare": "",
        "held": "held: user: paper",
        "undone": "",
        "open": "",
        "top": "the next undo goes back to it",
        "recent": "the newest of its 10 min in the last 24 h",
        "last": "the newest, of the last 24 h, hourly",
    }


def test_of_the_moments_that_nobody_asked_for_all_stay_for_an_hour_and_then_one_of_ten_minutes() -> None:
    none = Policy(DAY, 0, 0, 0, 0)
    timeline = [Snapshot(str(age), "u", "v", "save", "", NOW - 60 * age) for age in range(2000, 0, -1)]
    ages = sorted(int(found) for found in kept(timeline, {}, none))
    assert ages[:59] == list(range(1, 60))
    assert {after - before for before, after in pairwise(ages[60:])} == {10}
    assert ages[-1] in range(24 * 60 - 10, 24 * 60)
    asked_for = [replace(moment, cause="stop") for moment in timeline]
    assert len(kept(asked_for, {}, none)) == 24 * 60 - 1


@given(timelines, held, policies)
def test_what_must_not_go_never_goes(timeline: list[Snapshot], holds: dict[str, list[str]], policy: Policy) -> None:
    found = kept(timeline, holds, policy)
    target = undo_target(timeline)
    for moment in timeline:
        named = moment.cause == "manual" and moment.message
        whole = HOUR if moment.cause in ("save", "interval") else DAY
        recent = NOW - moment.created < min(policy.recent_s, whole)
        if moment.id in holds or named or recent or (target and target.id == moment.id):
            assert moment.id in found
    assert not timeline or found


@given(timelines, policies)
def test_a_class_keeps_no_more_than_its_count(timeline: list[Snapshot], policy: Policy) -> None:
    verdicts = judge(timeline, {}, policy, NOW)
    for word in CLASSES:
        assert sum(word in verdict.why.split(", ") for verdict in verdicts) <= getattr(policy, word)


@given(timelines, held, policies)
def test_doing_it_again_changes_nothing(timeline: list[Snapshot], holds: dict[str, list[str]], policy: Policy) -> None:
    found = kept(timeline, holds, policy)
    assert kept([moment for moment in timeline if moment.id in found], holds, policy) == found


@given(timelines, held, policies, st.sampled_from([*CLASSES, "recent_s"]), st.floats(0, 900 * DAY))
def test_a_looser_policy_keeps_more_and_time_only_less(
    timeline: list[Snapshot], holds: dict[str, list[str]], policy: Policy, word: str, later: float
) -> None:
    found = kept(timeline, holds, policy)
    looser = replace(policy, **{word: getattr(policy, word) * 2 + 1})
    assert found <= kept(timeline, holds, looser)
    assert kept(timeline, holds, policy, NOW + later) <= found


@given(timelines, held, policies, st.floats(0, 900 * DAY))
def test_a_newer_moment_brings_none_back(
    timeline: list[Snapshot], holds: dict[str, list[str]], policy: Policy, later: float
) -> None:
    found = kept(timeline, holds, policy)
    newest = max((moment.created for moment in timeline), default=NOW)
    another = Snapshot("new", "u", "v", "interval", "", max(newest, NOW) + later)
    assert kept([*timeline, another], holds, policy) <= found | {"new"}
