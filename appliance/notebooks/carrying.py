"""Notebooks out of the appliance and into it, as one file each: `notebooks.archive` is what it looks like."""

from __future__ import annotations

import asyncio
import os
from asyncio import Lock
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio.from_thread

from appliance.errors import ApplianceError, Conflict, NoSpace, Unavailable
from appliance.history.workspaces import NOW, Workspaces
from appliance.notebooks.archive.members import refused
from appliance.notebooks.archive.reading import unpack
from appliance.notebooks.archive.writing import archive
from appliance.notebooks.documents import Documents
from appliance.notebooks.history import session_of
from appliance.notebooks.owned import get
from appliance.packs.tree import Tree
from appliance.spec.dump import to_yaml
from appliance.spec.load import Loaded, load_text
from appliance.spec.names import check_name
from appliance.state import events, resources
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource
from appliance.storage.room import plenty
from appliance.storage.threads import in_thread

KIND: Final = "notebook"
SILENT_S = 60.0
"""An import whose sender says nothing for so long has ended."""
FEW_NAMES = 0.05
"""Of the inodes of a disk, where it has a number of them: the daemon's own files need some too."""


class Carrying:
    def __init__(
        self,
        *,
        db: Database,
        workspaces: Workspaces,
        clock: Callable[[], float],
        hint: Callable[[str], None],
        locks: Mapping[str, Lock],
        no_room: Callable[[], str] = plenty,
        documents: Documents | None = None,
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._no_room = no_room
        self._documents = documents or Documents()

    @asynccontextmanager
    async def export(self, name: str, moment: str = NOW, *, author: str = "") -> AsyncIterator[AsyncIterator[bytes]]:
        """The archive in pieces, valid inside the `async with`. Raises NotFound, StorageError.

        Of a session that runs it is a snapshot, so the files in it are those of one instant; while disk space is low
        they are read as they are.
        """
        notebook = get(self._db.read, name)
        await self._workspaces.open(notebook.uid)
        if moment == NOW and notebook.status.get("started") and not self._no_room():
            moment = await self._freeze(notebook, author)
        spec = to_yaml({"kind": KIND, "name": name, **notebook.spec}).encode()
        async with self._workspaces.view(notebook.uid, moment) as root:
            tree = await in_thread(Tree, root)
            try:
                async with aclosing(_in_threads(archive(tree, spec))) as pieces:
                    yield pieces
            finally:
                await in_thread(tree.close)

    async def take(
        self, pieces: AsyncIterator[bytes], stopping: asyncio.Event, name: str = "", *, start: bool = False
    ) -> Resource:
        """A new notebook of an archive that comes in pieces; nothing is left of one that does not end well.

        `name` is its own where none is given. Raises UsageError, SpecError, Conflict, NoSpace, Unavailable.
        """
        if why := self._no_room():
            raise NoSpace(f"the import does not begin: {why}", hint="free some space, then repeat the command")
        if name:
            check_name(KIND, name)
            self._check_free(self._db.read, name)
        uid = resources.new_uid()
        intake = _Intake(pieces, stopping, name, lambda found: self._check_free(self._db.read, found))

        async def fill(root: Path) -> None:
            await in_thread(unpack, intake.read, root, partial(self._check_room, root), intake.spec)

        def declare(db: Connection) -> None:
            loaded = intake.loaded
            assert loaded is not None, "an archive without a spec is refused"
            self._check_free(db, loaded.name)
            desired, now = "running" if start else "stopped", self._clock()
            document = {**loaded.document, "kind": KIND, "name": loaded.name}
            resources.put(db, KIND, loaded.name, document, source="cli", now=now, desired=desired, uid=uid)
            events.record(db, KIND, loaded.name, "Imported", "its files came in an archive", now=now)

        await self._workspaces.admit(uid, fill, declare=declare)
        self._hint(uid)
        found = resources.find_uid(self._db.read, uid)
        assert found is not None, "it was declared just now"
        return found

    async def _freeze(self, notebook: Resource, author: str) -> str:
        """The newest moment, where nothing has changed since; else one of now."""
        async with self._locks[notebook.uid]:
            await self._documents.flush(notebook)
            newest = self._workspaces.newest(notebook.uid)
            if newest and not await self._workspaces.changed(notebook.uid):
                return newest.id
            taken = await self._workspaces.snapshot(
                notebook.uid, cause="manual", author=author, subject=session_of(notebook)
            )
            return taken.id

    def _check_room(self, root: Path) -> None:
        why = self._no_room()
        found = os.statvfs(root)
        if not why and found.f_favail < found.f_files * FEW_NAMES:
            why = f"the disk has room for {found.f_favail:,} files more"
        if why:
            raise NoSpace(f"the import ends: {why}", hint="free some space, then repeat the command")

    def _check_free(self, db: Connection, name: str) -> None:
        if resources.find(db, KIND, name):
            raise Conflict(f"there is a notebook {name!r} already; nothing was imported", hint="give another name")


class _Intake:
    """What the worker thread reads from, while the loop receives."""

    def __init__(
        self, pieces: AsyncIterator[bytes], stopping: asyncio.Event, name: str, check: Callable[[str], None]
    ) -> None:
        self._pieces = pieces
        self._stopping = stopping
        self._name = name
        self._check = check
        self.loaded: Loaded | None = None

    def read(self, count: int) -> bytes:
        return anyio.from_thread.run(self._next)

    def spec(self, text: str) -> None:
        """As soon as it is there: an archive that cannot become a notebook is not read to its end."""
        found = load_text(text, file="notebook.yaml", name=self._name or None, kind=KIND)
        if len(found) != 1 or found[0].kind != KIND:
            raise refused("its spec is not that of one notebook")
        if self._name and found[0].name != self._name:
            document = {**found[0].document, "kind": KIND, "name": self._name}
            found = load_text(to_yaml(document), file="notebook.yaml")
        self.loaded = found[0]
        anyio.from_thread.run_sync(self._check, found[0].name)

    async def _next(self) -> bytes:
        while True:
            nearest = asyncio.ensure_future(self._piece())
            stop = asyncio.ensure_future(self._stopping.wait())
            try:
                done, _ = await asyncio.wait({nearest, stop}, timeout=SILENT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for waiting in (nearest, stop):
                    waiting.cancel()
                await asyncio.gather(nearest, stop, return_exceptions=True)
            if stop in done:
                raise Unavailable("the daemon is stopping; nothing was imported", hint="repeat the command afterwards")
            if not done:
                raise ApplianceError(
                    f"the import has ended: nothing came for {SILENT_S:.0f} s; nothing was imported",
                    hint="repeat the command",
                )
            piece = nearest.result()
            if piece is None or piece:
                return piece or b""

    async def _piece(self) -> bytes | None:
        """None: the end."""
        return await anext(self._pieces, None)


async def _in_threads(pieces: Generator[bytes]) -> AsyncGenerator[bytes]:
    try:
        while piece := await in_thread(next, pieces, b""):
            yield piece
    finally:
        pieces.close()  # it may hold a file open
