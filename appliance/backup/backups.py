"""Backups as the daemon runs them: one at a time, with a row each, followed and cancelled.

What a kill leaves is found again at the start: `sweep` ends the row, and destroys the snapshots and the copy of the
home that nobody needs. In the target a backup that never ended is no point; the next one goes on from there.
"""

from __future__ import annotations

import asyncio
import calendar
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from appliance.backup.archive import Progress
from appliance.backup.point import ID, PREFIX
from appliance.backup.target import Target
from appliance.backup.work import ZFS, Work
from appliance.errors import ApplianceError, Conflict, NotFound, UsageError
from appliance.settings import Settings
from appliance.state import backups, events
from appliance.state.backups import CANCELED, FAILED, RUNNING, SUCCEEDED, Backup
from appliance.state.db import Database
from appliance.storage.zfs import send as zfs_send

log = logging.getLogger(__name__)

_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(slots=True)
class Run:
    """The backup that is under way."""

    row: Backup
    task: asyncio.Task[tuple[str, int]]
    progress: Progress
    changed: asyncio.Event


class Backups:
    """Belongs to the event loop's thread. `on_zfs`: the store is a ZFS one."""

    def __init__(
        self, db: Database, work: Work, settings: Settings, *, on_zfs: bool, clock: Callable[[], float]
    ) -> None:
        self._db = db
        self._work = work
        self._settings = settings
        self._on_zfs = on_zfs
        self._clock = clock
        self._run: Run | None = None
        self._forgets = ""
        """The target that is being forgotten: what is destroyed meanwhile must not be a new backup's."""

    async def start(self, target: str, *, verify: bool = False, keep: int = 0) -> Backup:
        """Begin; how it goes on is followed. `keep` > 0 removes all points but the newest so many afterwards.

        Raises UsageError for a target that cannot be one, Conflict while another backup runs.
        """
        self._check_alone()
        await self._check(target, verify=verify)
        newest = await _newest(target)
        self._check_alone()  # the target may have taken its time
        now = self._clock()
        row = Backup(new_id(now, newest), target, RUNNING, "", 0, now, None)
        with self._db.write() as db:
            backups.add(db, row)
        work = self._work.verify(row, self._tell) if verify else self._work.back_up(row, keep, self._tell)
        task = asyncio.create_task(work, name=f"backup {row.id}")
        self._run = Run(row, task, Progress("begins"), asyncio.Event())
        task.add_done_callback(self._ended)
        return row

    async def cancel(self, backup_id: str) -> None:
        """Returns when it has ended. One that has ended already stays as it is. Raises NotFound."""
        self.find(backup_id)
        if self._run and self._run.row.id == backup_id:
            self._run.task.cancel()
            await asyncio.wait({self._run.task})

    async def held(self, target: str) -> tuple[int, int]:
        """How many backups to `target` are known, and how many moments the store keeps for the next one.

        Raises NotFound where there was none.
        """
        known = sum(row.target == target for row in backups.every(self._db.read))
        if not known:
            raise NotFound(f"nothing was ever backed up to {target!r}", hint="`appliance backups` lists the targets")
        return known, await self._work.held(target)

    async def forget(self, target: str) -> tuple[int, int]:
        """Let go of what `held` counts, and answer that. Nothing at the target is touched, nor needed.

        Raises NotFound where nothing was backed up there, Conflict while a backup runs.
        """
        self._check_alone()
        self._forgets = target
        try:
            known, moments = await self.held(target)
            message = f"{moments} moments that were kept for the next backup are let go"
            with self._db.write() as db:
                backups.forget(db, target)
                events.record(db, "backup", target, "Forgotten", message, now=self._clock())
            await self._work.clear()
        finally:
            self._forgets = ""
        return known, moments

    def every(self) -> list[Backup]:
        """Newest first."""
        return [self._shown(row) for row in backups.every(self._db.read)]

    def find(self, backup_id: str) -> Backup:
        if row := backups.find(self._db.read, backup_id):
            return self._shown(row)
        raise NotFound(f"there was no backup {backup_id!r}", hint="`appliance backups` lists them")

    def progress(self, backup_id: str) -> Progress | None:
        """None: it does not run."""
        return self._run.progress if self._run and self._run.row.id == backup_id else None

    async def follow(self, backup_id: str) -> AsyncIterator[tuple[Backup, Progress | None]]:
        """How far it is, whenever that changes; the last one is how it ended."""
        while (run := self._run) and run.row.id == backup_id:
            run.changed.clear()
            yield self._shown(run.row), run.progress
            waiting = asyncio.create_task(run.changed.wait())
            try:
                await asyncio.wait({waiting, run.task}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        yield self.find(backup_id), None

    def health(self) -> tuple[bool, str] | None:
        """Whether all is well, and what there is to say. None: nothing was ever backed up."""
        latest: dict[str, Backup] = {}
        for row in backups.every(self._db.read):
            if row.phase in (SUCCEEDED, FAILED):
                latest.setdefault(row.target, row)
        if not latest:
            return None
        if failed := [row for row in latest.values() if row.phase == FAILED]:
            return False, "; ".join(f"the last one to {row.target} failed: {row.message}" for row in failed)
        newest = max(latest.values(), key=lambda row: row.created)
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(newest.created))
        return True, f"the last one was of {when}, to {newest.target}"

    async def sweep(self) -> None:
        """At start: nothing of a backup that was killed stays, but what is in its target."""
        message = "the daemon ended while it ran; run it again, it goes on from there"
        with self._db.write() as db:
            for row in backups.every(db):
                if row.finished is None:
                    backups.finish(db, row.id, phase=FAILED, message=message, size=row.bytes, now=self._clock())
        await self._work.sweep()

    async def close(self) -> None:
        if self._run is not None:
            self._run.task.cancel()
            await asyncio.wait({self._run.task})

    def _ended(self, task: asyncio.Task[tuple[str, int]]) -> None:
        run, self._run = self._run, None
        assert run is not None, "only one at a time"
        phase, size = FAILED, run.progress.written
        if task.cancelled():
            phase, message = CANCELED, "it was cancelled; what it has written is used by the next one"
        elif isinstance(error := task.exception(), ApplianceError):
            message = _in_one_line(error)
        elif error is not None:
            log.error("backup %s failed", run.row.id, exc_info=error)
            message = f"a defect in the appliance ({type(error).__name__}); see the daemon's log"
        else:
            phase, (message, size) = SUCCEEDED, task.result()
        self._finish(run.row, phase, message, size)
        run.changed.set()

    def _finish(self, row: Backup, phase: str, message: str, size: int) -> None:
        now = self._clock()
        level: events.Level = "error" if phase == FAILED else "info"
        try:
            with self._db.write() as db:
                backups.finish(db, row.id, phase=phase, message=message, size=size, now=now)
                events.record(db, "backup", row.id, phase, f"{row.target}: {message}", now=now, level=level)
        except ApplianceError as error:
            log.error("how backup %s ended cannot be stored: %s", row.id, error)

    def _check_alone(self) -> None:
        if self._run is not None:
            raise Conflict(
                f"backup {self._run.row.id} runs already",
                where=self._run.row.target,
                hint="wait for its end, or cancel it: `appliance backups` lists them",
            )
        if self._forgets:
            raise Conflict("a target is being forgotten", where=self._forgets, hint="repeat the command in a moment")

    async def _check(self, target: str, *, verify: bool) -> None:
        if target.startswith(ZFS):
            if not self._on_zfs:
                raise UsageError(
                    "the volumes are in plain directories, which cannot be sent to ZFS",
                    where=target,
                    hint="give a directory: `appliance backup /path/to/backups`",
                )
            if verify:
                raise UsageError("ZFS checks its data by itself", where=target, hint="`zpool scrub` its pool")
            return
        path = Path(target)
        if not path.is_absolute():
            raise UsageError(f"a target is an absolute path or zfs:POOL/DATASET, not {target!r}")
        place = await anyio.to_thread.run_sync(path.resolve, abandon_on_cancel=True)
        home = self._settings.home.resolve()
        if place == home or home in place.parents:
            raise UsageError(
                "the target lies in the home that is to be backed up",
                where=target,
                hint="give a directory on another disk",
            )

    def _tell(self, progress: Progress) -> None:
        if self._run is not None:
            self._run.progress = progress
            self._run.changed.set()

    def _shown(self, row: Backup) -> Backup:
        return replace(row, bytes=self._run.progress.written) if self._run and self._run.row.id == row.id else row


