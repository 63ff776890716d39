"""Workspaces within their quota. ZFS bounds them by itself; in a plain directory they can only be counted, and who has
grown beyond the quota goes on, is told, and does not begin another session.

A quota is for the present files; their past is bounded by retention.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from appliance.errors import ApplianceError
from appliance.spec.fields import show_size
from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.state import events, resources, snapshots
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.threads import in_thread

KIND: Final = "notebook"
FULL = 0.98
"""Of a quota that the store enforces: from then on it is said to be full."""
COUNT_SHARE = 0.02
"""Counting a plain directory walks over it; it takes at most this share of the time."""


@dataclass(frozen=True, slots=True)
class Count:
    volume: str
    used: int
    """Bytes of the present files."""
    most: int
    bound: bool
    """The store lets it grow no further than `most`, or than it was when `most` was set."""
    at: float
    took_s: float


def problem(count: Count | None) -> str:
    """What is wrong with the use of a quota, with the way out; empty: nothing."""
    if count is None:
        return ""
    most, used = show_size(count.most), show_size(count.used)
    if count.used > count.most:
        way = "delete files or raise `quota`" if count.bound else _WAY_OUT
        return f"over its quota of {most}: its files take {used}; {way}"
    if count.bound and count.used >= count.most * FULL:
        return f"its quota of {most} is full: delete files or raise `quota`"
    return ""


_WAY_OUT = (
    "delete files while it runs; once stopped it starts again with a larger `quota` or after a rollback to a"
    " smaller snapshot"
)


class Quotas:
    def __init__(
        self,
        *,
        db: Database,
        store: Store,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, Lock],
    ) -> None:
        self._db = db
        self._store = store
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._counts: dict[str, Count] = {}
        self._set: dict[str, tuple[str, int | None]] = {}
        """uid -> volume and bound that the store was given, where it was a bound that holds."""
        self._told: dict[str, bool] = {}

    def refusal(self, uid: str, spec: Notebook) -> str:
        """Why no session may begin; empty: one may, or it is not known before it is counted at the start."""
        count = self._count(uid, spec)
        return problem(count) if count and not count.bound and count.used > count.most else ""

    def note(self, uid: str, spec: Notebook) -> str:
        """What is said of a session that runs; empty: nothing."""
        return problem(self._count(uid, spec))

    def shown(self, uid: str, spec: Notebook) -> dict[str, Any]:
        """For the status document."""
        count = self._count(uid, spec)
        return {"quota": spec.quota, "quota_used": count.used if count else None}

    async def keep(self, notebook: Resource, spec: Notebook, *, now: bool = False) -> None:
        """Set the bound and count. `now`: however lately it was counted. Raises StorageError, NotFound."""
        uid = notebook.uid
        volume = snapshots.head(self._db.read, uid)
        if volume is None or (spec.quota is None and self._set.get(uid) == (volume, None)):
            return
        bound = await self._bound(uid, volume, spec.quota)
        if spec.quota is None:
            self._counts.pop(uid, None)
        elif now or self._is_due(uid, volume):
            began = monotonic()
            used = await in_thread(self._store.used_bytes, volume)
            self._counts[uid] = Count(volume, used, spec.quota, bound, self._clock(), monotonic() - began)
            if used > spec.quota:
                self._set.pop(uid, None)  # the store bounds it at what it has; as it shrinks it is set anew
        self._tell(notebook, problem(self._count(uid, spec)))

    async def tend(self) -> None:
        """Count all notebooks that run or wait to; to be called about once a minute. What fails is told in the log."""
        found = [row for row in resources.every(self._db.read, KIND) if not row.deleting and row.desired == "running"]
        self.forget({row.uid for row in found})
        for notebook in found:
            if self._locks[notebook.uid].locked():
                continue  # it is about to be counted, or will be in a minute
            try:
                spec = parse(KIND, notebook.name, notebook.spec)
                assert isinstance(spec, Notebook)
                await self.keep(notebook, spec)
            except ApplianceError as error:
                self._tell(notebook, f"its quota cannot be watched: {error.message}")

    def forget(self, but: set[str]) -> None:
        for memory in (self._counts, self._set, self._told):
            for uid in memory.keys() - but:
                del memory[uid]

    async def _bound(self, uid: str, volume: str, most: int | None) -> bool:
        """The store enforces it."""
        if self._set.get(uid) == (volume, most):
            return True
        bound = await in_thread(self._store.set_quota, volume, most)
        if bound or most is None:
            self._set[uid] = (volume, most)
        return bound

    def _count(self, uid: str, spec: Notebook) -> Count | None:
        """The newest one, as the present spec has it; None: not of these files, or none at all."""
        count = self._counts.get(uid)
        if count is None or spec.quota is None or count.volume != snapshots.head(self._db.read, uid):
            return None
        return Count(count.volume, count.used, spec.quota, count.bound, count.at, count.took_s)

    def _is_due(self, uid: str, volume: str) -> bool:
        count = self._counts.get(uid)
        if count is None or count.volume != volume:
            return True
        return abs(self._clock() - count.at) >= count.took_s / COUNT_SHARE

    def _tell(self, notebook: Resource, words: str) -> None:
        """An event and another pass, once each time that it changes."""
        if bool(words) == self._told.get(notebook.uid, False):
            return
        self._told[notebook.uid] = bool(words)
        level: events.Level = "warning" if words else "info"
        with self._db.write() as db:
            events.record(
                db,
                KIND,
                notebook.name,
                "OverQuota" if words else "WithinQuota",
                words or "its files are within the quota again",
                now=self._clock(),
                level=level,
            )
        self._hint(notebook.uid)
