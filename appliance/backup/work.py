"""One backup from begin to end: moments, the point, the target, and letting go of all that was held for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from appliance.backup import child
from appliance.backup.archive import Archive, Progress
from appliance.backup.point import PREFIX, ROOM
from appliance.backup.stage import LeaveOut, Staged, freeze, nothing, snapshot_of
from appliance.backup.target import Target
from appliance.datasets import uses
from appliance.datasets.datasets import Datasets
from appliance.errors import ApplianceError, NotFound
from appliance.history.workspaces import Workspaces
from appliance.settings import Settings
from appliance.state import backups, holds, snapshots, versions
from appliance.state.backups import SUCCEEDED, Backup
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.threads import ended, in_thread
from appliance.storage.zfs import send as zfs_send
from appliance.storage.zfs.store import ZfsStore
from appliance.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)

ZFS = "zfs:"
OWNER = "backup/"
"""Begins the owner of a hold, before the backup's id."""

Tell = Callable[[Progress], None]


class Work:
    """`origin` is the appliance's, see `home.origin`; `leave_out` tells which volumes are not worth a backup."""

    def __init__(
        self,
        *,
        db: Database,
        store: Store,
        workspaces: Workspaces,
        datasets: Datasets,
        telemetry: Telemetry,
        settings: Settings,
        instance: str,
        origin: str,
        leave_out: LeaveOut = nothing,
    ) -> None:
        self._leave_out = leave_out
        self._db = db
        self._store = store
        self._workspaces = workspaces
        self._datasets = datasets
        self._telemetry = telemetry
        self._settings = settings
        self._instance = instance
        self._origin = origin

    async def back_up(self, row: Backup, keep: int, tell: Tell) -> tuple[str, int]:
        """What was done, in words, and how many bytes are new in the target. `keep` 0 keeps all points."""
        staged, done = None, False
        try:
            await self._take_moments(row, tell)
            self._hold_versions(row)
            tell(Progress("takes the point"))
            zfs = row.target.startswith(ZFS)
            staged = await self._freeze(row, whole=zfs)
            tell(Progress("copies the logs"))
            await self._telemetry.copy(staged.folder)
            answer = await (self._send if zfs else self._archive)(row, staged, keep, tell)
            done = True
            return answer
        finally:
            await self._at_the_end(row, staged, done=done)

    async def verify(self, row: Backup, tell: Tell) -> tuple[str, int]:
        """Raises Damaged where something is not what was written."""
        target = await anyio.to_thread.run_sync(Target.open, Path(row.target))

        def listen(answer: child.Answer) -> None:
            tell(Progress("checking every byte", int(answer["trees"]), int(answer["of"]), int(answer["read"])))

        async with _locked(target, write=False), child.started("check") as program:
            answer = await program.ask({"target": row.target}, listen)
        return f"all {answer['points']} points are whole: {size(int(answer['read']))} checked", 0

    async def held(self, target: str) -> int:
        """Snapshots of volumes that are kept only so that the next backup to `target` is an increment."""
        return await in_thread(_held, self._store, self._kept() - self._kept(forgotten=target))

    async def sweep(self) -> None:
        """Nothing of a backup that a kill has ended stays, but what is in its target."""
        with self._db.write() as db:
            for held in list(holds.every(db).values()):
                for hold in held:
                    if hold.owner.startswith(OWNER):
                        holds.release(db, hold.target, hold.owner)
        await self.clear()

    async def clear(self) -> None:
        """Destroy what no backup to any known target needs. Only while none runs."""
        await self._clear(self._kept())

    # the two forms

    async def _archive(self, row: Backup, staged: Staged, keep: int, tell: Tell) -> tuple[str, int]:
        target = await anyio.to_thread.run_sync(Target.create, Path(row.target), self._origin)
        async with _locked(target, write=True):
            await anyio.to_thread.run_sync(target.clear)
            frozen = not (await in_thread(self._store.info)).instant
            async with child.started("pack") as program:
                archive = Archive(self._store, target, staged, program, frozen=frozen, tell=tell)
                point = await archive.run(created=row.created, instance=self._instance, origin=self._origin)
            await _in_full(anyio.to_thread.run_sync(target.publish, point))
            if keep and not _cancelled():
                tell(Progress("removes old points", written=archive.written))
                with suppress(asyncio.CancelledError):
                    async with child.started("prune") as program:
                        await program.ask({"target": row.target, "keep": keep, "new": row.id}, lambda _: None)
        said = f"{len(point.volumes)} volumes, {size(point.bytes)} in all, {size(archive.written)} new"
        return said + _without(staged) + _left(keep), archive.written

    async def _send(self, row: Backup, staged: Staged, keep: int, tell: Tell) -> tuple[str, int]:
        assert isinstance(self._store, ZfsStore), "checked at the start"
        dataset = row.target.removeprefix(ZFS)
        await in_thread(self._store.snapshot, staged.home, staged.snapshot)
        names = await in_thread(_present, self._store, staged)
        sent: zfs_send.Sent | None = None
        while sent is None:
            try:
                progress = _sending(names, tell)
                sent = await zfs_send.send(
                    self._store, names, staged.snapshot, dataset, owner=self._origin, progress=progress
                )
            except ApplianceError:
                before, names = names, await in_thread(_present, self._store, staged)
                if names == before:
                    raise  # else a run has ended meanwhile, and its volumes went with it
        if keep and not _cancelled():
            tell(Progress("removes old points", written=sent.bytes))
            with suppress(asyncio.CancelledError):
                await zfs_send.prune(dataset, (await zfs_send.points(dataset))[-keep:])
        said = f"{len(names)} volumes, {sent.volumes} with something new, {size(sent.bytes)} sent"
        return said + _without(staged) + _left(keep), sent.bytes

    # what is taken and held for it

    async def _take_moments(self, row: Backup, tell: Tell) -> None:
        """What is in a backup is in the timeline too: a moment of each workspace that has changed since its last."""
        for uid in sorted(snapshots.uids(self._db.read)):
            tell(Progress("takes a moment of each workspace"))
            with suppress(NotFound):  # it was deleted meanwhile
                if await self._workspaces.changed(uid):
                    await self._workspaces.snapshot(uid, cause="backup", author="appliance", subject=f"backup {row.id}")

    def _hold_versions(self, row: Backup) -> None:
        """So that removing one is refused before it has begun."""
        with self._db.write() as db:
            for version in versions.committed(db):
                target = uses.target(version.dataset, version.version)
                holds.put(db, holds.Hold(target, f"{OWNER}{row.id}", "it is being backed up", row.created))

    async def _freeze(self, row: Backup, *, whole: bool) -> Staged:
        """A cancellation waits for the volume that is being frozen, and for no other."""
        stop = threading.Event()
        settings, leave_out = self._settings, self._leave_out
        freezing = asyncio.ensure_future(
            in_thread(freeze, self._store, settings, row.id, stop, whole=whole, leave_out=leave_out)
        )
        try:
            return await asyncio.shield(freezing)
        except asyncio.CancelledError:
            stop.set()
            await ended(freezing)
            raise

    async def _at_the_end(self, row: Backup, staged: Staged | None, *, done: bool) -> None:
        """Let go, all of it, however often the caller is cancelled; how the backup has ended is decided by then."""
        letting_go = asyncio.ensure_future(self._let_go(row, staged, done=done))
        try:
            await asyncio.shield(letting_go)
        except asyncio.CancelledError:
            await ended(letting_go)
            letting_go.result()

    async def _let_go(self, row: Backup, staged: Staged | None, *, done: bool) -> None:
        with self._db.write() as db:
            holds.release_all(db, f"{OWNER}{row.id}")
        self._store.gate.unpin(row.id)
        kept = self._kept(ended=row if done else None, unsent="" if staged else row.id)
        if staged and row.target.startswith(ZFS):
            kept.add(staged.snapshot)
        await self._clear(kept)
        for sweep in (self._workspaces.sweep, self._datasets.sweep):  # what was pinned may go
            try:
                await sweep()
            except ApplianceError as error:
                log.warning("what waited for the backup stays until the next start: %s", error)

    async def _clear(self, kept: Collection[str]) -> None:
        """Destroy the copies of the home, and the snapshots of backups but those in `kept`."""
        try:
            await in_thread(_clear, self._store, kept)
        except ApplianceError as error:
            log.warning("what the backup has left is tried again at the next start: %s", error)

    def _kept(self, *, ended: Backup | None = None, unsent: str = "", forgotten: str = "") -> set[str]:
        """Of each dataset that was sent to the last point, where the next increment begins, and a later attempt.

        `ended` has just been sent: it takes the place of what there was at its target. Of `unsent`, an id, nothing is
        in its target. `forgotten` is a target for which nothing is kept.
        """
        newest: dict[str, list[Backup]] = {}
        for row in backups.every(self._db.read):
            if row.id == unsent or row.target == forgotten or (ended and row.target == ended.target):
                continue
            if row.target.startswith(ZFS):
                newest.setdefault(row.target, []).append(row)
        kept = set()
        for rows in newest.values():
            sent = next((row for row in rows if row.phase == SUCCEEDED), rows[0])
            kept |= {snapshot_of(rows[0].id), snapshot_of(sent.id)}
        return kept