def new_id(now: float, newest: str = "") -> str:
    """Sorts by time, and after `newest`, the id of a clock that may have been ahead."""
    made = f"{time.strftime(_TIME, time.gmtime(now))}-{secrets.token_hex(3)}"
    if made > newest:
        return made
    try:
        after = calendar.timegm(time.strptime(newest.partition("-")[0], _TIME)) + 1
    except ValueError:  # it has the form of a time and is none: nothing comes after it
        return made
    return f"{time.strftime(_TIME, time.gmtime(after))}-{secrets.token_hex(3)}"


async def _newest(target: str) -> str:
    """Id of the newest point there; empty: there is none. A target that cannot be read is told by the backup itself."""
    try:
        if target.startswith(ZFS):
            names = await zfs_send.points(target.removeprefix(ZFS))
            ids = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
        else:
            ids = await anyio.to_thread.run_sync(Target(Path(target)).ids, abandon_on_cancel=True)
    except NotFound:
        return ""
    except ApplianceError as error:
        log.warning("it is not known which points there are: %s", error)
        return ""
    return max((found for found in ids if ID.fullmatch(found)), default="")


def _in_one_line(error: ApplianceError) -> str:
    where = f"{error.where}: " if error.where else ""
    hint = f"; {error.hint}" if error.hint else ""
    return f"{where}{error.message}{hint}"
