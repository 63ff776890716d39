"""What a user does with executions: ask for one, look, end one. And what the notebook must know of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping

from appliance.engine.labels import EXECUTION
from appliance.errors import Conflict, NoSpace, NotFound
from appliance.history.workspaces import Workspaces
from appliance.notebooks.executing.asked import Asked, checked
from appliance.notebooks.owned import get
from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.state import events, executions, resources
from appliance.state.db import Database
from appliance.state.executions import Execution
from appliance.state.resources import Resource
from appliance.storage.room import plenty
from appliance.storage.threads import in_thread
from appliance.storage.trees.pinning import pinned

KEPT = 200
"""Executions of one notebook that are over and still listed."""
MOST_OPEN = 16
"""Of one notebook at once."""


class Orders:
    """`blocked` says why nothing of a notebook may begin, in words; empty: it may."""

    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        locks: Mapping[str, asyncio.Lock],
        blocked: Callable[[Resource, Notebook], str],
        no_room: Callable[[], str] = plenty,
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._blocked = blocked
        self._no_room = no_room

    async def start(self, name: str, asked: Asked, *, author: str = "") -> Execution:
        """Raises NotFound, UsageError, Conflict, NoSpace, SpecError for a spec gone bad."""
        uid = get(self._db.read, name).uid
        async with self._locks[uid]:
            notebook = get(self._db.read, name)
            open_ones = self._open(uid)
            if len(open_ones) >= MOST_OPEN:
                raise Conflict(
                    f"{MOST_OPEN} runs of notebook {name!r} go on already", hint="wait until one of them is over"
                )
            wanted = checked(asked, taken=[one.output for one in open_ones], now=self._clock())
            spec = parse("notebook", name, notebook.spec)
            assert isinstance(spec, Notebook)
            if why := self._no_room():
                raise NoSpace(f"nothing is begun: {why}", hint="`appliance space` shows what takes it")
            if why := self._blocked(notebook, spec):
                raise Conflict(f"notebook {name!r} cannot run anything: {why}")
            await self._check_there(notebook, wanted.file)
            return self._add(get(self._db.read, name), wanted, author)

    def _add(self, notebook: Resource, wanted: Asked, author: str) -> Execution:
        now = self._clock()
        spec = notebook.spec if wanted.gpu else {**notebook.spec, "gpus": 0}
        with self._db.write() as db:
            one = Execution(
                id=secrets.token_hex(8),
                notebook=notebook.uid,
                number=executions.next_number(db, notebook.uid),
                name=notebook.name,
                file=wanted.file,
                output=wanted.output,
                parameters=wanted.parameters,
                kernel=wanted.kernel,
                author=author,
                generation=notebook.generation,
                spec=spec,
                phase="Preparing",
                created=now,
            )
            executions.add(db, one, keep=KEPT)
            by = f" by {author}" if author else ""
            text = f"run {one.number} of {one.file} was asked for{by}; its copy will be {one.output}"
            events.record(db, "notebook", notebook.name, "Run", text, now=now)
        self._hint(EXECUTION, one.id)
        return one

    async def _check_there(self, notebook: Resource, file: str) -> None:
        path = await self._workspaces.open(notebook.uid)

        def look() -> None:
            with pinned(path, file):
                pass

        try:
            await in_thread(look)
        except NotFound as error:
            raise NotFound(
                f"notebook {notebook.name!r} has no {file}: {error.message.rpartition(': ')[2]}",
                hint=f"`appliance notebook ls {notebook.name}` lists its files; links are not followed",
            ) from None

    def rows(self, name: str) -> list[Execution]:
        """Newest first. Raises NotFound."""
        return executions.of_notebook(self._db.read, resources.get(self._db.read, "notebook", name).uid)

    def find(self, name: str, number: int | None = None) -> Execution:
        """The newest where no number is given. Raises NotFound."""
        rows = self.rows(name)
        found = next((one for one in rows if number in (None, one.number)), None)
        if found is None:
            what = "was never run" if number is None else f"has no run {number}"
            raise NotFound(f"notebook {name!r} {what}", hint=f"`appliance notebook runs {name}` lists those there are")
        return found

    def cancel(self, name: str, number: int | None = None, *, author: str = "") -> Execution:
        """It is asked to end and saves what it has. Of one that is over nothing changes. Raises NotFound."""
        one = self.find(name, number)
        with self._db.write() as db:
            executions.cancel(db, one.id, "canceled" + (f" by {author}" if author else ""))
        self._hint(EXECUTION, one.id)
        return self.find(name, one.number)

    # -- what the notebook must know

    def elsewhere(self, notebook: Resource) -> str:
        """What goes on, in words; empty: nothing does."""
        open_ones = [one for one in self._open(notebook.uid) if one.finished is None]
        return f"run {open_ones[0].number} of {open_ones[0].file} goes on" if open_ones else ""

    def check_still(self, notebook: Resource) -> None:
        """Before its files are swapped as a whole. Raises Conflict where something is being executed on them."""
        for one in self._open(notebook.uid):
            if one.phase != "Preparing" and one.finished is None:
                raise Conflict(
                    f"run {one.number} of {one.file} works on these files; nothing was changed",
                    hint=f"wait for it, or `appliance notebook run-cancel {notebook.name} {one.number}`",
                )

    def as_another(self, notebook: Resource, user: str) -> str:
        """Why nothing may run as `user` now, which the files would be given to; empty: it may."""
        for one in self._open(notebook.uid):
            spec = parse("notebook", one.name, one.spec)
            assert isinstance(spec, Notebook)
            if one.phase != "Preparing" and one.finished is None and spec.user != user:
                return (
                    f"run {one.number} of {one.file} works on the files as user {spec.user}: wait for it, or"
                    f" `appliance notebook run-cancel {notebook.name} {one.number}`"
                )
        return ""

    def leave(self, notebook: Resource) -> bool:
        """The notebook is deleted: what goes on is asked to end. True: there is something still."""
        found = self._open(notebook.uid)
        with self._db.write() as db:
            for one in found:
                executions.cancel(db, one.id, "the notebook was deleted")
        for one in found:
            self._hint(EXECUTION, one.id)
        return bool(found)

    def forget(self, notebook: Resource) -> None:
        """It is destroyed; nothing of it goes on."""
        with self._db.write() as db:
            executions.forget(db, notebook.uid)

    def _open(self, uid: str) -> list[Execution]:
        """Newest first."""
        return executions.open_of(self._db.read, uid)
