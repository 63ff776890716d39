"""The clock's trigger: time zones, the two days of the year that are not 24 hours long, missed ticks, jumps."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import UsageError
from appliance.spec.models import Schedule
from appliance.triggers import ticks

BERLIN = "Europe/Berlin"
DAY = 86_400.0


def at(text: str, zone: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def shown(found: list[float], zone: str = BERLIN) -> list[str]:
    return [datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%d %H:%M %z") for moment in found]


def lived(schedule: Schedule, begin: float, end: float, step: float = 20.0) -> list[float]:
    """What a daemon starts that looks every `step` seconds."""
    mark, now, found = begin, begin, list[float]()
    while now < end:
        seen = ticks.look(schedule, mark, since=begin, now=now)
        assert seen.missed == 0
        mark = mark if seen.mark is None else seen.mark
        found += [] if seen.tick is None else [seen.tick]
        now += step
    return found


@pytest.mark.parametrize(
    ("cron", "day", "expected"),
    [
        ("30 2 * * *", "2026-03-28T12:00", ["29 03:00 +0200"]),  # 02:30 is left out: right after the gap
        ("0 3 * * *", "2026-03-28T12:00", ["29 03:00 +0200"]),
        ("30 2 * * *", "2026-10-24T12:00", ["25 02:30 +0200"]),  # 02:30 comes twice: once
        ("0 3 * * *", "2026-10-24T12:00", ["25 03:00 +0100"]),
        ("0 12 * * MON", "2026-10-24T12:00", []),
    ],
)
def test_the_days_of_the_clock_change(cron: str, day: str, expected: list[str]) -> None:
    begin = at(day)
    assert shown(lived(Schedule(cron=cron, timezone=BERLIN), begin, begin + DAY)) == expected


@pytest.mark.parametrize("day", ["2026-03-28T12:00", "2026-10-24T12:00"])
def test_a_line_of_every_hour_follows_the_real_hours(day: str) -> None:
    begin = at(day)
    found = lived(Schedule(cron="30 * * * *", timezone=BERLIN), begin, begin + DAY)
    assert len(found) == 24
    assert {later - earlier for earlier, later in itertools.pairwise(found)} == {3600.0}


def test_the_zone_decides_and_not_the_machine() -> None:
    begin = at("2026-06-01T00:00", "UTC")
    (tick,) = lived(Schedule(cron="0 3 * * *", timezone="Asia/Tokyo"), begin, begin + DAY, step=50)
    assert datetime.fromtimestamp(tick, UTC).hour == 18


def test_a_tick_without_a_daemon_is_missed_and_told_once() -> None:
    hourly = Schedule(cron="0 * * * *", timezone="UTC")
    mark, now = at("2026-06-01T00:30", "UTC"), at("2026-06-01T05:30", "UTC")
    seen = ticks.look(hourly, mark, since=now, now=now)
    assert (seen.tick, seen.missed, seen.mark) == (None, 5, now)
    assert ticks.look(hourly, now, since=now, now=now + 1) == ticks.Look()


def test_a_tick_a_moment_before_the_daemon_is_missed_too() -> None:
    hourly = Schedule(cron="0 * * * *", timezone="UTC")
    tick = at("2026-06-01T05:00", "UTC")
    seen = ticks.look(hourly, tick - 600, since=tick + 1, now=tick + 2)
    assert (seen.tick, seen.missed) == (None, 1)
    assert ticks.look(hourly, tick - 600, since=tick - 1, now=tick + 2).tick == tick


def test_a_machine_that_slept_takes_the_tick_that_is_now_and_skips_the_others() -> None:
    hourly = Schedule(cron="0 * * * *", timezone="UTC")
    mark, now = at("2026-06-01T00:30", "UTC"), at("2026-06-01T05:00", "UTC") + 5
    seen = ticks.look(hourly, mark, since=mark, now=now)
    assert (seen.tick, seen.missed) == (now - 5, 4)


def test_years_without_a_daemon_cost_nothing() -> None:
    minutely = Schedule(cron="* * * * *", timezone=BERLIN)
    now = at("2026-06-01T05:00") + 30
    seen = ticks.look(minutely, now - 3650 * DAY, since=now, now=now)
    assert seen.missed == ticks.MOST_COUNTED


def test_a_clock_that_goes_back_a_little_repeats_nothing() -> None:
    hourly = Schedule(cron="0 * * * *", timezone="UTC")
    tick = at("2026-06-01T05:00", "UTC")
    for now in (tick - 300, tick - 1, tick, tick + 1):
        assert ticks.look(hourly, tick, since=0, now=now).tick is None


def test_a_clock_that_was_years_ahead_does_not_silence_the_schedule() -> None:
    hourly = Schedule(cron="0 * * * *", timezone="UTC")
    now = at("2026-06-01T05:30", "UTC")
    seen = ticks.look(hourly, now + 3650 * DAY, since=0, now=now)
    assert (seen.mark, seen.set_back, seen.tick) == (now, True, None)
    assert ticks.look(hourly, now, since=0, now=now + 1800).tick == at("2026-06-01T06:00", "UTC")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cron=st.sampled_from(["*/5 * * * *", "17 * * * *", "0 2,3 * * *", "30 2 * * *"]),
    day=st.sampled_from(["2026-03-28T20:00", "2026-10-24T20:00", "2026-06-01T20:00"]),
)
def test_every_tick_is_started_or_told_as_missed_and_none_twice(seed: int, cron: str, day: str) -> None:
    """Whatever pauses, restarts and small steps back of the clock there are."""
    chance, schedule = random.Random(seed), Schedule(cron=cron, timezone=BERLIN)
    begin = at(day)
    mark, since, now = begin, begin, begin
    started: list[float] = []
    missed = 0
    for _ in range(200):
        now += chance.choice([0.5, 1.0, 30.0, 30.0, 59.0, 400.0, 4000.0, -5.0, -200.0])
        if chance.random() < 0.1:
            since = now
        seen = ticks.look(schedule, mark, since=since, now=now)
        mark = mark if seen.mark is None else seen.mark
        started += [] if seen.tick is None else [seen.tick]
        missed += seen.missed
    assert started == sorted(set(started))
    wanted, moment = 0, begin
    while (following := ticks.upcoming(schedule, moment)) is not None and following <= mark:
        wanted, moment = wanted + 1, following
    assert len(started) + missed == wanted


@pytest.mark.parametrize(("cron", "zone"), [("* * *", "UTC"), ("61 * * * *", "UTC"), ("0 3 * * *", "Mars/Base")])
def test_what_is_no_schedule_is_said(cron: str, zone: str) -> None:
    with pytest.raises(UsageError):
        ticks.look(Schedule(cron=cron, timezone=zone), 1e9, since=0, now=2e9)


def test_a_time_that_never_comes_is_no_error() -> None:
    leap_day = Schedule(cron="0 0 29 2 *", timezone="UTC")
    upcoming = ticks.upcoming(leap_day, at("2026-06-01T00:00", "UTC"))
    assert upcoming == at("2028-02-29T00:00", "UTC")


EVERY_HOUR = {"cron": "0 * * * *", "timezone": "UTC"}
AT_THREE = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}


@pytest.mark.parametrize("key", ["on", "true", "True"])
def test_the_next_run_is_the_first_tick_of_all_schedules(key: str) -> None:
    document = {key: {"schedule": [AT_THREE, EVERY_HOUR]}, "jobs": {}}
    now = datetime(2026, 7, 1, 0, 30, tzinfo=UTC).timestamp()
    assert ticks.next_tick(document, now) == now + 1800
    assert ticks.next_tick(document, now + 1800) == now + 5400, "the tick itself is not the next one"
    only = {key: {"schedule": [AT_THREE]}}
    assert ticks.next_tick(only, now) == now + 1800, "03:00 of a summer in Berlin is 01:00 UTC"


@pytest.mark.parametrize(
    "document",
    [{}, {"on": {"github": {}}}, {"on": None}, {"on": {"schedule": []}}, {"on": {"schedule": "hourly"}},
     {"on": {"schedule": ["x", {"cron": 1}]}}, {"on": {"schedule": [{"cron": "x", "timezone": "UTC"}]}},
     {"on": {"schedule": [{"cron": "0 0 31 2 *", "timezone": "UTC"}]}}],
)  # fmt: skip
def test_what_has_no_clock_has_no_next_run(document: dict[str, Any]) -> None:
    assert ticks.next_tick(document, 1e9) is None
