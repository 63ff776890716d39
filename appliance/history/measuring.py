"""Finds out what every volume holds, in the background: in a plain directory that is a walk over all files.

One report at a time; whoever asks meanwhile gets the last one and how far the next has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.errors import ApplianceError, NotFound
from appliance.history import space
from appliance.history.space import Forecast, Growth, Holder, Known, Owner, Written
from appliance.state import holds, resources, runs, snapshots, trash, versions
from appliance.state.db import Database
from appliance.storage.base import Reclaim, Store, Usage
from appliance.storage.names import part
from appliance.storage.room import Outlook, Room, low_mark
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

KEPT_S = 300.0
"""A report is good for so long."""
LOW_KEPT_S = 15.0
"""The same while space is low: what fills the disk may have come since."""
_KINDS = {"notebook": "workspaces", "dataset": "datasets"}


@dataclass(frozen=True, slots=True)
class Progress:
    done: int
    total: int
    """Volumes."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the volumes hold, as it was at `measured`, unix seconds."""

    measured: float
    took_s: float
    owners: tuple[Owner, ...]
    holders: tuple[Holder, ...]
    problems: tuple[str, ...]
    """What could not be measured, in words."""


@dataclass(frozen=True, slots=True)
class Answer:
    outlook: Outlook
    low: int
    """Bytes that must be free for new work to begin, where the volumes lie."""
    why: str
    """Why new work waits; empty: it does not."""
    growth: Growth
    forecast: Forecast
    report: Report | None
    """None: the first one is being made."""
    progress: Progress | None
    """Of the report that is being made; None: none is."""


class SpaceReports:
    """`low` is the setting in bytes, as `room` has it."""

    def __init__(self, db: Database, store: Store, room: Room, *, low: int, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._room = room
        self._low = low
        self._clock = clock
        self._report: Report | None = None
        self._progress = Progress(0, 0)
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Gives up the report that is being made."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def demand(self, what: str) -> None:
        """For work that a person asks for and waits for. Raises NoSpace while disk space is low."""
        self._room.demand(what)

    async def ask(self, *, fresh: bool, wait_s: float) -> Answer:
        """The last report; a new one is begun where it is old, or `fresh`, and waited for up to `wait_s`."""
        running = self._task is not None and not self._task.done()
        kept_s = LOW_KEPT_S if self._room.why() else KEPT_S
        old = self._report is None or self._clock() - self._report.measured >= kept_s
        if not running and (old or fresh):
            self._progress = Progress(0, 0)
            self._task = asyncio.create_task(self._measure(), name="space report")
        if self._task and not self._task.done() and wait_s:
            await asyncio.wait({self._task}, timeout=wait_s)
        outlook = self._room.outlook or await self._room.look()
        volumes = outlook.places[0]
        low = low_mark(volumes.total, self._low)
        pace = self.pace()
        return Answer(
            outlook,
            low,
            self._room.why(),
            pace,
            space.forecast(volumes.free, low, pace),
            self._report,
            self._progress if self._task and not self._task.done() else None,
        )

    def pace(self) -> Growth:
        """How fast the volumes grow. Reads the state only."""
        now, db = self._clock(), self._db.read
        written = [Written(at, size) for at, size in snapshots.written_since(db, now - space.WINDOW_S)]
        seen: set[str] = set()
        for version in versions.committed(db):
            # a branch adds nothing, and what a version that began as another's copy has added nobody knows
            size = 0 if version.volume in seen else None if version.parent else version.bytes
            written.append(Written(version.committed or version.created, size))
            seen.add(version.volume)
        oldest = [*(each.at for each in written), *filter(None, [snapshots.oldest(db)])]
        pace = space.growth(written, min(oldest, default=None), now)
        return space.bounded(pace, sum(owner.disk for owner in self._report.owners)) if self._report else pace

    def warning(self, within_days: float) -> str:
        """In words, where the volumes are full so soon at this pace; else empty."""
        if self._room.outlook is None:
            return ""
        days = space.forecast(self._room.outlook.places[0].free, 0, self.pace()).full_in_days
        if days is None or days > within_days:
            return ""
        return f"full in about {max(1, round(days))} days at the pace of the last week: `appliance space`"

    async def _measure(self) -> None:
        try:
            self._report = await self._make()
        except ApplianceError as error:
            log.warning("no space report: %s", error)
            self._report = Report(self._clock(), 0.0, (), (), (f"{error.message}; {error.hint}",))
        except Exception:
            log.exception("the space report failed")
            self._report = Report(self._clock(), 0.0, (), (), ("the report failed; the daemon's log says why",))

    async def _make(self) -> Report:
        began = time.monotonic()
        volumes = await in_thread(self._store.volumes)
        usages: dict[str, Usage] = {}
        problems: list[str] = []
        for number, volume in enumerate(volumes):
            self._progress = Progress(number, len(volumes))
            try:
                usages[volume] = await in_thread(self._store.usage, volume)
            except NotFound:
                continue  # it went meanwhile
            except ApplianceError as error:
                problems.append(f"{volume} is not counted: {error.message}")
        known = self._known()
        groups = []
        for volume, frozen in space.groups_to_ask(usages, known):
            if back := await self._reclaimable(volume, frozen, problems):
                groups.append((volume, frozen, back))
        took = time.monotonic() - began
        owners, holders = space.owners(usages, known), space.holders(usages, groups, known)
        return Report(self._clock(), took, tuple(owners), tuple(holders), tuple(problems))

    async def _reclaimable(self, volume: str, frozen: Sequence[str], problems: list[str]) -> Reclaim | None:
        try:
            return await in_thread(self._store.reclaimable, volume, frozen)
        except NotFound:
            return None  # it went meanwhile
        except ApplianceError as error:
            problems.append(f"what the snapshots of {volume} hold together is not known: {error.message}")
            return None

    def _known(self) -> Known:
        db = self._db.read
        names = {
            f"{_KINDS[row.kind]}/{row.uid}": (row.kind, row.name) for row in resources.every(db) if row.kind in _KINDS
        }
        names |= {f"{_KINDS[row.resource.kind]}/{row.uid}": ("deleted", row.name) for row in trash.every(db)}
        names |= {f"runs/{part(id_)}": ("run", name) for id_, name in runs.names(db).items()}
        ended = {f"runs/{part(id_)}": at for id_, at in runs.ends(db).items()}
        heads = snapshots.heads(db)
        origins = {f"workspaces/{snapshots.origin(db, uid).partition('@')[0]}" for uid in heads}
        parents = {
            f"datasets/{parent}"
            for row in versions.committed(db)
            if (parent := row.parent.partition(":")[0]) not in ("", row.dataset)
        }
        return Known(
            names=names,
            sources=origins | parents,
            heads=set(heads.values()),
            moments={moment.id: moment for moment in snapshots.every(db)},
            ended=ended,
            held={target.partition("/")[2] for target in holds.every(db, "snapshot/")},
        )
