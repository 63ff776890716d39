"""Looking at a snapshot: a read-only clone, mounted beside the volumes, shared by all who look, and kept for a while.

    POOL/volumes-views           mountpoint=ROOT/.views, canmount=off: neither a volume nor a part of a backup
    POOL/volumes-views/4f2a...   one snapshot, named after a digest of its name

`.zfs/snapshot` would need no clone, but zfs-fuse lacks it, and elsewhere its mounts come and go by themselves. What a
kill has left is removed when the store is opened.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError, Conflict, NotFound, StorageError
from appliance.storage.zfs.busy import patiently
from appliance.storage.zfs.command import SLOW_S, AlreadyThere, Busy, zfs
from appliance.storage.zfs.mounts import mounted_at

log = logging.getLogger(__name__)

IDLE_S = 60.0
"""How long a view is kept that nobody looks at."""
WAIT_S = 10.0
"""How long a destroy waits for those who look."""
_FENCE = (("readonly", "on"), ("setuid", "off"), ("exec", "off"), ("devices", "off"))


@dataclass(slots=True)
class _View:
    volume: str
    snapshot: str
    users: int = 0
    moving: bool = True
    """It is being made or removed, by one thread; others wait."""
    left: float = 0.0
    """When the last one has stopped looking; on the monotonic clock."""


class Views:
    """`base` is the dataset of the volumes, `root` where they are mounted. Safe for many threads."""

    def __init__(self, base: str, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = f"{base}-views"
        self._base = base
        self._root = root / ".views"
        self._clock = clock
        self._change = threading.Condition()
        self._views: dict[str, _View] = {}
        self._closed: list[tuple[str, str]] = []
        self._open_folder()

    @contextmanager
    def open(self, volume: str, snapshot: str) -> Iterator[Path]:
        """The directory with the snapshot's content. Raises NotFound."""
        self.close_idle()
        key = hashlib.sha256(f"{volume}@{snapshot}".encode()).hexdigest()[:24]
        path = self._enter(key, volume, snapshot)
        try:
            yield path
        finally:
            with self._change:
                view = self._views[key]
                view.users -= 1
                view.left = self._clock()
                self._change.notify_all()

    @contextmanager
    def none_of(self, volume: str, snapshot: str = "") -> Iterator[None]:
        """Inside, there is no view of this snapshot (empty: of any of the volume). Waits for those who look.

        Raises Busy where they do not end.
        """
        closed = (volume, snapshot)
        with self._change:
            self._closed.append(closed)
        try:
            self._remove_all(self._emptied(closed))
            yield
        finally:
            with self._change:
                self._closed.remove(closed)
                self._change.notify_all()

    def close_idle(self, idle_s: float = IDLE_S) -> None:
        with self._change:
            before = self._clock() - idle_s
            old = [key for key, view in self._views.items() if _is_idle(view) and view.left <= before]
            for key in old:
                self._views[key].moving = True
        for key in old:
            try:
                self._remove(key, wait=False)
            except ApplianceError as error:
                log.warning("the view %s of a snapshot stays until the next start: %s", key, error)

    def _enter(self, key: str, volume: str, snapshot: str) -> Path:
        path = self._root / key
        with self._change:
            self._change.wait_for(lambda: not self._is_closed(volume, snapshot) and not self._moving(key))
            view = self._views.get(key)
            if view is not None:
                view.users += 1
            else:
                self._views[key] = _View(volume, snapshot, users=1)
        if view is not None:
            return path
        try:
            self._make(key, volume, snapshot)
        except BaseException:
            with self._change:
                del self._views[key]
                self._change.notify_all()
            raise
        with self._change:
            self._views[key].moving = False
            self._change.notify_all()
        return path

    def _emptied(self, closed: tuple[str, str]) -> list[str]:
        """Keys of the views that are in the way, marked as moving, once nobody looks at them."""

        def keys() -> list[str]:
            return [key for key, view in self._views.items() if _covers(closed, view.volume, view.snapshot)]

        with self._change:
            if not self._change.wait_for(lambda: all(_is_idle(self._views[key]) for key in keys()), WAIT_S):
                raise Busy(
                    f"somebody looks at a snapshot of volume {closed[0]!r}",
                    where=f"{self._base}/{closed[0]}",
                    hint="wait until the comparison or the listing has ended, then repeat the command",
                )
            found = keys()
            for key in found:
                self._views[key].moving = True
        return found

    def _is_closed(self, volume: str, snapshot: str) -> bool:
        return any(_covers(closed, volume, snapshot) for closed in self._closed)

    def _moving(self, key: str) -> bool:
        view = self._views.get(key)
        return view is not None and view.moving

    def _make(self, key: str, volume: str, snapshot: str) -> None:
        dataset, path = f"{self.folder}/{key}", self._root / key
        try:
            zfs("clone", "-o", "canmount=noauto", f"{self._base}/{volume}@{snapshot}", dataset)
        except AlreadyThere:
            log.debug("the view %s is there already", key)
        except NotFound:
            raise NotFound(
                f"volume {volume!r} has no snapshot {snapshot!r}", hint="it was pruned, or never taken"
            ) from None
        if not mounted_at(path, dataset):
            try:
                zfs("mount", dataset)
            except AlreadyThere:
                log.debug("the view %s was mounted by its making", key)
        if not mounted_at(path, dataset):
            raise StorageError(
                f"{dataset} is mounted, but not at this place of this daemon",
                where=str(path),
                hint=f"`zfs unmount {dataset}`, then repeat the command",
            )

    def _remove_all(self, keys: list[str]) -> None:
        left = list(keys)
        try:
            while left:
                self._remove(left.pop())
        finally:
            with self._change:
                for key in left:
                    self._views[key].moving = False
                self._change.notify_all()

    def _remove(self, key: str, *, wait: bool = True) -> None:
        """Of a view that is marked as moving. Where it stays, it is taken up again by the next one who looks."""
        dataset = f"{self.folder}/{key}"

        def destroy() -> None:
            zfs("destroy", dataset, timeout_s=SLOW_S)

        try:
            if wait:
                patiently(dataset, destroy)
            else:
                destroy()
        except NotFound:
            log.debug("the view %s is gone already", key)
        finally:
            _remove_directory(self._root / key)
            with self._change:
                del self._views[key]
                self._change.notify_all()

    def _open_folder(self) -> None:
        """The folder, empty; a home that was moved takes it along."""
        try:
            mountpoint = zfs("get", "-H", "-o", "value", "mountpoint", self.folder).strip()
        except NotFound:
            options = [f"-o{name}={value}" for name, value in _FENCE]
            zfs("create", "-o", f"mountpoint={self._root}", "-o", "canmount=off", *options, self.folder)
            return
        for name in zfs("list", "-H", "-r", "-t", "filesystem", "-o", "name", self.folder).splitlines():
            if name != self.folder:
                self._sweep(name)
        if mountpoint != str(self._root):
            zfs("set", f"mountpoint={self._root}", self.folder)

    def _sweep(self, dataset: str) -> None:
        try:
            patiently(dataset, lambda: zfs("destroy", dataset, timeout_s=SLOW_S))
        except (Busy, Conflict, NotFound) as error:
            log.warning("a view of a snapshot is left: %s", error)
        _remove_directory(self._root / dataset.rpartition("/")[2])


def _is_idle(view: _View) -> bool:
    return not view.users and not view.moving


def _covers(closed: tuple[str, str], volume: str, snapshot: str) -> bool:
    return closed[0] == volume and closed[1] in ("", snapshot)


def _remove_directory(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # not there, or still a mount: then it is not ours to remove
