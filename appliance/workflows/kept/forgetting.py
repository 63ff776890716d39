"""Runs and events of long ago are forgotten: of each workflow the newest `keep_runs` stay, events `keep_events_days`.

Older runs stay as long as they are not over, or anything names them: a run that goes on from them, the step cache, a
capsule, what a failed or an open run was given, the origin of a dataset version or of a model. With a run go its jobs;
its events stay, under a name that no other run is given, and its log lines go a day later (see telemetry).

It is done in small transactions, and others have their turn between them: after years without a bound there may be
hundreds of thousands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from appliance.state import events, runs
from appliance.state.db import Database
from appliance.workflows.kept import keeping
from appliance.workflows.rooms import Rooms

log = logging.getLogger(__name__)

DAY_S = 86_400.0
LOOKED_AT = 500
"""Runs that are looked at in one step."""
RUNS = 20
"""That are removed in one transaction; a matrix makes a thousand rows of one run."""
EVENTS = 500
"""That are removed in one transaction."""


async def forget(rooms: Rooms, now: float, *, by_age: bool = True) -> None:
    """May be repeated, and ended at any instant. Without `by_age` the clock is not trusted: events stay."""
    if rooms.settings.keep_runs and (gone := await _forget_runs(rooms.db, rooms.settings.keep_runs)):
        log.info("%d runs are forgotten: there are newer ones", gone)
    if by_age and rooms.settings.keep_events_days:
        gone = await _forget_events(rooms.db, now - rooms.settings.keep_events_days * DAY_S)
        if gone:
            log.info("%d events are forgotten: too old", gone)


async def _forget_runs(db: Database, most: int) -> int:
    """From the newest down, so that a run goes before the one that it goes on from."""
    gone, spared = 0, _Spared(db)
    for uid, number in runs.beyond(db.read, most).items():
        while page := runs.page(db.read, uid, number, LOOKED_AT):
            alone = [run.id for run in page if run.alone]
            for some in (alone[at : at + RUNS] for at in range(0, len(alone), RUNS)):
                gone += spared.remove(some)
                await asyncio.sleep(0)
            number = page[-1].number - 1
            await asyncio.sleep(0)
    return gone


class _Spared:
    """The runs that are not over, or of which a volume stays: read again only where others have written meanwhile."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._read_at = -1
        self._ids: set[str] = set()

    def remove(self, chosen: Sequence[str]) -> int:
        """All others of them, in one transaction. How many those were."""
        with self._db.write() as db:
            if self._read_at != db.total_changes:
                self._ids = set(keeping.kept_runs(db))
            gone = sum(runs.remove(db, run) for run in chosen if run not in self._ids)
            self._read_at = db.total_changes
        return gone


async def _forget_events(db: Database, before: float) -> int:
    gone = 0
    while True:
        with db.write() as transaction:
            removed = events.expire(transaction, before, EVENTS)
        gone += removed
        if removed < EVENTS:
            return gone
        await asyncio.sleep(0)
