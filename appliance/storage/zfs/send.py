"""Volumes to another pool or dataset, and back: `zfs send | zfs receive`, a volume at a time, incremental by itself.

    await send(store, volumes, snapshot, target, owner=...)   the volumes as they were at `snapshot`; the point is kept
    await points(target)                                      snapshot names for which everything has been sent
    await stored(target, point)                               volumes that the target has at that point
    await receive(store, target, point)                       the other way, into a store that lacks them
    await prune(target, keep)                                 points that are not in `keep`, and what only they need

Volume `a/b` becomes the dataset `TARGET/a/b` with all its snapshots up to `snapshot` and, where what it was cloned
from is there too, as a clone of it. What both sides have in common is found by GUID (`steps`), so nobody says
what was sent before; the source only has to keep the snapshot of its last point. The point is a snapshot of TARGET
itself and is taken last: one that is there is whole, whatever was killed. Nothing at a target is ever overwritten.

Sending is raw where ZFS knows it: encrypted volumes stay encrypted, and the target needs no key. A cut-off transfer
goes on where it ended on OpenZFS, else at the volume where it ended. A cancelled caller ends both programs.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from appliance.errors import ApplianceError, Conflict, NotFound, UsageError
from appliance.storage.names import check_snapshot, check_volume
from appliance.storage.threads import ended, in_thread
from appliance.storage.zfs import handover
from appliance.storage.zfs.abilities import abilities
from appliance.storage.zfs.command import SLOW_S, AlreadyThere, zfs
from appliance.storage.zfs.pipe import Stop, Stopped, pipe
from appliance.storage.zfs.steps import PROPERTIES, SEALED, Dataset, Step, parse, steps, volume_of
from appliance.storage.zfs.store import ZfsStore

log = logging.getLogger(__name__)

OWNER = "appliance:backup"
"""Property of a target: whose backups it has."""
GONE = "appliance:gone"
"""Property of a snapshot at a target: the last point (its `createtxg`) for which the source still had it."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.-][A-Za-z0-9_.:-]*)*", re.ASCII)

Progress = Callable[[str, int, int | None], None]
"""Volume that is being sent, bytes sent so far of all, and of how many where ZFS foretells it. Called in a worker
thread, several times a second at most for each MiB; it must only take note."""
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Sent:
    volumes: int
    """For which something was new."""
    bytes: int


async def send(
    store: ZfsStore,
    volumes: Sequence[str],
    snapshot: str,
    target: str,
    *,
    owner: str = "appliance",
    progress: Progress | None = None,
) -> Sent:
    """Make the point `snapshot` at dataset `target`, which is made where it is missing. Repeating it goes on.

    Every volume must have the snapshot. Raises UsageError, NotFound, Conflict (the target is somebody else's), NoSpace.
    A cancellation that finds the point made comes too late: it is not raised.
    """
    return await _stoppable(
        lambda stop: _send(store, volumes, check_snapshot(snapshot), target, owner, stop, progress), too_late=True
    )


async def points(target: str) -> list[str]:
    """Oldest first. Raises NotFound where there is no such dataset."""
    return await in_thread(handover.snapshots_of, _checked(target))


async def stored(target: str, point: str) -> list[str]:
    """Volumes of a point. Raises NotFound."""
    return sorted(await in_thread(_stored, _checked(target), check_snapshot(point)))


async def receive(store: ZfsStore, target: str, point: str, *, progress: Progress | None = None) -> Sent:
    """Bring all volumes of a point into the store, with their snapshots and as clones of each other.

    A volume is one of the store's only when all of it is there; repeating it goes on. Raises NotFound, Conflict (the
    store has other volumes of these names), NoSpace.
    """
    return await _stoppable(lambda stop: _receive(store, _checked(target), check_snapshot(point), stop, progress))


async def prune(target: str, keep: Collection[str]) -> None:
    """Destroy the points that are not in `keep`, and volumes and snapshots that none of those has."""
    await in_thread(_prune, _checked(target), frozenset(keep))


# whole transfers; blocking


