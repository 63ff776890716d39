"""Another name for a notebook. All that is kept of it is kept under its uid, so history, files and token stay.

Its path on the front door is made of its name, so a session that runs ends first and another one begins.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from appliance.errors import Conflict
from appliance.notebooks import jupyter
from appliance.notebooks.owned import get, refuse_watched
from appliance.spec.names import check_name
from appliance.state import events, resources
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource

KIND: Final = "notebook"
FORMER = "former"
"""In the status: names it had, so that who comes to an old address is sent to the new one (state/resources.py)."""
MOST_FORMER = 20


class Renaming:
    """`end_session` leaves no session and no way to it on the front door; the notebook's lock is held meanwhile."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, Lock],
        end_session: Callable[[Resource], Awaitable[None]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._end_session = end_session

    async def rename(self, name: str, new: str, *, author: str = "") -> Resource:
        """Raises NotFound, UsageError for no name, Conflict where it is taken or a watched file declares the notebook.

        A kill leaves the old name or the new one; a session that had ended begins again in either case.
        """
        check_name(KIND, new)
        uid = self._check(self._db.read, name, new).uid
        async with self._locks[uid]:
            notebook = self._check(self._db.read, name, new)
            try:
                await self._end_session(notebook)
                with self._db.write() as db:
                    self._put(db, self._check(db, name, new), new, author)
            finally:
                self._hint(uid)
        return resources.get(self._db.read, KIND, new)

    def _put(self, db: Connection, notebook: Resource, new: str, author: str) -> None:
        now = self._clock()
        resources.rename(
            db,
            notebook.uid,
            new,
            {key: new if key == "name" else value for key, value in notebook.spec.items()},
            status={**notebook.status, "url_path": jupyter.base_url(new), FORMER: _former(notebook, new)},
            source="cli",
            now=now,
        )
        phase, again = ("Starting", "another session begins") if notebook.desired == "running" else ("Stopped", "")
        resources.set_status(db, notebook.uid, generation=notebook.generation + 1, phase=phase, message=again)
        by = f" by {author}" if author else ""
        # what was told and logged until now stays where it was told: both names say where to look
        events.record(db, KIND, notebook.name, "Renamed", f"it is notebook {new} from now on, renamed{by}", now=now)
        before = f"renamed{by}; its events and logs until now are those of notebook {notebook.name}"
        events.record(db, KIND, new, "Renamed", before, now=now)

    def _check(self, db: Connection, name: str, new: str) -> Resource:
        notebook = get(db, name)
        refuse_watched(notebook, "its name is the one in that file: change it there, which makes another notebook")
        if name == new:
            raise Conflict(f"notebook {name!r} has that name already", hint="give another name")
        if resources.find(db, KIND, new):
            raise Conflict(f"there is a notebook {new!r} already; nothing was changed", hint="give another name")
        return notebook


def _former(notebook: Resource, new: str) -> list[str]:
    """Oldest first."""
    before: list[str] = notebook.status.get(FORMER, [])
    return [*(name for name in before if name not in (new, notebook.name)), notebook.name][-MOST_FORMER:]
