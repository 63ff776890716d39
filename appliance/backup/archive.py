"""Write a staged point into a target directory, tree by tree. What was archived before is not even looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio

from appliance import __version__
from appliance.backup import child
from appliance.backup.point import PREFIX, Moment, Point, Tree, Volume
from appliance.backup.stage import PASSING, Planned, Staged, family
from appliance.backup.target import Target
from appliance.errors import ApplianceError
from appliance.history.looking import view
from appliance.storage.base import Store
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backup is. Of `total` volumes `done` are archived; sizes in bytes."""

    step: str
    done: int = 0
    total: int = 0
    read: int = 0
    written: int = 0


class Archive:
    """One backup into one directory, whose lock the caller holds."""

    def __init__(
        self,
        store: Store,
        target: Target,
        staged: Staged,
        program: child.Program,
        *,
        frozen: bool,
        tell: Callable[[Progress], None],
    ) -> None:
        """`program` packs. `frozen`: the store's snapshots are files of their own, see `pack`."""
        self._store = store
        self._target = target
        self._staged = staged
        self._program = program
        self._frozen = frozen
        self._tell = tell
        self._known: dict[str, Tree] = {}
        self._newest: dict[str, Tree] = {}
        """Family -> the tree that was archived last, whose files the next one will have as well."""
        self._skipped: list[str] = []
        self._progress = Progress("", total=len(staged.volumes) + 1)

    @property
    def written(self) -> int:
        """Bytes that the target did not have."""
        return self._progress.written

    async def run(self, *, created: float, instance: str, origin: str) -> Point:
        """The point, which is still to be published. What it unpins may be destroyed again."""
        self._known = await anyio.to_thread.run_sync(self._target.known)
        volumes = []
        for planned in self._staged.volumes:
            self._advance(planned.name)
            try:
                volumes.append(await self._volume(planned))
            except ApplianceError as error:
                if not planned.name.startswith(PASSING) or await in_thread(self._store.exists, planned.name):
                    raise
                log.info("volume %s went away before it was archived: %s", planned.name, error)
                self._skipped.append(planned.name)
            await self._let_go(planned)
        self._advance("state, secrets and logs")
        home = await self._pack("home", self._staged.folder, self._known.get("home"))
        return Point(
            id=self._staged.id,
            created=created,
            appliance=__version__,
            instance=instance,
            store="directory" if self._frozen else "zfs",
            home=home,
            volumes=tuple(volumes),
            origin=origin,
            skipped=tuple(self._skipped),
        )

    async def _volume(self, planned: Planned) -> Volume:
        name = planned.name
        moments = []
        present = await in_thread(self._store.snapshots, name)
        for snapshot in present:
            if snapshot.startswith(PREFIX) or (planned.moments is not None and snapshot not in planned.moments):
                continue
            key = f"moment/{snapshot}" if planned.moments is not None else f"frozen/{name}@{snapshot}"
            moments.append(Moment(snapshot, await self._tree(key, name, snapshot)))
        for lost in sorted(set(planned.moments or ()) - set(present)):
            log.error("snapshot %s of %s is missing from the store", lost, name)
            self._skipped.append(f"{name}@{lost}")
        live = None
        if planned.sealed:
            live = await self._tree(planned.sealed, name, None)
        elif planned.live:
            live = await self._tree(f"live/{name}", name, self._staged.snapshot)
        return Volume(name, tuple(moments), live, bool(planned.sealed))

    async def _tree(self, key: str, volume: str, snapshot: str | None) -> Tree:
        tree = self._known.get(key) if key.startswith(("moment/", "sealed/")) else None
        if tree is None:
            async with view(self._store, volume, snapshot) as path:
                tree = await self._pack(key, path, self._before(key, volume))
            await anyio.to_thread.run_sync(self._target.remember, tree)
        if not self._frozen or not (key.startswith("live/") or volume.startswith(PASSING)):
            self._newest[family(volume)] = tree
        return tree

    def _before(self, key: str, volume: str) -> Tree | None:
        """The earlier tree to compare with.

        Where frozen files are told by their inode, only one that stays in the store meanwhile: nothing else can have
        its inodes.
        """
        newest = self._newest.get(family(volume))
        return newest if newest or self._frozen else self._known.get(key)

    async def _pack(self, key: str, path: Path, before: Tree | None) -> Tree:
        done = self._progress

        def tell(answer: child.Answer) -> None:
            read, written = done.read + int(answer["read"]), done.written + int(answer["written"])
            self._progress = replace(done, read=read, written=written)
            self._tell(self._progress)

        asked = {
            "source": str(path),
            "target": str(self._target.path),
            "before": before.manifest if before else "",
            "frozen": self._frozen and key != "home",
        }
        answer = await self._program.ask(asked, tell)
        return Tree(key, str(answer["manifest"]), int(answer["size"]), tuple(answer["sketch"]))

    async def _let_go(self, planned: Planned) -> None:
        if not planned.name.startswith(PASSING):
            self._store.gate.unpin(self._staged.id, [planned.name])
        if planned.live:
            await in_thread(self._store.destroy_snapshot, planned.name, self._staged.snapshot)

    def _advance(self, step: str) -> None:
        done = self._progress.done + bool(self._progress.step)
        self._progress = replace(self._progress, step=step, done=done)
        self._tell(self._progress)
