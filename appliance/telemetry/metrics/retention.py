"""How long metrics stay, and in which detail. Pure: what is planned here, `upkeep` has done by the database's writer.

Samples become rows of a minute after some hours, those become rows of an hour after two weeks, and all go in the end.
Samples with a step stay as they are until then: they are few, and a mean over a minute has no step.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.telemetry.database import METRICS, ROLLUPS

MINUTE_S = 60
HOUR_S = 3600
HOURLY_AFTER_S = 14 * 86_400
FEW_ROWS, MANY_ROWS = 10_000, 50_000
"""Of one slice; that is one transaction, and no line is written meanwhile."""
LONGEST_S = 30 * 86_400
"""Of a slice: where there are few rows in a long time."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to the oldest rows of a table."""

    table: str
    rows: str
    """Which rows it is about, as SQL."""
    width: int
    """Seconds: a slice begins and ends at multiples of it."""
    becomes: int = 0
    """Seconds of the rows that they become; 0: they go."""


MINUTES = Act(METRICS, "step IS NULL", MINUTE_S, becomes=MINUTE_S)
HOURS = Act(ROLLUPS, f"seconds = {MINUTE_S}", HOUR_S, becomes=HOUR_S)
OLD_SAMPLES = Act(METRICS, "true", MINUTE_S)
OLD_ROLLUPS = Act(ROLLUPS, "true", MINUTE_S)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows from `since` on and before `until`, unix seconds."""

    act: Act
    since: int
    until: int


def due(now: float, *, keep_hours: float, keep_days: float) -> list[tuple[Act, int]]:
    """What is to be done to rows that begin before which unix second, in this order.

    `keep_hours` of samples as they came, `keep_days` of everything; 0: they are kept for ever.
    """
    found: list[tuple[Act, int]] = []
    if keep_days:
        before = _floor(now - keep_days * 86_400, MINUTE_S)
        found += [(OLD_SAMPLES, before), (OLD_ROLLUPS, before)]
    if keep_hours:
        found.append((MINUTES, _floor(now - keep_hours * 3600, MINUTE_S)))
        found.append((HOURS, _floor(now - HOURLY_AFTER_S, HOUR_S)))
    return found


def first_slice(act: Act, before: int, *, oldest: float, seconds: int) -> Slice | None:
    """About so many seconds from the oldest row on, at least one width; None: there is nothing to do.

    No row of minutes or hours is divided between two slices, so that each is made once.
    """
    since = _floor(oldest, act.width)
    until = min(since + max(act.width, _floor(seconds, act.width)), before)
    return Slice(act, since, until) if since < until else None


def next_seconds(done: Slice, rows: int) -> int:
    """Of the slice behind this one, which had so many rows."""
    seconds = done.until - done.since
    if rows < FEW_ROWS:
        return min(LONGEST_S, seconds * 4)
    return seconds if rows <= MANY_ROWS else max(MINUTE_S, seconds // 2)


def _floor(value: float, step: int) -> int:
    return int(value // step) * step
