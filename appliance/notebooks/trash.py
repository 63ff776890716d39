"""Deleted notebooks: kept for some days with workspace, history and spec, brought back by a word, destroyed late.

Going into the trash and coming back are one transaction each; nothing of the files is touched. What is destroyed is
marked first and its row goes last, so a kill in between leaves a row that cannot be brought back any more and that the
next round goes on with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.history.volumes import ROOM
from appliance.history.workspaces import Workspaces
from appliance.notebooks import jupyter
from appliance.settings import Settings
from appliance.spec.names import check_name
from appliance.state import events, resources, trash
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.state.trash import Deleted
from appliance.storage.base import Store
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

KIND: Final = "notebook"
DAY_S = 86_400.0
JUMP_S = 3600.0
"""What the clock may differ from the seconds that have passed until somebody has set it."""


def since_boot() -> float:
    """Seconds, also those in which the machine slept; no clock that is set changes them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Trash:
    """`counter` counts seconds and is never set. `forget` removes what is kept of a notebook beside its workspace."""

    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        store: Store,
        settings: Settings,
        clock: Callable[[], float],
        counter: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, asyncio.Lock],
        forget: Callable[[Resource], Awaitable[None]],
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._store = store
        self._settings = settings
        self._clock = clock
        self._counter = counter
        self._ahead = clock() - counter()
        """Seconds between the two at the last look."""
        self._known: set[str] = set()
        """Uids of those that were deleted, or moved, by the clock of now."""
        self._hint = hint
        self._locks = locks
        self._forget = forget
        self._told: dict[str, str] = {}
        """uid -> why it could not be destroyed, as an event has told."""

    @property
    def kept_s(self) -> float:
        """For how long; 0: there is no trash."""
        return self._settings.keep_deleted_days * DAY_S

    def put(self, notebook: Resource) -> None:
        """Nothing of it runs any more. Its row goes, so its name is free; its files stay."""
        self._follow_clock()
        now = self._clock()
        document = {**notebook.status, "container": "", "started": None}
        resting = replace(notebook, phase="Stopped", message="", status=document)
        text = f"kept with its files for {_days(self.kept_s)}: `appliance notebook undelete {notebook.name}`"
        with self._db.write() as db:
            trash.put(db, resting, now=now, until=now + self.kept_s)
            events.record(db, KIND, notebook.name, "Deleted", text, now=now)
        self._known.add(notebook.uid)

    def rows(self) -> list[Deleted]:
        """Newest first."""
        return trash.every(self._db.read)

    def find(self, name: str) -> Deleted:
        """By name, the one deleted last, or by uid. Raises NotFound, Conflict for what is being destroyed."""
        found = trash.find(self._db.read, KIND, name)
        if not found:
            raise NotFound(f"no deleted notebook {name!r}", hint="`appliance notebook deleted` lists what there is")
        whole = [row for row in found if not row.going]
        if not whole:
            raise Conflict(f"notebook {name!r} is being destroyed", hint="it cannot be brought back any more")
        return whole[0]

    async def undelete(self, name: str, new: str = "", *, author: str = "") -> Resource:
        """Bring it back with all it had, stopped. Raises NotFound, Conflict where its name is taken meanwhile."""
        uid = self.find(name).uid
        async with self._locks[uid]:
            row = self._of(uid)
            wanted = new or row.name
            check_name(KIND, wanted)
            if resources.find(self._db.read, KIND, wanted):
                raise Conflict(
                    f"there is a notebook {wanted!r} again; nothing was changed",
                    hint=f"bring it back by another name: `appliance notebook undelete {name} --as NEW`",
                )
            kept = row.resource
            back = replace(
                kept,
                name=wanted,
                spec={key: wanted if key == "name" else value for key, value in kept.spec.items()},
                # the file that declared it may be gone, or declare another by now
                source=kept.source if kept.source in ("cli", "api", "tui") else "cli",
                status={**kept.status, "url_path": jupyter.base_url(wanted)},
            )
            now = self._clock()
            by = f" by {author}" if author else ""
            renamed = f"; it was {row.name}" if wanted != row.name else ""
            with self._db.write() as db:
                trash.remove(db, uid)
                resources.bring_back(db, back, row.revisions, now=now)
                events.record(db, KIND, wanted, "Undeleted", f"brought back{by} with its files{renamed}", now=now)
        self._hint(uid)
        return resources.get(self._db.read, KIND, wanted)

    async def purge(self, name: str) -> None:
        """Destroy it now, with its files and history. Raises NotFound, StorageError; Conflict for an ambiguous name."""
        found = trash.find(self._db.read, KIND, name)
        if not found:
            raise NotFound(f"no deleted notebook {name!r}", hint="`appliance notebook deleted` lists what there is")
        if len(found) > 1:
            raise Conflict(
                f"{len(found)} deleted notebooks are meant by {name!r}; nothing was destroyed",
                hint=f"say which by its id: {', '.join(f'{row.uid} ({row.name})' for row in found)}",
            )
        await self._destroy(found[0])

    async def tend(self, *, by_age: bool) -> None:
        """Destroy what is kept long enough, unless the clock is not to be believed, and count what the rest takes."""
        self._follow_clock()
        for row in self.rows():
            late = by_age and self._clock() >= row.until
            try:
                if late or row.going:
                    await self._destroy(row)
                elif row.bytes is None:
                    await self._count(row)
                self._told.pop(row.uid, None)
            except ApplianceError as error:
                self._tell(row, error)
            except Exception:  # a surprise with one holds up no other
                log.exception("deleted notebook %s stays for now", row.name)

    def _follow_clock(self) -> None:
        """What was deleted before somebody set the clock is as old as it was.

        One from before the daemon began may have been deleted by a clock that was right: it never gets older by this.
        """
        ahead = self._clock() - self._counter()
        by, before = ahead - self._ahead, self._ahead + self._counter()
        if abs(by) <= JUMP_S:
            return
        self._ahead = ahead
        rows = [row for row in self.rows() if row.deleted <= before and (by > 0 or row.uid in self._known)]
        with self._db.write() as db:
            for row in rows:
                trash.move(db, row.uid, by)
        self._known.update(row.uid for row in rows)

    def _of(self, uid: str) -> Deleted:
        """Raises NotFound, Conflict for what is being destroyed."""
        row = trash.of(self._db.read, uid)
        if row is None:
            raise NotFound("it is no deleted notebook any more", hint="`appliance get notebooks` lists what there is")
        if row.going:
            raise Conflict(f"notebook {row.name!r} is being destroyed", hint="it cannot be brought back any more")
        return row

    async def _destroy(self, row: Deleted) -> None:
        async with self._locks[row.uid]:
            if all(other.uid != row.uid for other in self.rows()):
                return  # it was brought back, or is gone already
            with self._db.write() as db:
                trash.set_going(db, row.uid)
            await self._workspaces.destroy(row.uid)
            await self._forget(row.resource)
            with self._db.write() as db:
                trash.remove(db, row.uid)
                text = "the deleted notebook and its files are gone for ever"
                events.record(db, KIND, row.name, "Purged", text, now=self._clock())

    async def _count(self, row: Deleted) -> None:
        count = 0
        for volume in await in_thread(self._store.volumes, f"{ROOM}/{row.uid}"):
            usage = await in_thread(self._store.usage, volume)
            count += usage.unique + usage.shared
        with self._db.write() as db:
            trash.set_bytes(db, row.uid, count)

    def _tell(self, row: Deleted, error: ApplianceError) -> None:
        if self._told.get(row.uid) == error.message:
            return
        self._told[row.uid] = error.message
        log.warning("deleted notebook %s stays for now: %s", row.name, error)


def _days(seconds: float) -> str:
    days = seconds / DAY_S
    return "a day" if days == 1 else f"{days:g} days"
