"""Volumes from a backup directory: made again through the store, moment by moment, as clones of what they resemble.

Works into any store. Where a volume begins as most of a moment that is there already, it is cloned from that, so on
ZFS they share their blocks again as they did before. What is complete is noted in a journal: after a kill the rest is
made anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from appliance.backup.likeness import most_alike
from appliance.backup.manifest import Damaged, Entry, read
from appliance.backup.objects import sync
from appliance.backup.point import Moment, Tree, Volume
from appliance.backup.target import Target
from appliance.backup.unpack import Unpacker
from appliance.errors import UsageError
from appliance.storage.base import Store
from appliance.storage.names import check_snapshot, check_volume

Tell = Callable[[str, int, int, int], None]
"""Volume, how many are done, of how many, bytes written so far."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A moment that is in the store."""

    volume: str
    moment: Moment


class Rebuilding:
    def __init__(self, store: Store, target: Target, tell: Tell) -> None:
        self._store = store
        self._target = target
        self._tell = tell
        self._origins: list[Origin] = []
        self.written = 0

    def run(self, volumes: Collection[Volume], journal: Path) -> None:
        """All of them. Raises Damaged, NoSpace, StorageError; repeating it goes on."""
        done = _noted(journal)
        present = set(self._store.volumes())
        for number, volume in enumerate(volumes):
            _check_names(volume)
            self._tell(volume.name, number, len(volumes), self.written)
            if volume.name not in done & present:
                self._store.destroy(volume.name)
                self._make(volume)
                _note(journal, volume.name)
            self._origins += [Origin(volume.name, moment) for moment in volume.moments]
        self._tell("", len(volumes), len(volumes), self.written)

    def _make(self, volume: Volume) -> None:
        trees = [moment.tree for moment in volume.moments] + ([volume.live] if volume.live else [])
        path, before = self._begin(volume.name, trees[0] if trees else None)
        for moment in volume.moments:
            fill(self._target, path, moment.tree, before, self._count)
            self._store.snapshot(volume.name, moment.snapshot)
            before = moment.tree
        if volume.live:
            fill(self._target, path, volume.live, before, self._count)
        if volume.sealed:
            self._store.seal(volume.name)
        sync(path)

    def _begin(self, name: str, first: Tree | None) -> tuple[Path, Tree | None]:
        """The volume with the content of the second value; of None it is empty."""
        found = most_alike(first.marks, [origin.moment.tree.marks for origin in self._origins]) if first else None
        if found is None:
            return self._store.create(name), None
        origin = self._origins[found]
        return self._store.clone(origin.volume, origin.moment.snapshot, name), origin.moment.tree

    def _count(self, size: int) -> None:
        self.written += size


def fill(target: Target, path: Path, tree: Tree, before: Tree | None, count: Callable[[int], None]) -> None:
    """Make the directory hold `tree`; it holds `before`, or nothing. `count` is told the bytes that are written."""
    if before is not None and before.manifest == tree.manifest:
        return
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with ExitStack() as files:
        files.callback(os.close, root)
        old: Iterator[Entry] = iter(())
        if before is not None:
            old = read(files.enter_context(target.objects.open_manifest(before.manifest)), before.manifest)
        new = read(files.enter_context(target.objects.open_manifest(tree.manifest)), tree.manifest)
        Unpacker(root, target.objects.read, count).apply(old, new)


def _check_names(volume: Volume) -> None:
    """Names in a backup are as little to be trusted as those in a request."""
    try:
        check_volume(volume.name)
        for moment in volume.moments:
            check_snapshot(moment.snapshot)
    except UsageError as error:
        raise Damaged(f"the backup names a volume that there cannot be: {error.message}") from None


def _noted(journal: Path) -> set[str]:
    found: set[str] = set()
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        try:
            found.add(str(json.loads(line)))
        except ValueError:
            continue  # the last line of a restore that was killed
    return found


def _note(journal: Path, volume: str) -> None:
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, json.dumps(volume).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
