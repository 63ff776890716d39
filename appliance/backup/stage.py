"""The one consistent point: the state as it is now, and every volume that it names as it is now.

The state is copied while nothing may be destroyed, and from then on its volumes are pinned (`storage.gate`), so
whatever the copy names is there. What is made meanwhile has no row in it, and a sweep removes it after a restore.
Logs are copied after the state: a run that has ended there has all its lines. Volumes that can be made again at any
time are left out, and the copy forgets them.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.backup.point import HOME_FILES, PREFIX, ROOM
from appliance.errors import ApplianceError
from appliance.settings import Settings
from appliance.state import snapshots, versions
from appliance.state.db import Database, copy_database
from appliance.storage.base import Store
from appliance.storage.trees.copying import copy_in

WORKSPACES, RUNS = "workspaces/", "runs/"
PASSING = (RUNS,)
"""Rooms whose volumes may go while they are archived: a run ends when it ends."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be archived of one volume."""

    name: str
    moments: tuple[str, ...] | None
    """The snapshots that the state names; None: whatever the store has."""
    sealed: str
    """Key of its content where that never changes; empty: it may."""
    live: bool
    """Somebody may have written to it since its newest moment."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The point in the store. `home` is the volume with the files of the home."""

    id: str
    home: str
    folder: Path
    volumes: tuple[Planned, ...]
    left_out: int = 0
    """So many more there are that can be made or fetched again."""

    @property
    def snapshot(self) -> str:
        return snapshot_of(self.id)


def snapshot_of(point_id: str) -> str:
    return f"{PREFIX}{point_id}"


def home_of(point_id: str) -> str:
    return f"{ROOM}/home/{point_id}"


class Stopped(ApplianceError):
    """Whoever wanted the point has stopped it."""


LeaveOut = Callable[[Database, Collection[str]], set[str]]
"""Of a copy of the state and the volumes that there are, those that are not worth a place in a backup; in the copy
nothing names them afterwards. Called in a worker thread."""


def nothing(copy: Database, volumes: Collection[str]) -> set[str]:
    """Is left out."""
    return set()


def freeze(
    store: Store,
    settings: Settings,
    point_id: str,
    stop: threading.Event,
    *,
    whole: bool,
    leave_out: LeaveOut = nothing,
) -> Staged:
    """Blocking, in one thread. The volumes that are `pinned` stay so for `point_id`, until somebody unpins them.

    `whole` freezes every volume; else those that never change again are archived as they are. Once `stop` is set it
    raises Stopped, after the volume that it is at.
    """
    _go_on(stop)
    home = home_of(point_id)
    folder = store.create(home)
    folder.chmod(0o700)
    with store.gate.quiet():
        copy_database(settings.state_file, folder / "state.db")
        names = in_order(name for name in store.volumes() if not name.startswith(f"{ROOM}/"))
        store.gate.pin(point_id, names)
    try:
        planned = _read(folder / "state.db", names, leave_out)
        _freeze(store, [row.name for row in planned if whole or row.live], snapshot_of(point_id), stop)
        _copy_files(settings, folder)
    except BaseException:
        store.gate.unpin(point_id)
        raise
    store.gate.unpin(point_id, set(names) - set(pinned(planned)))
    return Staged(point_id, home, folder, tuple(planned), len(names) - len(planned))


def _freeze(store: Store, volumes: list[str], snapshot: str, stop: threading.Event) -> None:
    """All at one instant where the store can. Else each is a copy, and there is time to stop in between."""
    if store.info().instant:
        store.snapshot_all(volumes, snapshot)
    else:
        for volume in volumes:
            _go_on(stop)
            store.snapshot(volume, snapshot)
    _go_on(stop)


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("the backup was stopped before it had its point", hint="begin it again")


def _copy_files(settings: Settings, folder: Path) -> None:
    for name in HOME_FILES:
        path = settings.home / name
        if path.is_file() and not name.startswith(("state.", "telemetry.")):
            shutil.copyfile(path, folder / name)
            (folder / name).chmod(0o600)
    if settings.specs_dir.is_dir():
        (folder / "specs").mkdir()
        copy_in(settings.specs_dir, folder / "specs")


def pinned(planned: Iterable[Planned]) -> list[str]:
    """Those that must be there until they are archived."""
    return [row.name for row in planned if not row.name.startswith(PASSING)]


def _read(state_file: Path, volumes: Collection[str], leave_out: LeaveOut) -> list[Planned]:
    db = Database(state_file)
    try:
        left_out = leave_out(db, volumes)
        moments: dict[str, list[str]] = {}
        for moment in snapshots.every(db.read):
            moments.setdefault(moment.volume, []).append(moment.id)
        sealed = {row.volume: f"sealed/{row.volume}/{row.committed!r}" for row in versions.committed(db.read)}
        heads = set(snapshots.heads(db.read).values())
    finally:
        db.close()
    for left in state_file.parent.glob("state.db-*"):
        left.unlink()
    taken = [name for name in volumes if name not in left_out]
    return [_planned(name, moments.get(name, ()), sealed.get(name, ""), heads) for name in taken]


def _planned(name: str, moments: Collection[str], sealed: str, heads: Collection[str]) -> Planned:
    if name.startswith(WORKSPACES):
        return Planned(name, tuple(moments), "", live=name in heads or not moments)
    return Planned(name, None, sealed, live=not sealed)


def in_order(volumes: Iterable[str]) -> list[str]:
    """`w/2` before `w/10`: in the order in which the heads of a workspace came."""
    return sorted(
        volumes, key=lambda name: [(int(part), "") if part.isdecimal() else (-1, part) for part in _parts(name)]
    )


def _parts(name: str) -> list[str]:
    return re.split(r"/", name)


def family(volume: str) -> str:
    """Volumes of one family have files in common: the heads of a workspace, the versions of a dataset."""
    return "/".join(_parts(volume)[:2])
