"""Whether there is room for new work: a low-water mark on each file system that the appliance fills.

What runs is never stopped for space. What has not begun waits while a file system has less than its mark, says for
what, and begins by itself once there is a quarter more than the mark, so that it does not flap around it.
The reserve is what is left when all the rest is full, so that the appliance can still write what it must: its state,
its log, and the little that a delete needs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NoSpace, StorageError
from appliance.storage.base import Store
from appliance.storage.reserve import ReserveFile, wanted

log = logging.getLogger(__name__)

LOW_SHARE = 0.1
"""The mark is at most this share of a file system, so that work begins on a small one at all."""
RESERVE_SHARE = 0.05
NEARLY_FULL = 0.03
"""Share of free space below which it is said early, however much that is."""
MOMENTS_SHARE = 0.05
MOMENTS_MOST = 50_000_000_000
"""Bytes; where less than this, or that share, is free no moment is taken that nobody asked for. A moment keeps what is
written over, so a training that overwrites a large file again and again must not fill its own disk by its past."""
MOMENTS_LEAST = 2
"""Of the mark: such moments end well before new work does."""
AGAIN = 1.25
"""Of the mark: so much must be free until new work begins again."""
CRITICAL = 1 / 8
"""Of the mark: with less than that free the reserve is given back."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file system that fills. Sizes in bytes."""

    name: str
    """What lies there, in words."""
    where: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was seen in one look."""

    places: tuple[Place, ...]
    low: tuple[Place, ...]
    """Those without room for new work."""
    reserved: int
    """Bytes set aside, in all places together; `free` does not count them."""
    reserve: int
    """So many it would be if all fitted."""
    ok: bool
    message: str
    near: bool
    """It may be low soon, or is: worth to look again soon."""


def plenty() -> str:
    """The `why` of a disk that nobody watches."""
    return ""


def low_mark(total: int, low: int) -> int:
    """Bytes that must be free for new work to begin; `low` is what the settings ask for."""
    return min(low, int(total * LOW_SHARE))


def moments_mark(total: int, low: int) -> int:
    """Bytes that must be free for moments that nobody asked for; 0 where `low` is, so nothing is watched."""
    mark = low_mark(total, low)
    return max(MOMENTS_LEAST * mark, min(MOMENTS_MOST, int(total * MOMENTS_SHARE))) if mark else 0


def is_low(place: Place, low: int, *, before: bool) -> bool:
    """`before`: it was low when last looked at."""
    mark = low_mark(place.total, low)
    return place.free < (mark * AGAIN if before else mark)


class Room:
    """Looks at the places and keeps the reserve. `why` is what the controllers ask before they begin anything."""

    def __init__(self, store: Store, home: Path, *, low: int, reserve: int) -> None:
        self._store = store
        self._home = home
        self._low = low
        self._reserve = reserve
        self._file = ReserveFile(home / "reserve")
        self._measuring = threading.Lock()
        self._in_store = -1
        """Bytes that the store has set aside; below 0: it has not been asked yet."""
        self._why: dict[str, str] = {}
        """Place -> why nothing begins."""
        self._no_moments = ""
        self.outlook: Outlook | None = None
        """What was seen last."""

    def why(self) -> str:
        """Why no new work may begin, with the next step; empty: it may. The same words as long as it is so."""
        return next(iter(self._why.values()), "")

    def no_moments(self) -> str:
        """Why no moment is taken that nobody has asked for; empty: it may be."""
        return self._no_moments or self.why()

    def demand(self, what: str) -> None:
        """For work that a person asks for and waits for. Raises NoSpace where it may not begin."""
        if why := self.why():
            raise NoSpace(f"{what} does not begin: {why}", hint="free some space, then repeat the command")

    async def look(self) -> Outlook:
        """Raises StorageError where the store or the home does not answer."""
        # not one of the threads for volumes: eight long copies must not hide that the disk is full
        return self._judge(*await asyncio.to_thread(self._measure_alone))

    def _judge(self, places: Sequence[Place], detail: str, reserved: int, reserve: int) -> Outlook:
        low = tuple(place for place in places if is_low(place, self._low, before=place.name in self._why))
        self._why = {place.name: self._why.get(place.name) or self._words(place) for place in low}
        near = any(place.free < 2 * low_mark(place.total, self._low) for place in places)
        # the volumes come first; a full home beside them is not filled by moments
        tight = [place for place in places[:1] if place.free < moments_mark(place.total, self._low)]
        self._no_moments = "; ".join(self._sparing(place) for place in tight)
        full = [place for place in places if place.free < NEARLY_FULL * place.total and place not in low]
        said = [
            detail,
            *(f"{words(place.free)} of {words(place.total)} free for {place.name}" for place in places),
        ]
        said += [f"LOW at {place.where}: {self._until(place)}" for place in low]
        said += [self._no_moments] if tight else []
        said += [f"nearly full: free some space at {place.where}" for place in full]
        if reserved < reserve and not self._file.unfit:
            said.append(f"only {words(reserved)} of the reserve of {words(reserve)} are set aside")
        elif self._file.unfit:
            said.append(self._file.unfit)
        self.outlook = Outlook(
            tuple(places), low, reserved, reserve, ok=not (low or full), message="; ".join(said), near=near
        )
        return self.outlook

    def _words(self, place: Place) -> str:
        mark = words(low_mark(place.total, self._low))
        return (
            f"waits for disk space: less than {mark} are free for {place.name} at {place.where}; {self._until(place)};"
            " what is kept of failed runs goes meanwhile, the oldest first"
        )

    def _sparing(self, place: Place) -> str:
        mark = words(moments_mark(place.total, self._low))
        return f"notebooks get no snapshots by themselves while less than {mark} are free for {place.name}"

    def _until(self, place: Place) -> str:
        again = words(int(low_mark(place.total, self._low) * AGAIN))
        return f"what runs goes on, new work begins once {again} are free; `appliance space` names what holds the space"

    # in a worker thread

    def _measure_alone(self) -> tuple[list[Place], str, int, int]:
        with self._measuring:
            return self._measure()

    def _measure(self) -> tuple[list[Place], str, int, int]:
        info = self._store.info()
        try:
            disk = shutil.disk_usage(self._home)
        except OSError as error:
            raise StorageError(f"the home does not answer: {error}", where=str(self._home), hint="`dmesg`") from error
        apart = info.kind == "zfs" or not _same_disk(self._home, self._home / "volumes")
        home = Place(
            "the appliance's home" if apart else "the home and the volumes", str(self._home), disk.total, disk.free
        )
        kept = self._keep_file(home)
        if not apart:
            return [kept], info.detail, self._file.held(), self._target(home)
        volumes = Place("the volumes", _where(info.kind, self._home), info.total_bytes, info.free_bytes)
        in_store = self._keep_in_store(volumes) if info.kind == "zfs" else 0
        reserve = self._target(home) + (self._target(volumes) if info.kind == "zfs" else 0)
        if self._file.unfit:
            reserve -= self._target(home)
        return [volumes, kept], info.detail, self._file.held() + in_store, reserve

    def _target(self, place: Place) -> int:
        return min(self._reserve, int(place.total * RESERVE_SHARE))

    def _keep_file(self, place: Place) -> Place:
        held = self._file.held()
        after = self._wanted(place, held)
        if after != held:
            self._tell(place, held, after)
            self._file.resize(after)
            place = Place(place.name, place.where, place.total, shutil.disk_usage(self._home).free)
        return place

    def _keep_in_store(self, place: Place) -> int:
        held = max(self._in_store, 0)
        after = self._wanted(place, held) if self._in_store >= 0 else self._target(place)
        if after != self._in_store:
            self._store.reserve(after)
            if self._in_store >= 0:
                self._tell(place, held, after)
            self._in_store = after
        return after

    def _wanted(self, place: Place, held: int) -> int:
        mark = low_mark(place.total, self._low)
        return wanted(
            held=held,
            size=self._target(place),
            free=place.free,
            floor=int(mark * CRITICAL),
            ample=int(mark * AGAIN),
        )

    def _tell(self, place: Place, held: int, after: int) -> None:
        if after < held:
            log.warning("%s are free at %s: the reserve shrinks to %d bytes", words(place.free), place.where, after)
        else:
            log.info("%d bytes are set aside at %s", after, place.where)


def words(count: int) -> str:
    """Bytes as `12 MB`, `1.5 GB` or `270 GB`."""
    if count < 1e9:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 100e9 else f"{count / 1e9:.0f} GB"


def _same_disk(one: Path, other: Path) -> bool:
    try:
        return os.stat(one).st_dev == os.stat(other).st_dev
    except OSError:
        return False


def _where(kind: str, home: Path) -> str:
    return "the pool" if kind == "zfs" else str(home / "volumes")
