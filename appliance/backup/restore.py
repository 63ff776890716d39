"""Restore a backup into an empty home, without a daemon. Blocking.

A home is marked while it is filled, and no daemon starts on it then. What was done is kept over a kill; another point
or target begins anew. The restored appliance has an instance id of its own: containers that the old one may have left
on this machine are not taken for its own, their files are not these. It goes on with the old one's backups.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from appliance import home as homes
from appliance.backup import homefiles
from appliance.backup.homefiles import Mark
from appliance.backup.point import PREFIX, Point
from appliance.backup.rebuild import Rebuilding, fill
from appliance.backup.stage import home_of, snapshot_of
from appliance.backup.target import Target
from appliance.backup.work import ZFS
from appliance.errors import NotFound, StorageError, UsageError
from appliance.settings import Settings, load
from appliance.storage.base import Store
from appliance.storage.destroy import destroy_below
from appliance.storage.open import open_store
from appliance.storage.trees.copying import copy_in
from appliance.storage.zfs import send as zfs_send
from appliance.storage.zfs.store import ZfsStore

Tell = Callable[[str, int, int, int], None]
"""What is being restored, how many are done, of how many (0: not known), bytes written so far."""


@dataclass(frozen=True, slots=True)
class Restored:
    point: str
    home: Path
    store: str
    notes: tuple[str, ...]
    """What a person should know, in words."""


def points(target: str) -> list[tuple[str, Point | None]]:
    """Id and, of a directory, what is in it. Oldest first. Raises NotFound where there is no backup."""
    if target.startswith(ZFS):
        names = anyio.run(zfs_send.points, target.removeprefix(ZFS))
        return [(name.removeprefix(PREFIX), None) for name in names if name.startswith(PREFIX)]
    return [(point.id, point) for point in Target.open(Path(target).absolute()).points()]


def restore(
    home: Path, target: str, *, point: str = "", environ: Mapping[str, str] = os.environ, tell: Tell
) -> Restored:
    """The newest point, unless `point` names another one.

    Raises Conflict for a home that is not empty or has a running daemon, NotFound, Damaged, NoSpace. After any of
    them, and after a kill, the same call goes on.
    """
    settings = load(environ, home)
    homes.prepare(settings)
    lock = homes.Lock(settings)
    try:
        begun = homefiles.find_mark(home)
        mark = _mark(target, point, begun)
        if begun is None:
            homefiles.check_empty(settings)
        elif begun == mark and homefiles.is_placed(home):
            homefiles.finish(home)
            return Restored(mark.point, home, "as it was", ())
        form = _from_zfs if target.startswith(ZFS) else _from_directory
        return form(settings, environ, mark, begun, tell)
    finally:
        lock.release()


def _mark(target: str, point: str, begun: Mark | None) -> Mark:
    """What is to be restored: what is asked for, else what has been begun, else the newest."""
    place = target if target.startswith(ZFS) else str(Path(target).absolute())
    ids = [found for found, _ in points(place)]
    if not ids:
        raise NotFound("the backup has no point: none has ever ended", where=target, hint="back up again")
    if point and point not in ids:
        raise NotFound(f"the backup has no point {point!r}", where=target, hint=f"it has {', '.join(ids)}")
    if not point and begun and begun.target == place and begun.point in ids:
        return begun
    return Mark(place, point or ids[-1])


def _from_directory(
    settings: Settings, environ: Mapping[str, str], mark: Mark, begun: Mark | None, tell: Tell
) -> Restored:
    target = Target.open(Path(mark.target))
    with target.lock(write=False):
        point = target.point(mark.point)
        tell("settings, state, secrets and logs", 0, len(point.volumes), 0)
        staging = homefiles.staging(settings.home)
        fill(target, staging, point.home, None, lambda count: None)
        note = homefiles.put_config(settings.home, staging)
        settings = load(environ, settings.home)
        store = _open(settings)
        _begin(store, settings.home, mark, begun)
        Rebuilding(store, target, tell).run(point.volumes, settings.home / homefiles.JOURNAL)
        homefiles.place(settings, staging, point.id)
    lost = f"not in the backup: {', '.join(point.skipped)}" if point.skipped else ""
    return _end(settings, store, point.id, (note, lost))


def _from_zfs(settings: Settings, environ: Mapping[str, str], mark: Mark, begun: Mark | None, tell: Tell) -> Restored:
    store = _open(settings)
    if not isinstance(store, ZfsStore):
        raise UsageError(
            "what was sent by ZFS goes into a ZFS store",
            where=mark.target,
            hint="set `zpool` to a pool of this machine, for example with APPLIANCE_ZPOOL",
        )
    _begin(store, settings.home, mark, begun)
    dataset, snapshot = mark.target.removeprefix(ZFS), snapshot_of(mark.point)

    async def receive() -> None:
        names = await zfs_send.stored(dataset, snapshot)

        def progress(volume: str, received: int, _: int | None) -> None:
            tell(volume, names.index(volume) if volume in names else 0, len(names), received)

        await zfs_send.receive(store, dataset, snapshot, progress=progress)

    anyio.run(receive)
    staging = homefiles.staging(settings.home)
    copy_in(store.path(home_of(mark.point)), staging)
    note = homefiles.put_config(settings.home, staging)
    homefiles.place(load(environ, settings.home), staging, mark.point)
    return _end(settings, store, mark.point, (note,))


def _open(settings: Settings) -> Store:
    try:
        return open_store(settings)
    except StorageError as error:
        error.hint = (
            f"{error.hint}; or say where the volumes go on this machine, with APPLIANCE_ZPOOL=POOL/DATASET or "
            f"APPLIANCE_STORAGE=directory, or in {settings.home / homefiles.CONFIG}"
        )
        raise


def _begin(store: Store, home: Path, mark: Mark, begun: Mark | None) -> None:
    """Nothing is in the store but what an earlier call for the same point has made."""
    if begun is None and (found := store.volumes()):
        raise homefiles.not_empty(home, f"the volume {found[0]!r}")
    if begun == mark:
        return
    homefiles.put_mark(home, mark)
    destroy_below(store, "")


def _end(settings: Settings, store: Store, point: str, notes: tuple[str, ...]) -> Restored:
    homefiles.keep_store(settings)
    homefiles.finish(settings.home)
    return Restored(point, settings.home, store.info().detail, tuple(filter(None, notes)))
