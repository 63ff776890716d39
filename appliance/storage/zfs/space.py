"""Whose bytes they are, and bounds on them: read from ZFS's own accounts, which lag a few seconds behind.

On zfs-fuse it would be half a minute, so there they are brought up to date before they are read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from appliance.errors import NoSpace, NotFound, StorageError
from appliance.storage.base import Reclaim, Usage
from appliance.storage.zfs.abilities import Abilities
from appliance.storage.zfs.command import SLOW_S, AlreadyThere, zfs
from appliance.storage.zfs.handover import Frozen, frozen, is_left

log = logging.getLogger(__name__)

SMALLEST_RESERVE = 16 << 20
"""Bytes; less than that helps nobody."""
SETTLED = "appliance:settled"
"""Property of a volume on zfs-fuse; setting it has all that was written reach the disk, and the accounts."""
_TRIES = 5


def settle(dataset: str) -> None:
    """Have all that was written reach the disk, and the accounts, on a ZFS that has no `zpool sync`."""
    try:
        zfs("set", f"{SETTLED}=yes", dataset)
    except NoSpace as error:
        log.debug("the accounts of %s stay as they are: %s", dataset, error.message)


def number(dataset: str, name: str) -> int:
    """A property in bytes. Raises NotFound."""
    return int(zfs("get", "-H", "-p", "-o", "value", name, dataset))


def usage(dataset: str, able: Abilities, views: str = "") -> Usage:
    """`views` is the folder of clones that are only looked at."""
    if not able.written:
        settle(dataset)
    found = frozen(dataset, able)
    names = ("used", "referenced", "usedbysnapshots")
    lines = zfs("get", "-H", "-p", "-o", "property,value", ",".join(names), dataset).splitlines()
    values = dict(line.split("\t") for line in lines)
    total, referenced, history = (int(values[name]) for name in names)
    used = _used_by_each(dataset) if found else {}
    listed = [moment.name for moment in found if not is_left(moment.name)]
    snapshots = {name: used.get(name, 0) for name in listed}
    unique = _unique(dataset, total, found, able, views)
    return Usage(referenced, unique, history, snapshots, shared=max(0, total - unique))


def reclaimable(dataset: str, wanted: Collection[str], able: Abilities, views: str = "") -> Reclaim:
    """Snapshots that clones need give nothing back: they cannot go. Raises NotFound where one is missing."""
    found = frozen(dataset, able)
    if missing := set(wanted) - {moment.name for moment in found}:
        raise NotFound(f"there is no snapshot {min(missing)!r}", where=dataset, hint="it was pruned, or never taken")
    going = [moment for moment in found if moment.name in wanted and not _needed(moment, views)]
    if not going:
        return Reclaim(0, exact=True)
    names = [moment.name for moment in going]
    if able.foretell and not any(moment.clones for moment in going):
        return Reclaim(_foretold(dataset, names), exact=True)
    if len(going) == len(found):
        return Reclaim(number(dataset, "usedbysnapshots"), exact=True)
    used = _used_by_each(dataset)
    return Reclaim(sum(used.get(name, 0) for name in names), exact=len(names) == 1)


def set_quota(dataset: str, most: int | None) -> None:
    """A volume that holds more already gets what it holds as its bound, so it can only shrink."""
    wanted = most
    for _ in range(_TRIES):
        try:
            zfs("set", f"refquota={'none' if wanted is None else wanted}", dataset)
            return
        except StorageError as error:
            if most is None or "less than current" not in error.message:
                raise
            wanted = max(most, number(dataset, "referenced") + (1 << 20))
    raise StorageError(
        "the quota cannot be set while so much is being written", where=dataset, hint="repeat it when it is quiet"
    )


def reserve(dataset: str, wanted: int) -> None:
    """Keep `wanted` bytes of the pool from everybody else; less where there is no more. 0 gives them back."""
    if wanted <= 0:
        _give_back(dataset)
        return
    try:
        if number(dataset, "refreservation") == wanted:
            return
    except NotFound:
        _create(dataset)
    size = wanted
    while size >= min(wanted, SMALLEST_RESERVE):
        try:
            zfs("set", f"refreservation={size}", dataset)
            if size < wanted:
                log.warning("%s reserves %d bytes of %d: the pool has no more", dataset, size, wanted)
            return
        except StorageError as error:
            if not isinstance(error, NoSpace) and "greater than available" not in error.message:
                raise
            size //= 2
    log.warning("the pool has no room for a reserve of %d bytes; %s reserves nothing", wanted, dataset)


def _create(dataset: str) -> None:
    try:
        zfs("create", "-o", "canmount=off", "-o", "mountpoint=none", dataset)
    except AlreadyThere:
        log.debug("%s was made by somebody else meanwhile", dataset)


def _give_back(dataset: str) -> None:
    try:
        zfs("destroy", dataset)
    except NotFound:
        log.debug("there is no %s", dataset)


def _used_by_each(dataset: str) -> dict[str, int]:
    lines = zfs("get", "-r", "-d", "1", "-H", "-p", "-o", "name,value", "used", dataset).splitlines()
    rows = [line.split("\t") for line in lines]
    return {name.split("@", 1)[1]: int(value) for name, value in rows if "@" in name}


def _needed(moment: Frozen, views: str) -> bool:
    return any(not (views and clone.startswith(f"{views}/")) for clone in moment.clones)


def _unique(dataset: str, total: int, found: list[Frozen], able: Abilities, views: str) -> int:
    """What the last snapshot that a clone needs holds stays, whoever inherits it."""
    needed = [moment for moment in found if _needed(moment, views)]
    if not needed:
        return total
    last = needed[-1].name
    if not (able.foretell and able.written):
        return max(0, total - number(f"{dataset}@{last}", "referenced"))
    free = [moment.name for moment in found if not moment.clones]
    return number(dataset, f"written@{last}") + (_foretold(dataset, free) if free else 0)


def _foretold(dataset: str, names: list[str]) -> int:
    answer = zfs("destroy", "-n", "-v", "-p", f"{dataset}@{','.join(names)}", timeout_s=SLOW_S)
    rows = [line.split("\t") for line in answer.splitlines()]
    return sum(int(row[1]) for row in rows if row[0] == "reclaim")
