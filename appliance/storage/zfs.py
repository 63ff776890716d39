"""The ZFS store: a volume is a dataset, snapshots and clones cost nothing but what is changed afterwards.

    POOL/volumes              mountpoint=ROOT, canmount=off; its local mountpoint is the mark that it is this home's
    POOL/volumes/notebooks    a folder: canmount=off
    POOL/volumes/notebooks/1  a volume: canmount=noauto, so only `path` mounts it; its mountpoint is inherited

Each step below is one `zfs` command, which ZFS does or does not do; what a kill leaves half way (a dataset that is
not mounted, an owner that is not set) is finished by repeating the call. Runs on OpenZFS and on zfs-fuse 0.7.

zfslib reads no volumes here: it lists every dataset and snapshot of the machine for each question, knows no
deadline, and needs `zfs list -p`, which zfs-fuse lacks. `pools` uses it for what it is right for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.errors import ApplianceError, NotFound, StorageError
from appliance.storage.base import StoreInfo
from appliance.storage.copying import give
from appliance.storage.mounts import holders, mounted_at
from appliance.storage.names import check_snapshot, check_volume, inside_another
from appliance.storage.zfs_command import SLOW_S, AlreadyThere, Busy, zfs, zpool

log = logging.getLogger(__name__)

BUSY_S = 10.0
"""How long a dataset may be busy: an ended container's mounts go away a moment after it."""
_TUNING = (("atime", "off"), ("devices", "off"), ("compression", "lz4"), ("xattr", "sa"), ("acltype", "posixacl"))
_INSTEAD = {"lz4": "on"}
"""zfs-fuse knows no lz4; its `on` is lzjb."""


class ZfsStore:
    """`pool` is a pool or a dataset in one, which is made if it is missing; `root` is where volumes are mounted."""

    def __init__(self, pool: str, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o700)  # a set-uid program in a workspace must be out of reach for the machine's users
        self.root = root.resolve()
        self.base = f"{pool}/volumes"
        self._tree = threading.Lock()
        self._open_base(pool)

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
                raise NotFound(f"there is no volume {volume!r}", where=self.base, hint="it was deleted, or never made")
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
        try:
            self._make("snapshot", self._snapshot(volume, snapshot))
        except NotFound:
            raise NotFound(f"there is no volume {volume!r}", where=self.base, hint="it was deleted") from None

    def snapshots(self, volume: str) -> list[str]:
        dataset = self._dataset(volume)
        lines = zfs("list", "-H", "-t", "snapshot", "-o", "name", "-s", "creation", "-d", "1", dataset).splitlines()
        return [line.split("@", 1)[1] for line in lines]

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
        self._patiently(dataset, lambda: zfs("set", "readonly=on", dataset))

    def used_bytes(self, volume: str) -> int:
        """After compression. What was written in the last few seconds may not be in it, unless it is sealed."""
        return int(zfs("get", "-H", "-p", "-o", "value", "referenced", self._dataset(volume)))

    def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        try:
            zfs("destroy", self._snapshot(volume, snapshot), timeout_s=SLOW_S)
        except NotFound:
            return

    def destroy(self, volume: str) -> None:
        dataset = self._dataset(volume)
        if self.exists(volume):
            try:
                self._patiently(dataset, lambda: zfs("destroy", "-r", dataset, timeout_s=SLOW_S))
            except NotFound:
                log.debug("%s was destroyed by somebody else meanwhile", dataset)
        self._tidy(volume)

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
        self._patiently(dataset, lambda: self._make("mount", dataset), alone=False)
        if not mounted_at(path, dataset):
            raise StorageError(
                f"{dataset} is mounted, but not at this place of this daemon",
                where=str(path),
                hint=f"`zfs unmount {dataset}`, then repeat the command",
            )

    def _patiently(self, dataset: str, command: Callable[[], object], *, alone: bool = True) -> None:
        """Try until it is not busy. `alone`: not before containers let go, as ZFS unmounts first and then refuses."""
        deadline = time.monotonic() + BUSY_S
        while True:
            who = holders(dataset) if alone else []
            try:
                if who:
                    raise Busy(f"{dataset} is in use", where=self.base)
                command()
                return
            except Busy as error:
                if time.monotonic() > deadline:
                    users = ", ".join(who) or "a process with an open file or working directory in it"
                    raise Busy(error.message, where=error.where, hint=f"it is in use by: {users}") from None
            time.sleep(0.1)

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


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # not there, not empty or a mount: then it is not ours to remove
