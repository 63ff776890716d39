"""Workspaces: the files of a notebook, with a past that is never rewritten.

A workspace is a row that points at a volume, its head. Going back clones a snapshot under a name of its own and moves
the pointer, in the transaction that also remembers the moment before. So a kill at any instant leaves the workspace
either before or after; what was made for a pointer that never moved has no row, and `sweep` removes it. Old heads
stay: they carry the snapshots, and undo clones from them.
"""

from __future__ import annotations

import logging
import secrets
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import anyio

from appliance.errors import ApplianceError, Conflict, NotFound, StorageError
from appliance.history.undo import ROLLBACK, UNDO, undo_target
from appliance.state import snapshots
from appliance.state.db import Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store
from appliance.storage.destroy import destroy_below
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

ROOM = "workspaces"


class Workspaces:
    """`uid` is the resource that owns the workspace. One operation at a time per workspace; others wait."""

    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def open(self, uid: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        """The head's directory. The first time an empty one is made, owned by (uid, gid) `owner`."""
        async with self._locks[uid]:
            if volume := snapshots.head(self._db.read, uid):
                return await in_thread(self._store.path, volume)
            first = f"{ROOM}/{uid}/1"
            path = await in_thread(self._store.create, first, owner=owner)
            with self._db.write() as db:
                snapshots.set_head(db, uid, first)
            return path

    async def snapshot(self, uid: str, *, cause: str, message: str = "") -> Snapshot:
        """Freeze the present content. Raises NotFound where nothing was ever opened."""
        async with self._locks[uid]:
            frozen = await self._freeze(uid, cause, message)
            with self._db.write() as db:
                snapshots.add(db, frozen)
            return frozen

    def timeline(self, uid: str) -> list[Snapshot]:
        """Newest first."""
        return snapshots.of_workspace(self._db.read, uid)[::-1]

    async def rollback(self, uid: str, snapshot_id: str) -> Snapshot:
        """Make that moment the present; nothing may be writing to the workspace. Returns the moment before."""
        async with self._locks[uid]:
            wanted = snapshots.find(self._db.read, uid, snapshot_id)
            if wanted is None:
                raise NotFound(
                    f"the workspace has no snapshot {snapshot_id!r}",
                    where=uid,
                    hint="`appliance notebook history NAME` lists them",
                )
            return await self._go_to(uid, wanted, ROLLBACK)

    async def undo(self, uid: str) -> None:
        """Take back the last rollback that is not undone yet; what was written since then is kept as a snapshot.

        Raises Conflict where there is none.
        """
        async with self._locks[uid]:
            target = undo_target(snapshots.of_workspace(self._db.read, uid))
            if target is None:
                raise Conflict(
                    "there is no rollback to undo",
                    where=uid,
                    hint="`appliance notebook history NAME` lists the moments to go back to",
                )
            await self._go_to(uid, target, UNDO)

    async def destroy(self, uid: str) -> None:
        """The workspace and all its history. Gone already counts as done; what a clone elsewhere needs stays."""
        async with self._locks[uid]:
            with self._db.write() as db:
                snapshots.forget(db, uid)
            await self._destroy_unknown(uid, set())

    async def sweep(self) -> None:
        """Remove volumes and snapshots that no row knows: what a kill has left of an operation that never happened."""
        found = await in_thread(self._store.volumes, ROOM)
        for uid in sorted({volume.split("/")[1] for volume in found}):
            async with self._locks[uid]:
                timeline = snapshots.of_workspace(self._db.read, uid)
                known = {snapshot.volume for snapshot in timeline}
                if head := snapshots.head(self._db.read, uid):
                    known.add(head)
                await self._destroy_unknown(uid, known)
                await self._destroy_unknown_snapshots(known, {snapshot.id for snapshot in timeline})

    # parts; the caller holds the lock of `uid`

    async def _freeze(self, uid: str, cause: str, message: str) -> Snapshot:
        volume = self._head(uid)
        frozen = Snapshot(secrets.token_hex(5), uid, volume, cause, message, self._clock())
        await in_thread(self._store.snapshot, volume, frozen.id)
        return frozen

    async def _go_to(self, uid: str, wanted: Snapshot, cause: str) -> Snapshot:
        before = await self._freeze(uid, cause, f"before the {cause} to {wanted.id}")
        new = await self._next_volume(uid)
        try:
            await in_thread(self._store.clone, wanted.volume, wanted.id, new)
        except ApplianceError:
            await self._give_up(before)
            raise
        with self._db.write() as db:
            snapshots.add(db, before)
            snapshots.set_head(db, uid, new)
        return before

    async def _give_up(self, before: Snapshot) -> None:
        try:
            await in_thread(self._store.destroy_snapshot, before.volume, before.id)
        except ApplianceError as error:
            log.warning("snapshot %s of %s is left for the next sweep: %s", before.id, before.volume, error)

    async def _next_volume(self, uid: str) -> str:
        """A name that no volume has, not even one that a killed rollback has left behind."""
        prefix = f"{ROOM}/{uid}"
        used = [*await in_thread(self._store.volumes, prefix), self._head(uid)]
        return f"{prefix}/{1 + max(_number(volume) for volume in used)}"

    async def _destroy_unknown(self, uid: str, known: set[str]) -> None:
        try:
            await in_thread(destroy_below, self._store, f"{ROOM}/{uid}", keep=known)
        except (Conflict, StorageError) as error:
            log.warning("some of the past of workspace %s stays: %s", uid, error)

    async def _destroy_unknown_snapshots(self, volumes: set[str], known: set[str]) -> None:
        for volume in sorted(volumes):
            if not await in_thread(self._store.exists, volume):
                log.error("volume %s is missing from the store", volume)
                continue
            for found in set(await in_thread(self._store.snapshots, volume)) - known:
                log.info("snapshot %s of %s belongs to no history; it is destroyed", found, volume)
                try:
                    await in_thread(self._store.destroy_snapshot, volume, found)
                except (Conflict, StorageError) as error:
                    log.warning("snapshot %s of %s stays: %s", found, volume, error)

    def _head(self, uid: str) -> str:
        if volume := snapshots.head(self._db.read, uid):
            return volume
        raise NotFound("the workspace has no files yet", where=uid, hint="start the notebook once")


def _number(volume: str) -> int:
    last = volume.rsplit("/", 1)[-1]
    return int(last) if last.isdecimal() else 0
