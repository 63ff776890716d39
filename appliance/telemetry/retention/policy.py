"""Which log lines stay, by age, by size, and by whether their run is still known. Pure.

The last lines of a failed run are why it failed, so they stay longer than others. Where the size is what is bounded,
the oldest lines go first, and those last ones only when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

DAY_S = 86_400.0
GRACE_S = DAY_S
"""Since the last line of a run that nobody knows: where runs vanished by mistake, there is time to bring them back."""
LAST_LINES = 1000
"""Of each container of a failed run, that stay longer."""
SLACK = 0.9
"""Of the bound, to which the lines are cut where they are above it: else each look would cut a little."""
GB = 1_000_000_000
RUN = "run"


@dataclass(frozen=True, slots=True)
class Limits:
    """0 in any: for ever, or as much as there is room."""

    days: float
    """For which lines are kept."""
    gb: float
    """That lines may take of the disk, in GB (10^9 bytes), compressed as they are stored."""
    failed_days: float
    """For which the last lines of failed runs are kept, where that is longer than `days`."""


@dataclass(frozen=True, slots=True)
class Known:
    """What there is, as those see it who own it. Asked before anything is read here: what is newer is left alone."""

    runs: Collection[str] | None
    """Names of all runs. None: not known, so nobody's lines are taken for those of a run that is gone."""
    failed: Collection[str] = ()
    """Names of those that failed."""
    containers: Collection[str] | None = None
    """Ids of all containers, running or not. None: not known, so no position in a log is forgotten."""


@dataclass(frozen=True, slots=True)
class Source:
    number: int
    kind: str
    name: str
    container: str


@dataclass(frozen=True, slots=True)
class Plan:
    orphans: tuple[int, ...]
    """Sources of runs that are gone: all their lines go, where the last is old enough."""
    orphans_before: float
    """The last line of such a run, in unix seconds."""
    failed: tuple[int, ...]
    """Sources of failed runs."""
    before: float | None
    """Lines older than this unix time go; None: none by their age."""
    failed_before: float | None
    """The same for the last lines of `failed`."""


def plan(sources: Iterable[Source], known: Known, limits: Limits, now: float, *, by_age: bool = True) -> Plan:
    """`by_age`: whether `now` is to be believed. Later, or with stricter limits, only more goes."""
    orphans: list[int] = []
    failed: list[int] = []
    for source in sources:
        if source.kind != RUN:
            continue
        if known.runs is not None and source.name not in known.runs:
            if by_age:
                orphans.append(source.number)
        elif source.name in known.failed:
            failed.append(source.number)
    before = now - limits.days * DAY_S if by_age and limits.days > 0 else None
    failed_before = None
    if before is not None and limits.failed_days > 0:
        failed_before = min(before, now - limits.failed_days * DAY_S)
    return Plan(tuple(orphans), now - GRACE_S, tuple(failed), before, failed_before)


def share_beyond(stored: int, limits: Limits) -> float:
    """How much of the lines, from the oldest on, goes so that `stored` bytes fit: 0 none, 1 all."""
    bound = limits.gb * GB
    if bound <= 0 or stored <= bound:
        return 0.0
    return 1.0 - SLACK * bound / stored
