"""The moments around a session: before it begins, and after it has ended, however it did.

A snapshot that fails is told and holds up nothing: on a full disk the notebook is the way to free some space.
"""

from __future__ import annotations

from collections.abc import Callable

from appliance.errors import ApplianceError
from appliance.history.causes import Cause
from appliance.history.workspaces import Workspaces
from appliance.notebooks import ending
from appliance.notebooks.plan import Session
from appliance.notebooks.tending import AUTHOR
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.snapshots import Snapshot

ENDINGS: tuple[Cause, ...] = ("stop", "idle")


class Moments:
    """The caller holds the notebook's lock."""

    def __init__(self, db: Database, workspaces: Workspaces, clock: Callable[[], float]) -> None:
        self._db = db
        self._workspaces = workspaces
        self._clock = clock
        self._tried: dict[str, str] = {}
        """uid -> the session that ended by itself and was looked after."""

    async def before(self, notebook: Resource, number: int) -> None:
        """Session `number` is about to begin. A step that is repeated after a kill takes no second one."""
        newest = self._newest(notebook)
        if newest is None or (newest.cause, newest.message) != ("start", _before(number)):
            await self._take(notebook, "start", _before(number), number)

    async def after(self, notebook: Resource, session: Session) -> None:
        """It was stopped: by its user, or because nobody used it."""
        newest = self._newest(notebook)
        if newest is None or newest.created < session.started or not _is_after(newest, session.number):
            await self._take(notebook, ending.cause(notebook), _after(session.number), session.number)

    async def after_end(self, notebook: Resource, session: Session) -> None:
        """It has ended by itself, or was killed: what it wrote last is kept at once, once."""
        if self._tried.get(notebook.uid) == session.id:
            return
        self._tried[notebook.uid] = session.id  # also where it fails: a full disk is not tried at each pass
        try:
            changed = await self._workspaces.changed(notebook.uid)
        except ApplianceError:
            changed = True
        if changed:
            await self._take(notebook, ending.cause(notebook), _after(session.number), session.number)

    def forget(self, uid: str) -> None:
        self._tried.pop(uid, None)

    def _newest(self, notebook: Resource) -> Snapshot | None:
        return self._workspaces.newest(notebook.uid)

    async def _take(self, notebook: Resource, cause: Cause, message: str, number: int) -> None:
        try:
            await self._workspaces.snapshot(
                notebook.uid, cause=cause, message=message, author=AUTHOR, subject=f"session {number}"
            )
        except ApplianceError as error:
            text = f"no snapshot {message}: {error.message}; {error.hint}"
            ending.record(self._db, notebook, "SnapshotFailed", text, now=self._clock(), level="warning")


def _before(number: int) -> str:
    return f"before session {number}"


def _after(number: int) -> str:
    return f"after session {number}"


def _is_after(moment: Snapshot, number: int) -> bool:
    return moment.cause in ENDINGS and moment.message == _after(number)
