"""The volume store's contract. Two stores keep it: ZFS and a plain directory.

A volume is a directory tree under an opaque name such as `notebooks/4f2a/1`. History never rewrites a volume:
going back is a clone under a new name, and whoever owns the workspace moves its pointer (one row in `state/`).
So every operation here is either done or not done, and repeating one that was done is harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoreInfo:
    kind: str
    """`zfs` or `directory`."""
    detail: str
    """Where, in words for a person: the pool, or the directory and why it is not ZFS."""
    total_bytes: int
    free_bytes: int
    instant: bool
    """Snapshots and clones cost no copy."""


class Store(Protocol):
    """Blocking; callers run it in a worker thread. Raises StorageError, NoSpace, NotFound.

    A name is one to eight parts of `[A-Za-z0-9._-]`, none starting with a dot, joined by `/`, 200 characters in all;
    anything else is a UsageError (`names.part` makes a part of any text). Snapshot names are one such part. No volume
    lies inside another: `a` and `a/b` cannot both exist (Conflict).
    """

    def info(self) -> StoreInfo: ...

    def create(self, volume: str, *, owner: tuple[int, int] = (0, 0)) -> Path:
        """An empty, mounted volume, owned by (uid, gid). One that exists is returned as it is."""
        ...

    def exists(self, volume: str) -> bool: ...

    def path(self, volume: str) -> Path:
        """The mounted directory. Raises NotFound; mounts the volume where it is not mounted."""
        ...

    def snapshot(self, volume: str, snapshot: str) -> None:
        """Freeze the present content. A snapshot of that name that exists is kept."""
        ...

    def snapshots(self, volume: str) -> list[str]:
        """Oldest first."""
        ...

    def clone(self, volume: str, snapshot: str, new: str) -> Path:
        """A writable volume `new` with the snapshot's content. One that exists is returned as it is."""
        ...

    def seal(self, volume: str) -> None:
        """Make the volume read-only for good, where the store can; its content is final."""
        ...

    def used_bytes(self, volume: str) -> int:
        """Bytes the volume refers to."""
        ...

    def destroy_snapshot(self, volume: str, snapshot: str) -> None:
        """Gone already counts as done. Raises Conflict while a clone needs it."""
        ...

    def destroy(self, volume: str) -> None:
        """The volume and its snapshots. Gone already counts as done. Raises Conflict while a clone needs one."""
        ...

    def volumes(self, prefix: str = "") -> list[str]:
        """Names of all volumes below `prefix`."""
        ...
