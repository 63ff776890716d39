"""What a user does with the history of a notebook's files: keep, go back, bring one file back, fork, hold, let go.

An operation that moves the files holds the notebook's lock, which a pass of the reconcile loop holds as well: nobody
swaps the files below a session that is beginning.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound
from appliance.history.pruning import Pruning
from appliance.history.undo import undo_target
from appliance.history.workspaces import NOW, SESSION, USER, Workspaces
from appliance.notebooks.documents import Documents
from appliance.notebooks.owning import give_below, owner_of, told
from appliance.notebooks.tending import policy
from appliance.paths import encode
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.spec.names import check_name
from appliance.state import events, resources, snapshots
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.state.snapshots import Snapshot
from appliance.storage.room import plenty
from appliance.storage.threads import in_thread

KIND: Final = "notebook"


class History:
    """`author` is who asked, as the timeline shows it."""

    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        settings: Settings,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, Lock],
        end_sessions: Callable[[Resource], Awaitable[None]],
        no_room: Callable[[], str] = plenty,
        documents: Documents | None = None,
        check_still: Callable[[Resource], None] = lambda notebook: None,
    ) -> None:
        """`check_still` raises Conflict where something works on the files that is no session."""
        self._db = db
        self._workspaces = workspaces
        self._settings = settings
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._end_sessions = end_sessions
        self._no_room = no_room
        self._documents = documents or Documents()
        self._check_still = check_still

    async def snapshot(self, name: str, message: str = "", *, author: str = "") -> Snapshot:
        """Keep the files as they are. A session goes on meanwhile."""
        notebook = self._get(name)
        async with self._locks[notebook.uid]:
            await self._documents.flush(notebook)
            taken = await self._workspaces.snapshot(
                notebook.uid, cause="manual", message=message, author=author, subject=session_of(notebook)
            )
            self._record(notebook, "Snapshot", f"snapshot {taken.id}" + (f": {message}" if message else ""))
        return taken

    async def rollback(self, name: str, snapshot_id: str, *, author: str = "") -> Snapshot:
        """Go back to a snapshot. The answer is the snapshot of the files as they were before; `undo` returns to it.

        A session ends first; another begins if the notebook is to run. Raises NotFound, Conflict.
        """
        notebook = self._get(name)
        async with self._locks[notebook.uid]:
            self._check(notebook, snapshot_id)
            self._check_still(notebook)
            try:
                await self._end_sessions(notebook)
                before = await self._workspaces.rollback(
                    notebook.uid, snapshot_id, author=author, subject=session_of(notebook)
                )
            finally:
                self._hint(notebook.uid)
            self._record(notebook, "RolledBack", f"to snapshot {snapshot_id}; as it was before: {before.id}")
        return before

    async def undo(self, name: str, *, author: str = "") -> Snapshot:
        """Take the last rollback back. The answer is the snapshot of the files as they were until then.

        Raises NotFound, and Conflict where there is none to undo.
        """
        notebook = self._get(name)
        async with self._locks[notebook.uid]:
            if undo_target(reversed(self._workspaces.timeline(notebook.uid))) is None:
                raise Conflict(
                    f"notebook {name!r} has no rollback to undo; nothing was changed",
                    hint=f"`appliance notebook history {name}` lists the moments to go back to",
                )
            self._check_still(notebook)
            try:
                await self._end_sessions(notebook)
                before = await self._workspaces.undo(notebook.uid, author=author, subject=session_of(notebook))
            finally:
                self._hint(notebook.uid)
            message = f"the files are those from before the rollback again; as they were until now: {before.id}"
            self._record(notebook, "RollbackUndone", message)
        return before

    async def restore(
        self,
        name: str,
        snapshot_id: str,
        path: str,
        to: str = "",
        *,
        author: str = "",
        tell: Callable[[str], None] = lambda words: None,
    ) -> Snapshot:
        """Bring one file or folder of a snapshot back, in its place or beside it at `to`; a session goes on meanwhile.

        The answer is the snapshot of the files as they were before; `tell` is given what else is to be known of files
        that are back. Raises NotFound, UsageError, Conflict.
        """
        notebook = self._get(name)
        async with self._locks[notebook.uid]:
            self._check(notebook, snapshot_id)
            there = to or path
            async with self._documents.replacing(notebook, there) as open_ones:
                before = await self._workspaces.restore(
                    notebook.uid, snapshot_id, path, to, author=author, subject=session_of(notebook)
                )
                words = await self._give(notebook, there)
            if open_ones:
                words.append(
                    f"where {encode(there)} is open in a page, what the page holds may be written over it: close it"
                    f" there without saving ({'; '.join(open_ones)})"
                )
            what = f"{encode(path)} from snapshot {snapshot_id}" + (f" to {encode(to)}" if to else "")
            self._record(notebook, "Restored", "; ".join([f"{what}; as it was before: {before.id}", *words]))
        for one in words:
            tell(one)
        return before

    async def _give(self, notebook: Resource, path: str) -> list[str]:
        """Why it could not be given, in words: it is back nevertheless."""
        try:
            await self._give_user(notebook, path)
        except ApplianceError as error:
            return [f"{encode(path)} is back, but the notebook's user may not be able to write it: {error}"]
        return []

    async def _give_user(self, notebook: Resource, path: str) -> None:
        """What is brought back may be from the time of another user. Root's files may be anybody's, and stay so."""
        spec = parse(KIND, notebook.name, notebook.spec)
        assert isinstance(spec, Notebook)
        if owner_of(spec.user)[0] == 0:
            return
        root = await self._workspaces.open(notebook.uid)
        with told():
            await in_thread(give_below, root, path, owner_of(spec.user))

    async def fork(self, name: str, new: str, moment: str = NOW, *, start: bool = False, author: str = "") -> Resource:
        """Another notebook with the same spec and the files of a moment. The source goes on and does not notice.

        Raises NotFound, Conflict where a notebook `new` exists, and NoSpace while disk space is low.
        """
        notebook = self._get(name)
        check_name(KIND, new)
        self._check_free(self._db.read, new)
        if why := self._no_room():
            raise NoSpace(f"the fork does not begin: {why}", hint="free some space, then repeat the command")
        if moment != NOW:
            self._check(notebook, moment)
        uid = resources.new_uid()
        if moment == NOW:
            await self._documents.flush(notebook)

        def declare(db: Connection) -> None:
            self._check_free(db, new)
            spec = {key: new if key == "name" else value for key, value in notebook.spec.items()}
            desired = "running" if start else "stopped"
            resources.put(db, KIND, new, spec, source="cli", now=self._clock(), desired=desired, uid=uid)

        origin = await self._workspaces.fork(
            notebook.uid,
            uid,
            moment,
            author=author,
            subject=session_of(notebook),
            message=f"what {new} began from",
            declare=declare,
        )
        self._hint(uid)
        made = resources.get(self._db.read, KIND, new)
        self._record(made, "Forked", f"from {name}, snapshot {origin.id}")
        return made

    async def prune(self, name: str, *, dry_run: bool = False) -> Pruning:
        """Let go what retention does not keep, or only tell. Raises NotFound, SpecError for a spec gone bad."""
        notebook = self._get(name)
        spec = parse(KIND, name, notebook.spec)
        assert isinstance(spec, Notebook)
        found = await self._workspaces.prune(
            notebook.uid, policy(self._settings, spec.history), self._clock(), dry_run=dry_run
        )
        if found.going and not dry_run:
            self._record(notebook, "Pruned", f"{len(found.going)} of {len(found.verdicts)} snapshots")
        return found

    async def hold(self, name: str, snapshot_id: str, reason: str = "", *, owner: str = USER) -> None:
        """Keep a snapshot from retention. Raises NotFound."""
        notebook = self._get(name)
        self._check(notebook, snapshot_id)
        await self._workspaces.hold(notebook.uid, snapshot_id, reason=reason, owner=owner)

    async def release(self, name: str, snapshot_id: str, *, owner: str = USER) -> None:
        """What a person lets go of its session lets go of as well. Raises NotFound where it is not held."""
        notebook = self._get(name)
        self._check(notebook, snapshot_id)
        if snapshot_id in self._workspaces.held_by(notebook.uid, SESSION):
            await self._workspaces.release(notebook.uid, snapshot_id, owner=SESSION)
            if owner == SESSION or snapshot_id not in self._workspaces.held_by(notebook.uid, USER):
                return
        elif owner == SESSION:
            raise NotFound(
                f"snapshot {snapshot_id} is not held from inside the notebook",
                hint=f"`appliance notebook release {name} {snapshot_id}` lets go of what its user holds",
            )
        await self._workspaces.release(notebook.uid, snapshot_id)

    def _get(self, name: str) -> Resource:
        notebook = resources.get(self._db.read, KIND, name)
        if notebook.deleting:
            raise Conflict(f"notebook {name!r} is being deleted", hint="wait until it is gone")
        return notebook

    def _check(self, notebook: Resource, snapshot_id: str) -> None:
        """Before anything is done, in the words of the notebook."""
        if snapshots.find(self._db.read, notebook.uid, snapshot_id) is None:
            raise NotFound(
                f"notebook {notebook.name!r} has no snapshot {snapshot_id!r}; nothing was changed",
                hint=f"`appliance notebook history {notebook.name}` lists them",
            )

    def _check_free(self, db: Connection, name: str) -> None:
        if resources.find(db, KIND, name):
            raise Conflict(f"there is a notebook {name!r} already; nothing was changed", hint="give another name")

    def _record(self, notebook: Resource, reason: str, message: str) -> None:
        with self._db.write() as db:
            events.record(db, KIND, notebook.name, reason, message, now=self._clock())


def session_of(notebook: Resource) -> str:
    """What a moment of now belongs to; empty where no session runs."""
    return f"session {notebook.status.get('session', 0)}" if notebook.status.get("started") else ""
