"""The volumes that a workspace is made of: its head, and the older heads with the moments they carry.

Every function here is one step of a larger one: the caller holds the workspace's lock, and makes the effect real with
one transaction. What never became real has no row, and `clear` finds it again.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Collection

from appliance.errors import ApplianceError, Conflict, NotFound, StorageError
from appliance.history.causes import Cause
from appliance.state import snapshots
from appliance.state.db import Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store
from appliance.storage.destroy import destroy_below
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

ROOM = "workspaces"
_OURS = re.compile(r"[0-9a-f]{10}")
"""The ids of moments. What else there is in the store belongs to a backup, or to the owner of the pool."""
_PASSING = re.compile(r"[0-9a-f]{10}|backup-.*")
"""Snapshots that do not keep an old head which carries no moment any more."""


def new_id() -> str:
    return secrets.token_hex(5)


class Volumes:
    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._needed: set[tuple[str, str]] = set()
        """Volume and snapshot of what stands for no moment and cannot go yet; each is told once."""

    def head(self, uid: str) -> str:
        """Raises NotFound where nothing was ever opened."""
        if volume := snapshots.head(self._db.read, uid):
            return volume
        raise NotFound("the workspace has no files yet", where=uid, hint="start the notebook once")

    async def freeze(self, uid: str, cause: Cause, message: str, author: str, subject: str) -> Snapshot:
        """Keep the present content in the store. The moment has no row yet."""
        volume = self.head(uid)
        snapshot_id, created = new_id(), self._clock()
        await in_thread(self._store.snapshot, volume, snapshot_id)
        written = await self._written(volume, snapshot_id)
        return Snapshot(snapshot_id, uid, volume, cause, message, created, author, subject, written)

    async def drop(self, moment: Snapshot) -> None:
        """Free what a moment without a row keeps. What cannot go now is left for the next `clear`."""
        try:
            await in_thread(self._store.destroy_snapshot, moment.volume, moment.id)
        except ApplianceError as error:
            log.info("snapshot %s of %s stays for now: %s", moment.id, moment.volume, _first_line(error))

    async def discard(self, volume: str) -> None:
        """Remove a volume that never became a head."""
        try:
            await in_thread(self._store.destroy, volume)
        except ApplianceError as error:
            log.warning("volume %s is left for the next sweep: %s", volume, error)

    async def next_volume(self, uid: str) -> str:
        """A name that no volume has, not even one that a killed rollback has left behind."""
        prefix = f"{ROOM}/{uid}"
        used = [*await in_thread(self._store.volumes, prefix), self.head(uid)]
        return f"{prefix}/{1 + max(_number(volume) for volume in used)}"

    async def clear(self, uid: str) -> None:
        """Remove the volumes that neither are the head nor carry a moment. A missing one is told."""
        known = self.known(uid)
        for volume in sorted(known):
            if not await in_thread(self._store.exists, volume):
                log.error("volume %s is missing from the store", volume)
        for volume in await in_thread(self._store.volumes, f"{ROOM}/{uid}") if known else ():
            if volume not in known and await self._foreign(volume):
                log.info("volume %s carries snapshots that are not of this appliance; it stays", volume)
                known.add(volume)
        await self.destroy_all(uid, keep=known)

    async def clear_snapshots(self, uid: str) -> None:
        """Remove the snapshots that are ours and stand for no moment."""
        moments = {moment.id for moment in snapshots.of_workspace(self._db.read, uid)}
        for volume in sorted(self.known(uid)):
            if not await in_thread(self._store.exists, volume):
                continue
            for found in await in_thread(self._store.snapshots, volume):
                if _OURS.fullmatch(found) and found not in moments:
                    await self._destroy_snapshot(volume, found)

    async def destroy_all(self, uid: str, *, keep: Collection[str] = ()) -> None:
        """What a clone elsewhere needs goes over to it; what cannot go now is told and tried again by a sweep."""
        try:
            await in_thread(destroy_below, self._store, f"{ROOM}/{uid}", keep=keep)
        except (Conflict, StorageError) as error:
            log.warning("some of the past of workspace %s stays: %s", uid, error)

    def known(self, uid: str) -> set[str]:
        """The volumes that the state points at."""
        volumes = {moment.volume for moment in snapshots.of_workspace(self._db.read, uid)}
        if head := snapshots.head(self._db.read, uid):
            volumes.add(head)
        return volumes

    async def _written(self, volume: str, snapshot_id: str) -> int | None:
        try:
            return await in_thread(self._store.written, volume, snapshot_id)
        except ApplianceError as error:
            log.warning("it is not known how much snapshot %s of %s keeps: %s", snapshot_id, volume, error)
            return None

    async def _foreign(self, volume: str) -> bool:
        return not all(_PASSING.fullmatch(found) for found in await in_thread(self._store.snapshots, volume))

    async def _destroy_snapshot(self, volume: str, snapshot_id: str) -> None:
        try:
            await in_thread(self._store.destroy_snapshot, volume, snapshot_id)
        except Conflict as error:  # a fork or a reader needs it
            if (volume, snapshot_id) not in self._needed:
                self._needed.add((volume, snapshot_id))
                log.info("snapshot %s of %s stays for now: %s", snapshot_id, volume, _first_line(error))
        except StorageError as error:
            log.warning("snapshot %s of %s stays: %s", snapshot_id, volume, error)
        else:
            self._needed.discard((volume, snapshot_id))
            log.info("snapshot %s of %s stood for no moment; it is destroyed", snapshot_id, volume)


def _first_line(error: ApplianceError) -> str:
    """ZFS goes on with a line for each clone."""
    return error.message.partition("\n")[0]


def _number(volume: str) -> int:
    last = volume.rsplit("/", 1)[-1]
    return int(last) if last.isdecimal() else 0
