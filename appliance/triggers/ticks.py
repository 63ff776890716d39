"""`on.schedule`: which tick of a cron line is due. Pure: the time is an argument.

Time zones as in Debian's cron: a fixed time that the spring change leaves out happens right after it, one that the
autumn change has twice happens once; a line with `*` in the minutes or hours follows the real hours.

Only ticks that a daemon sees pass count. What fell into a time without one, or without an awake machine, is skipped
and told once: a nightly job that starts at nine in the morning does more harm than one that is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from appliance.errors import UsageError
from appliance.spec.models import Schedule
from appliance.spec.triggers import ON_KEYS

LATE_S = 60.0
"""A tick that is older was missed."""
BACK_S = 3600.0
"""A clock that was set back by less waits until it is there again, so no tick happens twice."""
MOST_COUNTED = 100


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a schedule finds. `mark` is what has been seen now, unix time; None: nothing is new."""

    mark: float | None = None
    tick: float | None = None
    """The tick that starts a run, unix time."""
    missed: int = 0
    """Ticks that passed unseen; `MOST_COUNTED` stands for that or more."""
    set_back: bool = False
    """The clock was set back so far that counting begins anew."""


def look(schedule: Schedule, mark: float, *, since: float, now: float) -> Look:
    """`mark`: up to when ticks have been seen; `since`: when this daemon began to look. Raises UsageError."""
    if mark > now:
        return Look(mark=now, set_back=True) if mark - now > BACK_S else Look()
    last = _before(schedule, now)
    if last is None or last <= mark:
        return Look()
    due = last >= since and now - last <= LATE_S
    missed = _count(schedule, mark, last, until_last=not due)
    return Look(mark=last if due else now, tick=last if due else None, missed=missed)


def upcoming(schedule: Schedule, now: float) -> float | None:
    """Unix time of the next tick after `now`; None: there is none within 50 years. Raises UsageError."""
    return _step(schedule, now, back=False)


def next_tick(document: Mapping[str, Any], now: float) -> float | None:
    """Unix time at which a workflow, as it is stored, starts next by its clock; None: it has none, or never again.

    Only the schedules are read: a listing asks this of every workflow.
    """
    on = next((document[key] for key in ON_KEYS if key in document), None)
    listed = on.get("schedule") if isinstance(on, Mapping) else None
    found = [
        _upcoming(each["cron"], each["timezone"], int(now))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, Mapping) and isinstance(each.get("cron"), str) and isinstance(each.get("timezone"), str)
    ]
    return min((tick for tick in found if tick is not None), default=None)


@lru_cache(maxsize=1024)
def _upcoming(cron: str, timezone: str, now: int) -> float | None:
    try:
        return upcoming(Schedule(cron=cron, timezone=timezone), now)
    except UsageError:
        return None


def told(schedule: Schedule, tick: float) -> str:
    """`2026-03-29 03:00 Europe/Berlin`."""
    return f"{datetime.fromtimestamp(tick, _zone(schedule)):%Y-%m-%d %H:%M} {schedule.timezone}"


def _count(schedule: Schedule, mark: float, last: float, *, until_last: bool) -> int:
    """Ticks after `mark` and before `last`; with `until_last` that one too."""
    count, at = int(until_last), mark
    while count < MOST_COUNTED:
        following = _step(schedule, at, back=False)
        if following is None or following >= last:
            return count
        count, at = count + 1, following
    return count


def _before(schedule: Schedule, now: float) -> float | None:
    """The last tick that is not after `now`."""
    return _step(schedule, float(int(now)) + 1.0, back=True)


def _step(schedule: Schedule, at: float, *, back: bool) -> float | None:
    zone = _zone(schedule)
    start = datetime.fromtimestamp(int(at), UTC if zone.key == "UTC" else zone)
    try:
        ticks = CronSim(_five_fields(schedule.cron), start, reverse=back)
        for found in ticks:
            moment = found.timestamp()
            if moment < at if back else moment > at:
                return moment
    except CronSimError as error:
        raise UsageError(f"{schedule.cron!r} is not a cron line: {error}", hint="such as `0 3 * * *`") from None
    return None


def _five_fields(cron: str) -> str:
    if len(cron.split()) != 5:
        raise UsageError(f"{cron!r} is not a cron line", hint="five fields: minute hour day month weekday")
    return cron


def _zone(schedule: Schedule) -> ZoneInfo:
    try:
        return ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"{schedule.timezone!r} is not a time zone", hint="such as Europe/Berlin or UTC") from None
