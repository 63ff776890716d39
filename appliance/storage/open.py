"""Which store this home uses, and why. Never another one than before without somebody having said so."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.errors import StorageError, UsageError
from appliance.settings import Settings
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore, is_directory_store
from appliance.storage.zfs.pools import installed, pools
from appliance.storage.zfs.store import ZfsStore

MARK = ".store"
"""File in the volumes directory that says which store the volumes are in."""
_POOL = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*(/[A-Za-z0-9_.:-]+)*", re.ASCII)


def open_store(settings: Settings) -> Store:
    """The store of the settings. Raises StorageError where it cannot be had: falling back would hide the volumes."""
    root, pool = settings.volumes_dir, settings.zpool.strip("/")
    if settings.storage not in ("auto", "zfs", "directory"):
        raise UsageError(f"storage cannot be {settings.storage!r}", hint="set it to auto, zfs or directory")
    if settings.storage == "directory" or (settings.storage == "auto" and not pool):
        _agree(root, "directory")
        store: Store = DirectoryStore(root, _reason(settings))
        _remember(root, "directory")
        return store
    if not pool:
        raise StorageError(
            f"storage is zfs, but no `zpool` is set ({_seen()})",
            hint="set `zpool` to a pool or dataset, such as tank/appliance, or `storage` to directory",
        )
    if not _POOL.fullmatch(pool):
        raise UsageError(f"{pool!r} is not the name of a pool or dataset", hint="write it as `zfs list` does")
    _agree(root, f"zfs {pool}")
    try:
        store = ZfsStore(pool, root)
    except StorageError as error:
        error.hint = f"{error.hint} ({_seen()})"
        raise
    _remember(root, f"zfs {pool}")
    return store


def _reason(settings: Settings) -> str:
    if settings.storage == "directory":
        return "`storage` is set to directory"
    return f"no `zpool` is set ({_seen()})"


def _seen() -> str:
    """What ZFS there is on this machine, in a few words; a look that fails is said, not raised."""
    if not installed():
        return "ZFS is not installed"
    try:
        found = pools()
    except StorageError as error:
        return f"ZFS does not answer: {error.message.splitlines()[0]}"
    return f"pools here: {', '.join(f'{pool.name} {pool.health}' for pool in found)}" if found else "there is no pool"


def _agree(root: Path, wanted: str) -> None:
    mark = root / MARK
    if not mark.exists():
        return
    before = mark.read_text(encoding="utf-8").strip()
    if before == wanted or (before == "directory" and not is_directory_store(root)):
        return
    raise StorageError(
        f"the volumes of this home are in the store `{before}`, and the settings say `{wanted}`",
        where=str(root),
        hint=f"set `storage` and `zpool` back; to begin with no volumes instead, remove {mark}",
    )


def _remember(root: Path, what: str) -> None:
    new = root / f"{MARK}.new"
    new.write_text(f"{what}\n", encoding="utf-8")
    new.replace(root / MARK)
