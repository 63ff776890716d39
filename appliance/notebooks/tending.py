"""Looking after the history of every notebook: a snapshot where something changed, and letting old ones go."""

from __future__ import annotations

import logging
from asyncio import Lock
from collections.abc import Callable, Mapping
from typing import Any

from appliance.errors import ApplianceError
from appliance.history.retention import Policy
from appliance.history.workspaces import Workspaces
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import History, Notebook
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.room import plenty

log = logging.getLogger(__name__)

PRUNE_EVERY_S = 3600.0
MANY_NEW = 30
"""Moments since the last time, with which it comes sooner."""
AUTHOR = "appliance"
"""Of the moments that nobody asked for."""


def policy(settings: Settings, own: History) -> Policy:
    """What the spec says, else the settings."""

    def count(spec: int | None, setting: int) -> int:
        return setting if spec is None else spec

    return Policy(
        recent_s=settings.keep_recent_h * 3600,
        hourly=count(own.hourly, settings.keep_hourly),
        daily=count(own.daily, settings.keep_daily),
        weekly=count(own.weekly, settings.keep_weekly),
        monthly=count(own.monthly, settings.keep_monthly),
    )


def is_due(last: float | None, every_s: float, now: float) -> bool:
    """Also where the clock was set back behind the last time."""
    return last is None or abs(now - last) >= every_s


class Tending:
    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        settings: Settings,
        locks: Mapping[str, Lock],
        no_moments: Callable[[], str] = plenty,
    ) -> None:
        """`no_moments`: why none is taken that nobody asked for; empty: it may be."""
        self._db = db
        self._workspaces = workspaces
        self._settings = settings
        self._locks = locks
        self._no_moments = no_moments
        self._looked: dict[str, float] = {}
        """uid -> when it was last asked whether it has changed."""
        self._pruned: dict[str, tuple[float, int]] = {}
        """uid -> when, and how many moments were left."""
        self._told: dict[str, str] = {}
        """uid -> the problem that an event has told of."""

    async def tend(self, now: float, *, by_age: bool) -> None:
        """One round over all notebooks. What fails for one is told once and holds up no other.

        Without `by_age` the clock is not trusted, and nothing counts as old.
        """
        found = resources.every(self._db.read, "notebook")
        uids = {notebook.uid for notebook in found}
        memories: tuple[dict[str, Any], ...] = (self._looked, self._pruned, self._told)
        for memory in memories:
            for uid in memory.keys() - uids:
                del memory[uid]
        for notebook in found:
            if notebook.deleting or self._locks[notebook.uid].locked():
                continue  # what is under way takes its own moments; the next round comes soon
            try:
                await self._tend_one(notebook, now, by_age=by_age)
                self._told.pop(notebook.uid, None)
            except ApplianceError as error:
                self._tell(notebook, error, now)
            except Exception:  # a surprise with one holds up no other
                log.exception("looking after notebook %s", notebook.name)

    async def _tend_one(self, notebook: Resource, now: float, *, by_age: bool) -> None:
        spec = parse("notebook", notebook.name, notebook.spec)
        assert isinstance(spec, Notebook)
        if notebook.phase == "Running":
            await self._keep(notebook, spec.history, now)
        if by_age:
            await self._prune(notebook, spec.history, now)

    async def _keep(self, notebook: Resource, own: History, now: float) -> None:
        """A moment of the running session, if something has changed since the newest one."""
        every_s = self._settings.snapshot_interval_s if own.interval_s is None else own.interval_s
        newest = self._workspaces.newest(notebook.uid)
        last = max(self._looked.get(notebook.uid, 0.0), newest.created if newest else 0.0) or None
        if not every_s or not is_due(last, every_s, now) or self._no_moments():
            return  # a moment that nobody asked for must not take the last of the disk
        self._looked[notebook.uid] = now  # also where it fails: a full disk is not tried every minute
        async with self._locks[notebook.uid]:
            if await self._workspaces.changed(notebook.uid):
                subject = f"session {notebook.status.get('session', 0)}"
                await self._workspaces.snapshot(notebook.uid, cause="interval", author=AUTHOR, subject=subject)

    async def _prune(self, notebook: Resource, own: History, now: float) -> None:
        uid, count = notebook.uid, self._workspaces.count(notebook.uid)
        last, left = self._pruned.get(uid, (None, 0))
        if not is_due(last, PRUNE_EVERY_S, now) and count - left < MANY_NEW:
            return
        self._pruned[uid] = now, count  # also where it fails: it is not tried every minute
        if not count:
            return
        found = await self._workspaces.prune(uid, policy(self._settings, own), now, measure=False)
        self._pruned[uid] = now, self._workspaces.count(uid)
        if going := len(found.going):
            log.info("notebook %s: %s of %s snapshots are pruned", notebook.name, going, len(found.verdicts))

    def _tell(self, notebook: Resource, error: ApplianceError, now: float) -> None:
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        if self._told.get(notebook.uid) == message:
            return
        self._told[notebook.uid] = message
        with self._db.write() as db:
            events.record(db, "notebook", notebook.name, "HistoryProblem", message, now=now, level="warning")
