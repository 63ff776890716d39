"""The ZFS store: a volume is a dataset, snapshots and clones cost nothing but what is changed afterwards.

    POOL/volumes              mountpoint=ROOT, canmount=off; its local mountpoint is the mark that it is this home's
    POOL/volumes/notebooks    a folder: canmount=off
    POOL/volumes/notebooks/1  a volume: canmount=noauto, so only `path` mounts it; its mountpoint is inherited
    POOL/volumes-views        clones of snapshots that somebody looks at (`views`)
    POOL/volumes-reserve      holds nothing but a reservation

Each step below is one `zfs` command, which ZFS does or does not do; what a kill leaves half way (a dataset that is
not mounted, an owner that is not set) is finished by repeating the call. Runs on OpenZFS and on zfs-fuse 0.7.

zfslib reads no volumes here: it lists every dataset and snapshot of the machine for each question, knows no
deadline, and needs `zfs list -p`, which zfs-fuse lacks. `pools` uses it for what it is right for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from appliance.errors import ApplianceError, NotFound, StorageError
from appliance.storage.base import Reclaim, StoreInfo, Usage
from appliance.storage.gate import Gate
from appliance.storage.names import check_snapshot, check_volume, inside_another
from appliance.storage.trees.copying import give
from appliance.storage.zfs import changes, handover, space, waking
from appliance.storage.zfs.abilities import abilities
from appliance.storage.zfs.busy import patiently
from appliance.storage.zfs.command import SLOW_S, AlreadyThere, zfs, zpool
from appliance.storage.zfs.mounts import mounted_at, mounts
from appliance.storage.zfs.steps import SEALED
from appliance.storage.zfs.views import Views

log = logging.getLogger(__name__)

_TUNING = (("atime", "off"), ("devices", "off"), ("compression", "lz4"), ("xattr", "sa"), ("acltype", "posixacl"))
_INSTEAD = {"lz4": "on"}
"""zfs-fuse knows no lz4; its `on` is lzjb."""


class ZfsStore:
    """`pool` is a pool or a dataset in one, which is made if it is missing; `root` is where volumes are mounted."""

    def __init__(self, pool: str, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        waking.start()
        root.chmod(0o700)  # a set-uid program in a workspace must be out of reach for the machine's users
        self.root = root.resolve()
        self.base = f"{pool}/volumes"
        self.gate = Gate()
        self._tree = threading.Lock()
        self._open_base(pool)
        self._able = abilities(self.base)
        self._views = Views(self.base, self.root)
        handover.sweep(self.base)

    def info(self) -> StoreInfo:
        lines = zfs("get", "-H", "-p", "-o", "value", "used,available", self.base).split()
        used, available = int(lines[0]), int(lines[1])
        detail = f"ZFS dataset {self.base}, mounted below {self.root}"
        return StoreInfo("zfs", detail, used + available, available, instant=True)

    def create(self, volume: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        dataset = self._dataset(volume)
        with self._tree:
            if self._absent(volume):
                self._folders(volume)
                self._make("create", "-o", "canmount=noauto", dataset)
        path = self.path(volume)
        found = path.stat()
        if (found.st_uid, found.st_gid) != owner and not any(path.iterdir()):
            give(path, owner)
        return path

    def exists(self, volume: str) -> bool:
        return self._canmount(self._dataset(volume)) == "noauto"

    def path(self, volume: str) -> Path:
        dataset, path = self._dataset(volume), self.root / volume
        if not mounted_at(path, dataset):
            if not self.exists(volume):
                raise _no_volume(volume, self.base)
            self._mount(dataset, path)
        try:
            path.stat()
        except OSError as error:
            raise StorageError(
                f"the mounted volume does not answer: {error}",
                where=str(path),
                hint=f"look at the pool: `zpool status`; after a crash of zfs-fuse: `umount -l {path}`",
            ) from error
        return path

    def snapshot(self, volume: str, snapshot: str) -> None:
        name = self._snapshot(volume, snapshot)
        second = int(time.time())
        try:
            zfs("snapshot", name)
        except AlreadyThere:
            return
        except NotFound:
            raise _no_volume(volume, self.base) from None
        if not self._able.written:
            changes.remember(self._dataset(volume), snapshot, second)

    def snapshots(self, volume: str) -> list[str]:
        names = handover.snapshots_of(self._dataset(volume))
        return [name for name in names if not handover.is_left(name)]

    def clone(self, volume: str, snapshot: str, new: str) -> Path:
        source, dataset = self._snapshot(volume, snapshot), self._dataset(new)
        with self._tree:
            if self._absent(new):
                self._folders(new)
                try:
                    self._make("clone", "-o", "canmount=noauto", source, dataset)
                except NotFound:
                    raise NotFound(
                        f"volume {volume!r} has no snapshot {snapshot!r}", hint="it was pruned, or never taken"
                    ) from None
        return self.path(new)

    def seal(self, volume: str) -> None:
        """Not even root can write to it from then on, without `zfs set readonly=off`."""
        dataset = self._dataset(volume)
        patiently(dataset, lambda: zfs("set", "readonly=on", dataset))
        zfs("set", f"{SEALED}=on", dataset)

    def used_bytes(self, volume: str) -> int:
        """After compression. What was written in the last few seconds may not be in it, unless it is sealed."""
        return int(zfs("get", "-H", "-p", "-o", "value", "referenced", self._dataset(volume)))

    def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        name = self._snapshot(volume, snapshot)
        with self.gate.destroying(volume), self._views.none_of(volume, snapshot):
            try:
                zfs("destroy", name, timeout_s=SLOW_S)
            except NotFound:
                return

    def destroy(self, volume: str) -> None:
        dataset = self._dataset(volume)
        with self.gate.destroying(volume):
            if self.exists(volume):
                with self._views.none_of(volume):
                    patiently(dataset, lambda: self._unmount(dataset))
                    patiently(dataset, lambda: handover.destroy(dataset, self._able))
            self._tidy(volume)

    # looking back

    def view(self, volume: str, snapshot: str) -> AbstractContextManager[Path]:
        return self._views.open(check_volume(volume), check_snapshot(snapshot))

    def changed(self, volume: str) -> bool:
        """Without `written`, files are looked at until one is newer than the snapshot."""
        path, names = self.path(volume), self.snapshots(volume)
        return not names or changes.changed(self._dataset(volume), path, names[-1], self._able)

    def written(self, volume: str, snapshot: str) -> int | None:
        """Of a clone's first snapshot: since it was cloned."""
        self._snapshot(volume, snapshot)
        return changes.written(self._dataset(volume), snapshot, self._able)

    def hints(self, volume: str, older: str, newer: str | None) -> Iterator[str] | None:
        """`older` may be a snapshot of what the volume was cloned from, where its name is not used again."""
        dataset = self._dataset(volume)
        start = self._able.diff and changes.origin_with(dataset, check_snapshot(older))
        if not start:
            return None
        return changes.hints(self.path(volume), start, self._snapshot(volume, newer) if newer else dataset)

    # space

    def usage(self, volume: str) -> Usage:
        return space.usage(self._dataset(volume), self._able, self._views.folder)

    def reclaimable(self, volume: str, snapshots: Collection[str]) -> Reclaim:
        wanted = {check_snapshot(snapshot) for snapshot in snapshots}
        self._views.close_idle(0)
        return space.reclaimable(self._dataset(volume), wanted, self._able, self._views.folder)

    def set_quota(self, volume: str, most: int | None) -> bool:
        space.set_quota(self._dataset(volume), most)
        return True

    def snapshot_all(self, volumes: Sequence[str], snapshot: str) -> None:
        """At one instant on OpenZFS; zfs-fuse takes one name only."""
        names = [self._snapshot(volume, snapshot) for volume in volumes]
        if self._able.several and names:
            try:
                zfs("snapshot", *names, timeout_s=SLOW_S)
                return
            except AlreadyThere:
                log.info("some snapshots %s are there already; the others follow one by one", snapshot)
        for volume in volumes:
            self.snapshot(volume, snapshot)

    def reserve(self, size: int) -> None:
        """Beside the volumes, so that it is neither one of them nor a part of their sizes."""
        space.reserve(f"{self.base}-reserve", size)

    def volumes(self, prefix: str = "") -> list[str]:
        top = self._dataset(prefix) if prefix else self.base
        try:
            lines = zfs("list", "-H", "-r", "-t", "filesystem", "-o", "name,canmount", top).splitlines()
        except NotFound:
            return []
        rows = [line.split("\t") for line in lines]
        below = len(self.base) + 1
        return sorted(name[below:] for name, canmount in rows if canmount == "noauto" and name != top)

    # the tree of datasets

    def _dataset(self, volume: str) -> str:
        return f"{self.base}/{check_volume(volume)}"

    def _snapshot(self, volume: str, snapshot: str) -> str:
        return f"{self._dataset(volume)}@{check_snapshot(snapshot)}"

    def _canmount(self, dataset: str) -> str:
        """Empty: there is no such dataset."""
        try:
            return zfs("list", "-H", "-t", "filesystem", "-o", "canmount", dataset).strip()
        except NotFound:
            return ""

    def _absent(self, volume: str) -> bool:
        if canmount := self._canmount(self._dataset(volume)):
            if canmount == "off":
                raise inside_another(f"{volume}/...", volume)
            return False
        return True

    def _make(self, *arguments: str) -> None:
        try:
            zfs(*arguments)
        except AlreadyThere:
            return

    def _folders(self, volume: str) -> None:
        parent = volume.rpartition("/")[0]
        canmount = self._canmount(f"{self.base}/{parent}") if parent else "off"
        if canmount == "off":
            return
        if canmount:
            raise inside_another(volume, parent)
        self._folders(parent)
        self._make("create", "-o", "canmount=off", f"{self.base}/{parent}")

    def _tidy(self, volume: str) -> None:
        """Remove folders and mount directories that have become empty; what is in use refuses by itself."""
        parts = volume.split("/")
        with self._tree:
            _remove_directory(self.root / volume)
            for depth in range(len(parts) - 1, 0, -1):
                folder = "/".join(parts[:depth])
                try:
                    if self._canmount(f"{self.base}/{folder}") == "off":
                        zfs("destroy", f"{self.base}/{folder}")
                except ApplianceError:
                    return
                _remove_directory(self.root / folder)

    def _mount(self, dataset: str, path: Path) -> None:
        patiently(dataset, lambda: self._make("mount", dataset), alone=False)
        if not mounted_at(path, dataset):
            raise StorageError(
                f"{dataset} is mounted, but not at this place of this daemon",
                where=str(path),
                hint=f"`zfs unmount {dataset}`, then repeat the command",
            )

    def _unmount(self, dataset: str) -> None:
        if any(mount.source == dataset for mount in mounts()):
            self._make("unmount", dataset)

    # the base

    def _open_base(self, pool: str) -> None:
        name = pool.split("/")[0]
        try:
            zpool("list", "-H", "-o", "name", name)
        except NotFound:
            raise StorageError(
                f"there is no pool {name!r}",
                where=f"setting zpool = {pool}",
                hint=f"`zpool import {name}` if it is on another disk, or `zpool create {name} DISK`",
            ) from None
        parts = pool.split("/")
        for depth in range(2, len(parts) + 1):
            self._make("create", "-o", "canmount=off", "/".join(parts[:depth]))
        if not self._canmount(self.base):
            self._make("create", "-o", f"mountpoint={self.root}", "-o", "canmount=off", self.base)
            self._tune()
        self._check_base()

    def _check_base(self) -> None:
        mountpoint, source = zfs("get", "-H", "-o", "value,source", "mountpoint", self.base).strip().split("\t")
        if (mountpoint, source) == (str(self.root), "local"):
            return
        raise StorageError(
            f"dataset {self.base} belongs to something else: its mountpoint is {mountpoint}, not {self.root}",
            where=self.base,
            hint=f"set `zpool` to another dataset; if this home was moved: "
            f"`zfs set mountpoint={self.root} {self.base}`",
        )

    def _tune(self) -> None:
        for name, value in _TUNING:
            for choice in (value, _INSTEAD.get(value)):
                try:
                    if choice:
                        zfs("set", f"{name}={choice}", self.base)
                    break
                except StorageError as error:
                    log.info("this ZFS cannot set %s=%s: %s", name, choice, error.message.splitlines()[0])


def _no_volume(volume: str, where: str) -> NotFound:
    return NotFound(f"there is no volume {volume!r}", where=where, hint="it was deleted, or never made")


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # not there, not empty or a mount: then it is not ours to remove