def _send(
    store: ZfsStore,
    volumes: Sequence[str],
    snapshot: str,
    target: str,
    owner: str,
    stop: Stop,
    progress: Progress | None,
) -> Sent:
    _check_apart(store.base, _checked(target))
    _open_target(target, owner)
    wanted = {volume: f"{store.base}/{check_volume(volume)}" for volume in volumes}
    sources = _listing(store.base)
    if lacking := [volume for volume, name in wanted.items() if not _has(sources.get(name), snapshot)]:
        raise NotFound(f"volume {lacking[0]!r} has no snapshot {snapshot!r}", hint="begin the backup again")
    run = _Run(target, stop, progress)
    run.resume({f"{target}/{volume}" for volume in volumes})
    there = _listing(target)
    todo = steps(sources, wanted, snapshot, there, target)
    run.all(todo)
    _mark(sources, wanted, snapshot, target)
    stop.check()
    _quietly("snapshot", f"{target}@{snapshot}")
    return Sent(len({step.volume for step in todo}), run.bytes)


def _receive(store: ZfsStore, target: str, point: str, stop: Stop, progress: Progress | None) -> Sent:
    _check_apart(store.base, target)
    wanted = _stored(target, point)
    sources = _listing(target)
    run = _Run(store.base, stop, progress)
    run.resume({f"{store.base}/{volume}" for volume in wanted})
    todo = steps(sources, wanted, point, _listing(store.base), store.base)
    if clash := next((step.volume for step in todo if ":" in step.into), None):
        raise Conflict(
            f"the store has another volume {clash!r} already",
            where=store.base,
            hint="restore into an empty home, with a `zpool` setting of its own",
        )
    run.all(todo)
    for volume, name in wanted.items():
        dataset = f"{store.base}/{volume}"
        if sources[name].sealed:
            for value in ("readonly=on", f"{SEALED}=on"):
                zfs("set", value, dataset)
        zfs("set", "canmount=noauto", dataset)
    return Sent(len({step.volume for step in todo}), run.bytes)


def _stored(target: str, point: str) -> dict[str, str]:
    """Volume -> its dataset at the target."""
    datasets = _listing(target)
    if not _has(datasets[target], point):
        raise NotFound(f"there is no backup {point!r}", where=target, hint="`zfs list -t snapshot` shows what there is")
    found = {volume_of(name, target): name for name, dataset in datasets.items() if _has(dataset, point)}
    found.pop("", None)
    return found


def _prune(target: str, keep: frozenset[str]) -> None:
    able = abilities(target)
    datasets = _listing(target)
    marks = datasets.pop(target).moments
    kept = [mark for mark in marks if mark.name in keep]
    going = {mark.name for mark in marks} - keep
    for point in going:
        _quietly("destroy", f"{target}@{point}")
    gone = _property(target, GONE)
    for name, dataset in sorted(datasets.items(), reverse=True):
        if not dataset.moments:
            continue
        if not any(_has(dataset, mark.name) for mark in kept):
            handover.destroy(name, able)
            continue
        for moment in dataset.moments:
            last = gone.get(f"{name}@{moment.name}", "")
            if moment.name in going or (last.isdecimal() and all(int(last) < mark.order for mark in kept)):
                _drop(f"{name}@{moment.name}")


def _drop(snapshot: str) -> None:
    try:
        _quietly("destroy", snapshot)
    except Conflict:
        log.debug("%s is still needed by a clone", snapshot)


def _mark(sources: dict[str, Dataset], wanted: dict[str, str], point: str, target: str) -> None:
    """Note what the streams do not carry: which volumes are sealed, and which snapshots the source has no longer."""
    gone = _property(target, GONE)
    there = _listing(target)
    last = max((mark.order for mark in there[target].moments), default=0)
    for name, dataset in there.items():
        source = sources.get(wanted.get(volume_of(name, target), ""))
        if source is None or not _has(dataset, point):
            continue
        if source.sealed and not dataset.sealed:
            zfs("set", f"{SEALED}=on", name)
        present = {moment.guid for moment in source.moments}
        for moment in dataset.moments:
            if moment.guid not in present and f"{name}@{moment.name}" not in gone:
                zfs("set", f"{GONE}={last}", f"{name}@{moment.name}")


