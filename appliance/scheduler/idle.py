"""Whether who holds a GPU uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.scheduler import words

BUSY_PERCENT = 1
"""A card with so much utilisation works."""


@dataclass(frozen=True, slots=True)
class Use:
    """What is known of one lease's use of its cards."""

    seen: float
    """Until when it is known."""
    busy: float
    """When it last worked, or was given them."""
    known: bool = True
    """False: the driver does not tell. A MIG instance, for one, has no utilisation."""


def used(before: Use, utilisations: Sequence[int | None], *, now: float) -> Use:
    """`utilisations`: percent of each of the lease's cards in the last sample; None: it cannot be seen."""
    if any(percent is not None and percent >= BUSY_PERCENT for percent in utilisations):
        return Use(now, now)
    if not utilisations or any(percent is None for percent in utilisations):
        return Use(now, before.busy, known=False)
    # what happened while nobody could look may have been work: idleness is counted from now on
    return Use(now, before.busy if before.known else now)


@dataclass(frozen=True, slots=True)
class Idle:
    state: Literal["busy", "idle", "stop", "unknown"]
    """idle: to be shown and warned of; stop: it may be stopped, for somebody waits for such a card."""
    words: str = ""


def judge(use: Use, *, after_s: float, stop: bool, waiting: Sequence[str], now: float) -> Idle:
    """`stop`: who holds an idle GPU is stopped when somebody waits; `waiting`: for whom its cards would do."""
    if not use.known:
        return Idle("unknown", "the driver does not tell whether its GPU works; it is not stopped for that")
    if now - use.busy < after_s:
        return Idle("busy")
    told = f"its GPU has done nothing since {words.moment(use.busy, now)}"
    if waiting:
        told += f", and {words.listed(waiting)} {'waits' if len(set(waiting)) == 1 else 'wait'} for one"
    return Idle("stop" if stop and waiting else "idle", told)