async def _in_full(publishing: Coroutine[Any, Any, None]) -> None:
    """A cancellation meanwhile comes too late, for the point is there: only `_cancelled` tells of it."""
    running = asyncio.ensure_future(publishing)
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await ended(running)
        running.result()


def _cancelled() -> bool:
    """Somebody has asked this task to end, though it goes on."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _without(staged: Staged) -> str:
    count = staged.left_out
    if not count:
        return ""
    return f"; without {count} volume{'' if count == 1 else 's'} that can be made or fetched again"


def _left(keep: int) -> str:
    return "; it was cancelled after its point was made: old points may be left" if keep and _cancelled() else ""


def _held(store: Store, names: Collection[str]) -> int:
    """How many snapshots of these names there are, in all volumes."""
    count = 0
    for volume in store.volumes():
        with suppress(NotFound):  # it went away meanwhile
            count += sum(snapshot in names for snapshot in store.snapshots(volume))
    return count


def _clear(store: Store, kept: Collection[str]) -> None:
    """The homes first: they hold the key of the secrets. What one volume has left keeps no other from its turn."""
    volumes = store.volumes()
    homes = [volume for volume in volumes if volume.startswith(f"{ROOM}/home/")]
    for volume in homes:
        with _later(volume):
            store.destroy(volume)
    for volume in sorted(set(volumes) - set(homes)):
        with _later(volume):
            for snapshot in store.snapshots(volume):
                if snapshot.startswith(PREFIX) and snapshot not in kept:
                    store.destroy_snapshot(volume, snapshot)


@contextmanager
def _later(volume: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        log.debug("volume %s went away meanwhile: %s", volume, error)
    except ApplianceError as error:
        log.warning("what the backup has left of volume %s is tried again at the next start: %s", volume, error)


@asynccontextmanager
async def _locked(target: Target, *, write: bool) -> AsyncIterator[None]:
    """The lock of a target that may hang: in threads. Where the caller is cancelled while one waits, the lock is freed
    with the last reference to it."""
    lock = target.lock(write=write)
    await anyio.to_thread.run_sync(lock.__enter__)
    try:
        yield
    finally:
        freeing = asyncio.ensure_future(anyio.to_thread.run_sync(lock.__exit__, None, None, None))
        with suppress(asyncio.CancelledError):  # how the work has ended is decided by then
            await asyncio.shield(freeing)


def _present(store: Store, staged: Staged) -> list[str]:
    """The volumes of the point that are still there."""
    names = [*(planned.name for planned in staged.volumes), staged.home]
    return [name for name in names if store.exists(name) and staged.snapshot in store.snapshots(name)]


def _sending(names: list[str], tell: Tell) -> zfs_send.Progress:
    loop = asyncio.get_running_loop()

    def progress(volume: str, sent: int, _: int | None) -> None:
        done = names.index(volume) if volume in names else 0
        loop.call_soon_threadsafe(tell, Progress(volume, done, len(names), sent, sent))

    return progress


def size(count: float) -> str:
    """In words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