class _Run:
    """Steps into datasets below `top`, one after the other."""

    def __init__(self, top: str, stop: Stop, progress: Progress | None) -> None:
        self._top = top
        self._stop = stop
        self._progress = progress
        self._able = abilities(top)
        self._total: int | None = None
        self.bytes = 0

    def resume(self, datasets: Collection[str]) -> None:
        """Finish what was cut off, or drop it where it cannot be finished."""
        if not self._able.resumable:
            return
        for name, token in _property(self._top, "receive_resume_token", "filesystem").items():
            if name.partition(":")[0] not in datasets or token == "-":
                continue
            try:
                self._pipe(volume_of(name, self._top), ["-t", token], ["-s", "-u", name])
            except Stopped:
                raise
            except ApplianceError as error:
                log.info("%s was cut off and cannot go on; it is sent again: %s", name, error.message)
                _quietly("receive", "-A", name)

    def all(self, todo: Sequence[Step]) -> None:
        if self._able.foretell:
            self._total = self.bytes + sum(self._foretold(step) for step in todo)
        for step in todo:
            self._folders(step.into)
            where = (["-F"] if step.exists else []) + [step.into]
            more = ["-s", "-u"] if self._able.resumable else ["-u"]
            self._pipe(step.volume, self._arguments(step), more + where)

    def _arguments(self, step: Step) -> list[str]:
        raw = ["-w"] if self._able.raw else []
        return [*raw, "-I", step.base, step.source] if step.base else [*raw, step.source]

    def _pipe(self, volume: str, send: list[str], receive: list[str]) -> None:
        self._stop.check()
        if self._progress:
            self._progress(volume, self.bytes, self._total)

        def count(moved: int) -> None:
            self.bytes += moved
            if self._progress:
                self._progress(volume, self.bytes, self._total)

        pipe(["zfs", "send", *send], ["zfs", "receive", *receive], self._stop, count)

    def _foretold(self, step: Step) -> int:
        answer = zfs("send", "-n", "-P", *self._arguments(step), timeout_s=SLOW_S)
        sizes = [line.split("\t")[1] for line in answer.splitlines() if line.startswith("size\t")]
        return int(sizes[-1]) if sizes else 0

    def _folders(self, dataset: str) -> None:
        parts = dataset[len(self._top) + 1 :].split("/")
        for depth in range(1, len(parts)):
            _quietly("create", "-o", "canmount=off", f"{self._top}/{'/'.join(parts[:depth])}")


# datasets


def _checked(target: str) -> str:
    if not _NAME.fullmatch(target):
        raise UsageError(f"{target!r} is not the name of a pool or dataset", hint="write it as `zfs list` does")
    return target


def _check_apart(base: str, target: str) -> None:
    if f"{base}/".startswith(f"{target}/") or f"{target}/".startswith(f"{base}/"):
        raise Conflict(f"{target} is a part of the store {base}, or it of that", hint="choose another dataset")


def _open_target(target: str, owner: str) -> None:
    parts = target.split("/")
    if len(parts) < 2:
        raise UsageError(f"{target!r} is a whole pool", hint=f"give a dataset in it, such as {target}/backup")
    zfs("list", "-H", "-o", "name", parts[0])
    for depth in range(2, len(parts)):
        _quietly("create", "-o", "canmount=off", "/".join(parts[:depth]))
    options = ("canmount=off", "mountpoint=none", "readonly=on", f"{OWNER}={owner}")
    _quietly("create", *(word for option in options for word in ("-o", option)), target)
    found = zfs("get", "-H", "-o", "value", OWNER, target).strip()
    if found != owner:
        whose = "it was not made for backups" if found == "-" else f"it has the backups of {found!r}"
        raise Conflict(f"{target} belongs to something else: {whose}", where=target, hint="choose another dataset")


def _listing(top: str) -> dict[str, Dataset]:
    """Raises NotFound."""
    return parse(zfs("get", "-r", "-H", "-p", "-o", "name,property,value", PROPERTIES, top, timeout_s=SLOW_S))


def _property(top: str, name: str, kinds: str = "") -> dict[str, str]:
    """Dataset or snapshot -> value, where it is set."""
    only = ["-t", kinds] if kinds else []
    answer = zfs("get", "-r", *only, "-H", "-o", "name,value", name, top, timeout_s=SLOW_S)
    rows = [line.split("\t", 1) for line in answer.splitlines()]
    return {row[0]: row[1] for row in rows if row[1] != "-"}


def _has(dataset: Dataset | None, snapshot: str) -> bool:
    return dataset is not None and bool(dataset.up_to(snapshot))


def _quietly(*arguments: str) -> None:
    try:
        zfs(*arguments, timeout_s=SLOW_S)
    except (AlreadyThere, NotFound) as error:
        log.debug("%s", error.message)


async def _stoppable(work: Callable[[Stop], R], *, too_late: bool = False) -> R:
    """Blocking work in a thread; a cancellation stops its programs, so that it ends soon, and waits for that.

    `too_late`: what was done nevertheless is answered, and the cancellation is not raised.
    """
    stop = Stop()
    running = asyncio.ensure_future(in_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.stop()
        await ended(running)
        if too_late and not running.cancelled() and running.exception() is None:
            return running.result()
        raise
