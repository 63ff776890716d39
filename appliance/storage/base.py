"""The volume store's contract. Two stores keep it: ZFS and a plain directory.

A volume is a directory tree under an opaque name such as `notebooks/4f2a/1`. History never rewrites a volume:
going back is a clone under a new name, and whoever owns the workspace moves its pointer (one row in `state/`).
So every operation here is either done or not done, and repeating one that was done is harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.storage.gate import Gate


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


@dataclass(frozen=True, slots=True)
class Usage:
    """Who holds how many bytes on the disk. What two snapshots share, neither of them holds alone."""

    referenced: int
    """The live content."""
    unique: int
    """Freed if the volume went with all its snapshots; what a clone or the volume it was cloned from shares stays."""
    history: int
    """Held by its snapshots and not by the live content."""
    snapshots: Mapping[str, int]
    """Snapshot -> bytes freed if only that one went; oldest first."""
    shared: int = 0
    """On the disk for clones too, and counted here and nowhere else: with `unique`, all volumes add up to the disk."""


@dataclass(frozen=True, slots=True)
class Reclaim:
    bytes: int
    exact: bool
    """False: at least so many; what several snapshots share is not counted."""


class Store(Protocol):
    """Blocking; callers run it in a worker thread. Raises StorageError, NoSpace, NotFound.

    A name is one to eight parts of `[A-Za-z0-9._-]`, none starting with a dot, joined by `/`, 200 characters in all;
    anything else is a UsageError (`names.part` makes a part of any text). Snapshot names are one such part. No volume
    lies inside another: `a` and `a/b` cannot both exist (Conflict).
    """

    @property
    def gate(self) -> Gate:
        """What `destroy` and `destroy_snapshot` ask first; both raise Conflict for what a backup reads."""
        ...

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
        """The volume and its snapshots. Gone already counts as done.

        What a clone still needs of its history goes over to that clone first, so clones stay as they are.
        """
        ...

    # looking back

    def view(self, volume: str, snapshot: str) -> AbstractContextManager[Path]:
        """A read-only directory with the snapshot's content, valid inside the `with`. Raises NotFound.

        Several views of one snapshot share it; it is kept for a while afterwards, so that browsing is quick.
        """
        ...

    def changed(self, volume: str) -> bool:
        """The live content differs from the newest snapshot, or there is none. In doubt True."""
        ...

    def written(self, volume: str, snapshot: str) -> int | None:
        """Bytes in this snapshot that the one before it did not have; of the first, all. None: cannot be told."""
        ...

    def hints(self, volume: str, older: str, newer: str | None) -> Iterator[str] | None:
        """Paths below the root that may differ between two moments (`newer` None: now), or None: it cannot be told
        without a walk. Never misses a file, though of one with several names it may name only one; a renamed directory
        stands for all that is in it. Bytes as surrogates."""
        ...

    # space

    def usage(self, volume: str) -> Usage: ...

    def reclaimable(self, volume: str, snapshots: Collection[str]) -> Reclaim:
        """What would come back if these snapshots went together."""
        ...

    def set_quota(self, volume: str, most: int | None) -> bool:
        """Bound the live content to `most` bytes; None lifts the bound. False: this store can only count."""
        ...

    def reserve(self, size: int) -> None:
        """Keep `size` bytes of the store back from all volumes, fewer where they do not fit; 0 gives them back.

        Nothing in a store that shares its disk with the home: there a file does it.
        """
        ...

    def snapshot_all(self, volumes: Sequence[str], snapshot: str) -> None:
        """Freeze several volumes at one instant, where the store can; else one after the other."""
        ...

    def volumes(self, prefix: str = "") -> list[str]:
        """Names of all volumes below `prefix`."""
        ...
