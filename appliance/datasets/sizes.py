"""How large versions are, truly: what one has for itself and what it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.state import versions
from appliance.state.db import Database
from appliance.state.versions import Version
from appliance.storage.base import Store, Usage
from appliance.storage.threads import in_thread


@dataclass(frozen=True, slots=True)
class Size:
    referenced: int
    """Bytes of the whole content on the disk."""
    unique: int
    """Freed if this version was removed. What branches, bases and their children share stays for the others."""

    @property
    def shared(self) -> int:
        return max(0, self.referenced - self.unique)


class Sizes:
    def __init__(self, db: Database, store: Store) -> None:
        self._db = db
        self._store = store
        self._kept: dict[str, Usage] = {}
        """Volume -> its usage, where nothing can change it any more."""

    async def of(self, rows: Sequence[Version]) -> list[Size]:
        """In the order of the versions, which are committed."""
        instant = (await in_thread(self._store.info)).instant
        return [await self._size(row, instant=instant) for row in rows]

    async def _size(self, row: Version, *, instant: bool) -> Size:
        """A store that copies shares nothing between volumes, so what a sealed one takes up stays as it is."""
        usage = self._kept.get(row.volume)
        if usage is None:
            usage = await in_thread(self._store.usage, row.volume)
            if not instant:
                self._kept[row.volume] = usage
        alone = len(versions.of_volume(self._db.read, row.volume)) < 2
        return Size(usage.referenced, min(usage.unique, usage.referenced) if alone else 0)
