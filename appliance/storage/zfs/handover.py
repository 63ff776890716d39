"""Destroying a volume that clones come from: what they need of its history goes over to one of them.

    v@s1 v@s2 v@s3 v          a is a clone of v@s1, c of v@s3
    v@left:1 v@left:3 v       what nobody needs is gone; the others have a name that no snapshot of the store has
    c@left:1 c@left:3 c       `zfs promote c`: v is a clone of c@left:3, a one of c@left:1
    c@left:1 c                v is gone, and what only v needed with it

A kill after any of the steps leaves clones as they were and v with less history; repeating it goes on from there. The
names make a clash with the heir's own snapshots impossible, and tell a later destroy that nobody asks for them.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

from appliance.errors import Conflict, NotFound
from appliance.storage.zfs.abilities import Abilities
from appliance.storage.zfs.command import SLOW_S, AlreadyThere, Busy, zfs

log = logging.getLogger(__name__)

LEFT = "left:"
"""Snapshots of this prefix are in no list: they are there only for the clones that need them."""
TRIES = 5
"""Clones that are made or destroyed meanwhile make it begin again."""


@dataclass(frozen=True, slots=True)
class Frozen:
    name: str
    """Without the dataset."""
    clones: tuple[str, ...]


def snapshots_of(dataset: str) -> list[str]:
    """Oldest first, with those that were left to a clone. Raises NotFound."""
    lines = zfs("list", "-H", "-t", "snapshot", "-o", "name", "-s", "creation", "-d", "1", dataset).splitlines()
    return [line.split("@", 1)[1] for line in lines]


def frozen(dataset: str, able: Abilities) -> list[Frozen]:
    """Its snapshots with the clones of each, oldest first."""
    names = snapshots_of(dataset)
    if not names:
        return []
    clones = _clones(dataset) if able.clones else _clones_of_pool(dataset)
    return [Frozen(name, tuple(clones.get(name, ()))) for name in names]


def destroy(dataset: str, able: Abilities) -> None:
    """It must be unmounted, and no view may be open. Gone already counts as done. Raises Busy, Conflict."""
    origin = _origin(dataset)
    for _ in range(TRIES):
        try:
            zfs("destroy", "-r", dataset, timeout_s=SLOW_S)
        except NotFound:
            log.debug("%s was destroyed by somebody else meanwhile", dataset)
        except Conflict:
            origin = _hand_over(dataset, able) or origin
            continue
        forget(origin)
        return
    raise Conflict(
        f"what was made from {dataset} keeps changing", where=dataset, hint="repeat the command when it is quiet"
    )


def forget(snapshot: str) -> None:
    """Destroy `DATASET@SNAPSHOT` where it was left to clones and no clone needs it any longer."""
    if not is_left(snapshot):
        return
    try:
        zfs("destroy", snapshot, timeout_s=SLOW_S)
    except (Conflict, NotFound, Busy) as error:
        log.debug("%s stays: %s", snapshot, error.message.splitlines()[0])


def sweep(base: str) -> None:
    """Remove what was left to clones that are gone: a kill came between."""
    for snapshot in zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", base).splitlines():
        forget(snapshot)


def is_left(snapshot: str) -> bool:
    return snapshot.rpartition("@")[2].startswith(LEFT)


def _hand_over(dataset: str, able: Abilities) -> str:
    """The snapshot that `dataset` depends on afterwards; empty where somebody was faster."""
    try:
        found = frozen(dataset, able)
        _drop(dataset, [moment.name for moment in found if not moment.clones], able)
        needed = [moment for moment in found if moment.clones]
        if not needed:
            return ""
        names = [_rename(dataset, moment.name) for moment in needed]
        heir = needed[-1].clones[0]
        log.info("the history of %s that clones need goes over to %s", dataset, heir)
        zfs("promote", heir, timeout_s=SLOW_S)
    except (NotFound, AlreadyThere) as error:
        log.debug("%s changes meanwhile: %s", dataset, error.message)
        return ""
    return f"{heir}@{names[-1]}"


def _drop(dataset: str, names: list[str], able: Abilities) -> None:
    if able.several and names:
        zfs("destroy", f"{dataset}@{','.join(names)}", timeout_s=SLOW_S)
        return
    for name in names:
        zfs("destroy", f"{dataset}@{name}", timeout_s=SLOW_S)


def _rename(dataset: str, name: str) -> str:
    if is_left(name):
        return name
    new = f"{LEFT}{secrets.token_hex(8)}"
    zfs("rename", f"{dataset}@{name}", f"{dataset}@{new}")
    return new


def _clones(dataset: str) -> dict[str, list[str]]:
    lines = zfs("list", "-H", "-t", "snapshot", "-o", "name,clones", "-d", "1", dataset).splitlines()
    rows = [line.split("\t") for line in lines]
    return {
        name.split("@", 1)[1]: [clone for clone in clones.split(",") if clone not in ("", "-")] for name, clones in rows
    }


def _clones_of_pool(dataset: str) -> dict[str, list[str]]:
    """zfs-fuse knows only where a clone is from; it may be anywhere in the pool."""
    pool = dataset.split("/")[0]
    found: dict[str, list[str]] = {}
    for line in zfs("list", "-H", "-r", "-t", "filesystem", "-o", "name,origin", pool).splitlines():
        name, origin = line.split("\t")
        source, _, snapshot = origin.partition("@")
        if source == dataset:
            found.setdefault(snapshot, []).append(name)
    return found


def _origin(dataset: str) -> str:
    """`DATASET@SNAPSHOT`; `-` where it is no clone, empty where it is gone."""
    try:
        return zfs("get", "-H", "-o", "value", "origin", dataset).strip()
    except NotFound:
        return ""
