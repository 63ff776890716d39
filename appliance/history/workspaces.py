"""Workspaces: the files of a notebook, with a past that is never rewritten.

A workspace is a row that points at a volume, its head. Going back clones a snapshot under a name of its own and moves
the pointer, in the transaction that also remembers the moment before. So a kill at any instant leaves the workspace
either before or after; what was made for a pointer that never moved has no row, and `sweep` removes it. Old heads
stay as long as they carry a moment: undo clones from them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import anyio

from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.history import looking, pruning, restore
from appliance.history.causes import FORK, RESTORE, ROLLBACK, UNDO, Cause
from appliance.history.pruning import Pruning
from appliance.history.retention import Policy
from appliance.history.undo import undo_target
from appliance.history.volumes import ROOM, Volumes
from appliance.paths import encode
from appliance.state import holds, snapshots
from appliance.state.db import Connection, Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store
from appliance.storage.threads import in_thread
from appliance.storage.trees import tree

log = logging.getLogger(__name__)

NOW = "now"
"""Stands for the live content where a moment is asked for."""
USER, SESSION = "user", "notebook"
"""Owners of holds: a person, and whoever has the notebook's own token, as code in a session does."""
"""The owner of a hold that was put by hand."""


class Workspaces:
    """`uid` is the resource that owns the workspace. One operation at a time per workspace; others wait."""

    def __init__(self, db: Database, store: Store, clock: Callable[[], float]) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._volumes = Volumes(db, store, clock)
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

    # -- the timeline

    async def snapshot(
        self, uid: str, *, cause: Cause, message: str = "", author: str = "", subject: str = ""
    ) -> Snapshot:
        """Freeze the present content. Raises NotFound where nothing was ever opened."""
        async with self._locks[uid]:
            frozen = await self._volumes.freeze(uid, cause, message, author, subject)
            with self._db.write() as db:
                snapshots.add(db, frozen)
            return frozen

    def timeline(self, uid: str) -> list[Snapshot]:
        """Newest first."""
        return snapshots.of_workspace(self._db.read, uid)[::-1]

    def newest(self, uid: str) -> Snapshot | None:
        return snapshots.newest(self._db.read, uid)

    def count(self, uid: str) -> int:
        """Of its moments."""
        return snapshots.count(self._db.read, uid)

    def find(self, uid: str, snapshot_id: str) -> Snapshot:
        """Raises NotFound for what is no moment of this workspace."""
        if found := snapshots.find(self._db.read, uid, snapshot_id):
            return found
        raise NotFound(
            f"the workspace has no snapshot {snapshot_id!r}",
            where=uid,
            hint="`appliance notebook history NAME` lists them",
        )

    def head(self, uid: str) -> str:
        """The volume that is the workspace now. Raises NotFound where nothing was ever opened."""
        return self._volumes.head(uid)

    async def changed(self, uid: str) -> bool:
        """The live content differs from the newest snapshot of it; in doubt True."""
        return await in_thread(self._store.changed, self.head(uid))

    # -- looking at a moment; nothing here touches the workspace

    def view(self, uid: str, moment: str) -> looking.View:
        """`async with workspaces.view(uid, "now" or an id) as path:`; read-only by promise. Raises NotFound.

        The content is hostile: walk it with `trees.tree` or in a child program. A rollback meanwhile changes nothing.
        """
        if moment == NOW:
            return looking.view(self._store, self.head(uid), None)
        found = self.find(uid, moment)
        return looking.view(self._store, found.volume, found.id)

    async def hints(self, uid: str, one: str, other: str) -> Iterator[str] | None:
        """Paths that may differ between two moments, in whatever order, where the store can tell; else None.

        Taking from the iterator blocks.
        """
        order = [NOW, *(moment.id for moment in self.timeline(uid))]
        newer, older = sorted((one, other), key=order.index)
        if older == NOW:
            return iter(())
        volume = self.head(uid) if newer == NOW else self.find(uid, newer).volume
        return await in_thread(self._store.hints, volume, older, None if newer == NOW else newer)

    async def listing(self, uid: str, moment: str, path: str = "") -> list[tree.TreeEntry]:
        """What lies in the directory `path`, by name. Raises NotFound, UsageError for a path that leads out."""
        async with self.view(uid, moment) as root:
            return await in_thread(tree.list_directory, root, path)

    async def first_of(self, uid: str, moment: str, path: str, most: int) -> tuple[list[tree.TreeEntry], int]:
        """The first `most` of that list, and how many there are."""
        async with self.view(uid, moment) as root:
            return await in_thread(tree.list_first, root, path, most)

    @asynccontextmanager
    async def reading(self, uid: str, moment: str, path: str) -> AsyncIterator[BinaryIO]:
        """The regular file `path`, open inside the `async with`. Raises NotFound, UsageError."""
        async with self.view(uid, moment) as root:
            file = await in_thread(tree.open_file, root, path)
            with file:
                yield file

    # -- moving

    async def rollback(self, uid: str, snapshot_id: str, *, author: str = "", subject: str = "") -> Snapshot:
        """Make that moment the present; nothing may be writing to the workspace. Returns the moment before."""
        async with self._locks[uid]:
            return await self._go_to(self.find(uid, snapshot_id), ROLLBACK, author, subject)

    async def undo(self, uid: str, *, author: str = "", subject: str = "") -> Snapshot:
        """Take back the last rollback that is not undone yet; what was written since then is kept as a snapshot.

        Returns that snapshot. Raises Conflict where there is none.
        """
        async with self._locks[uid]:
            target = undo_target(snapshots.of_workspace(self._db.read, uid))
            if target is None:
                raise Conflict(
                    "there is no rollback to undo",
                    where=uid,
                    hint="`appliance notebook history NAME` lists the moments to go back to",
                )
            return await self._go_to(target, UNDO, author, subject, undoes=target.id)

    async def restore(
        self, uid: str, snapshot_id: str, path: str, to: str = "", *, author: str = "", subject: str = ""
    ) -> Snapshot:
        """Bring one file, link or directory of a moment back in one step, in its place or beside it at `to`.

        A session may go on meanwhile. Returns the moment before, which holds what was replaced. Raises NotFound,
        UsageError for a path that leads out, Conflict where `to` is taken.
        """
        async with self._locks[uid]:
            wanted = self.find(uid, snapshot_id)
            replacement = await in_thread(restore.begin, self._store, wanted, self.head(uid), path, to)
            return await self._restore(wanted, path, replacement, author, subject)

    async def fork(
        self,
        uid: str,
        new_uid: str,
        moment: str = NOW,
        *,
        author: str = "",
        subject: str = "",
        message: str = "",
        declare: Callable[[Connection], None] = lambda db: None,
    ) -> Snapshot:
        """Another workspace that begins with the content of a moment. Returns that moment; `now` takes one.

        `declare` writes what else belongs to it in the same transaction; what it raises undoes the fork.
        """
        async with self._locks[uid], self._locks[new_uid]:
            taken = await self._volumes.freeze(uid, FORK, message, author, subject) if moment == NOW else None
            origin = taken or self.find(uid, moment)
            new = f"{ROOM}/{new_uid}/1"
            try:
                await in_thread(self._store.clone, origin.volume, origin.id, new)
                with self._db.write() as db:
                    if taken:
                        snapshots.add(db, taken)
                    snapshots.set_head(db, new_uid, new)
                    snapshots.set_origin(db, new_uid, f"{uid}@{origin.id}")
                    declare(db)
            except ApplianceError:
                await self._volumes.discard(new)
                if taken:
                    await self._volumes.drop(taken)
                raise
            return origin

    async def admit(
        self, uid: str, fill: Callable[[Path], Awaitable[None]], *, declare: Callable[[Connection], None]
    ) -> None:
        """A workspace whose first content comes from elsewhere: `fill` puts it into the empty directory.

        `declare` writes what else belongs to it in the same transaction. What either raises leaves nothing.
        """
        async with self._locks[uid]:
            new = f"{ROOM}/{uid}/1"
            try:
                await fill(await in_thread(self._store.create, new))
                with self._db.write() as db:
                    snapshots.set_head(db, uid, new)
                    declare(db)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._volumes.discard(new)
                raise

    # -- keeping and letting go

    async def hold(self, uid: str, snapshot_id: str, *, reason: str = "", owner: str = USER) -> None:
        """Keep this moment from being pruned until `release`. Raises NotFound."""
        async with self._locks[uid]:
            found = self.find(uid, snapshot_id)
            with self._db.write() as db:
                holds.put(db, holds.Hold(_target(found.id), owner, reason, self._clock()))

    async def release(self, uid: str, snapshot_id: str, *, owner: str = USER) -> None:
        """Raises NotFound where this owner does not hold it."""
        async with self._locks[uid]:
            found = self.find(uid, snapshot_id)
            with self._db.write() as db:
                if not holds.release(db, _target(found.id), owner):
                    raise NotFound(f"snapshot {snapshot_id} is not held by {owner}", where=uid)

    def held_by(self, uid: str, owner: str) -> set[str]:
        """Moments."""
        every = holds.every(self._db.read, _target(""))
        mine = {target for target, on_it in every.items() if any(hold.owner == owner for hold in on_it)}
        return {moment.id for moment in snapshots.of_workspace(self._db.read, uid) if _target(moment.id) in mine}

    def held(self, uid: str) -> dict[str, list[str]]:
        """Moment -> who holds it and why, in words; only those that are held."""
        every = holds.every(self._db.read, _target(""))
        found = {}
        for moment in snapshots.of_workspace(self._db.read, uid):
            if on_it := every.get(_target(moment.id)):
                found[moment.id] = [f"{hold.owner}: {hold.reason}" if hold.reason else hold.owner for hold in on_it]
        return found

    async def prune(
        self, uid: str, policy: Policy, now: float, *, dry_run: bool = False, measure: bool = True
    ) -> Pruning:
        """Let the moments go that the policy does not keep, and what earlier ones have left. `dry_run` only tells.

        `measure` finds out what comes back, which costs a walk in the plain-directory store.
        """
        async with self._locks[uid]:
            held = self.held(uid)
            found = await pruning.look(self._db, self._store, uid, held, policy, now, measure=measure)
            if not dry_run:
                await pruning.carry_out(self._db, self._volumes, uid, found)
            return found

    async def destroy(self, uid: str) -> None:
        """The workspace and all its history. Gone already counts as done; what a clone elsewhere needs stays."""
        async with self._locks[uid]:
            with self._db.write() as db:
                for moment in snapshots.of_workspace(db, uid):
                    holds.forget(db, _target(moment.id))
                snapshots.forget(db, uid)
            await self._volumes.destroy_all(uid)

    async def sweep(self) -> None:
        """Remove volumes, snapshots and half-copied files that no row knows: what a kill has left.

        A workspace that is in the way of this stays as it is, and is told; the others are none the worse for it.
        """
        found = await in_thread(self._store.volumes, ROOM)
        uids = sorted({volume.split("/")[1] for volume in found})
        # all volumes first: a clone that never became a fork keeps a snapshot of its source
        for step in (self._volumes.clear, self._volumes.clear_snapshots, self._tidy):
            for uid in uids:
                async with self._locks[uid]:
                    try:
                        await step(uid)
                    except (ApplianceError, OSError) as error:
                        log.warning("workspace %s is not swept: %s", uid, error)

    # -- parts; the caller holds the lock of `uid`

    async def _go_to(self, wanted: Snapshot, cause: Cause, author: str, subject: str, *, undoes: str = "") -> Snapshot:
        uid = wanted.uid
        before = await self._volumes.freeze(uid, cause, f"before the {cause} to {wanted.id}", author, subject)
        try:
            new = await self._volumes.next_volume(uid)
            await in_thread(self._store.clone, wanted.volume, wanted.id, new)
        except ApplianceError:
            await self._volumes.drop(before)
            raise
        with self._db.write() as db:
            snapshots.add(db, before)
            snapshots.set_undone(db, undoes)
            snapshots.set_head(db, uid, new)
        return before

    async def _restore(
        self, wanted: Snapshot, path: str, replacement: tree.Replacement, author: str, subject: str
    ) -> Snapshot:
        """A session may write to what is replaced until the last instant, so the moment is taken again where it has.

        The first one is before the copy: in a later one there is also what is hidden at the top of the volume.
        """
        uid, what = wanted.uid, f"the restore of {encode(path)} from {wanted.id}"
        taken: list[Snapshot] = []
        left = False

        async def take(message: str) -> tree.Mark:
            mark = await in_thread(replacement.mark)
            moment = await self._volumes.freeze(uid, RESTORE, message, author, subject)
            with self._db.write() as db:  # it is in the history before anything is replaced
                snapshots.add(db, moment)
            taken.append(moment)
            return mark

        try:
            try:
                mark = await take(f"before {what}")
                await in_thread(restore.prepare, self._store, wanted, path, replacement)
                if await in_thread(replacement.written, mark):
                    mark = await take(f"before {what}, with what was written meanwhile")
                await in_thread(replacement.put)
            except ApplianceError:
                with self._db.write() as db:
                    snapshots.remove(db, uid, [moment.id for moment in taken])
                for moment in taken:
                    await self._volumes.drop(moment)
                raise
            before = taken[-1]
            try:
                if await in_thread(replacement.written, mark):
                    await take(f"during {what}; what was replaced is in {replacement.name}")
            except ApplianceError as error:
                left = True
                log.warning(
                    "workspace %s: what was written during %s is only in %s, until the next start: %s",
                    uid,
                    what,
                    replacement.name,
                    error,
                )
            return before
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(replacement.close if left else replacement.remove)

    async def _tidy(self, uid: str) -> None:
        head = snapshots.head(self._db.read, uid)
        if head is None or not await in_thread(self._store.exists, head):
            return
        path = await in_thread(self._store.path, head)
        await in_thread(tree.tidy, path)


def _target(snapshot_id: str) -> str:
    return f"snapshot/{snapshot_id}"
