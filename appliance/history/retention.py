"""Which moments of a workspace stay. Pure.

As sanoid and its peers do it: of each hour, day, week and month that has moments the newest one stays, as far back as
the policy counts them. A class counts periods that have moments and not the ones that went by, so a workspace that
rests for a year keeps its past. Periods are those of UTC, weeks begin on Monday.

Moments that nobody asked for may come each minute, and each may hold a large file that is written again and again: of
those all stay for an hour only, and then one of each ten minutes for as long as all others stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from appliance.history.causes import AUTOMATIC, MANUAL
from appliance.history.undo import undo_target
from appliance.state.snapshots import Snapshot

_HOUR = 3600
_DAY = 24 * _HOUR
_MONDAY = 3
"""The epoch began on a Thursday."""
_WHOLE_S = 3600.0
"""Moments that nobody asked for all stay for so long."""
_THIN_S = 600.0
"""Then one in each of these."""


@dataclass(frozen=True, slots=True)
class Policy:
    recent_s: float
    """Younger moments stay, seconds: those that nobody asked for thinned after an hour."""
    hourly: int
    daily: int
    weekly: int
    monthly: int


@dataclass(frozen=True, slots=True)
class Verdict:
    moment: Snapshot
    why: str
    """Why it stays, in words; empty: it goes."""


def judge(timeline: Sequence[Snapshot], held: Mapping[str, Sequence[str]], policy: Policy, now: float) -> list[Verdict]:
    """One verdict for each moment, in the order of `timeline`, which is oldest first. `held`: id -> by what.

    What is held, was taken by hand with a message, is what the next undo goes back to, or is the newest of all stays
    whatever the policy says. A stricter policy, a later `now` and newer moments only ever let more go.
    """
    newest_first = sorted(range(len(timeline)), key=lambda at: (timeline[at].created, at), reverse=True)
    reasons: list[list[str]] = [[] for _ in timeline]
    if newest_first:
        reasons[newest_first[0]].append("the newest")
    next_undo = undo_target(timeline)
    automatic = [at for at in newest_first if timeline[at].cause in AUTOMATIC]
    newest_of_thin = set(_newest_of_each(timeline, automatic, len(automatic), lambda created: created // _THIN_S))
    for at, moment in enumerate(timeline):
        reasons[at] += [f"held: {words}" for words in held.get(moment.id, ())]
        if moment.cause == MANUAL and moment.message:
            reasons[at].append("taken by hand with a message")
        if next_undo and moment.id == next_undo.id:
            reasons[at].append("the next undo goes back to it")
        age, words = now - moment.created, f"the last {policy.recent_s / _HOUR:g} h"
        if age < policy.recent_s:
            if moment.cause not in AUTOMATIC or age < _WHOLE_S:
                reasons[at].append(f"of {words}")
            elif at in newest_of_thin:
                reasons[at].append(f"the newest of its {_THIN_S / 60:g} min in {words}")
    for word, count, period in _classes(policy):
        for at in _newest_of_each(timeline, newest_first, count, period):
            reasons[at].append(word)
    return [Verdict(moment, ", ".join(why)) for moment, why in zip(timeline, reasons, strict=True)]


def _classes(policy: Policy) -> tuple[tuple[str, int, Callable[[float], object]], ...]:
    return (
        ("hourly", policy.hourly, lambda created: created // _HOUR),
        ("daily", policy.daily, lambda created: created // _DAY),
        ("weekly", policy.weekly, lambda created: (created // _DAY + _MONDAY) // 7),
        ("monthly", policy.monthly, lambda created: time.gmtime(created)[:2]),
    )


def _newest_of_each(
    timeline: Sequence[Snapshot], newest_first: Sequence[int], count: int, period: Callable[[float], object]
) -> list[int]:
    """The newest moment of each of the `count` newest periods that have one."""
    kept: dict[object, int] = {}
    for at in newest_first:
        if len(kept) >= count:
            break
        kept.setdefault(period(timeline[at].created), at)
    return list(kept.values())
