"""Cloning a repository, or taking one notebook of it, into a workspace that nobody has used yet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.labels import WORKSPACE, Owner
from appliance.errors import NotFound, StorageError
from appliance.fetching import errand, sources
from appliance.fetching.errand import Errand
from appliance.fetching.following import Following
from appliance.fetching.sources import TARGET, Fetch
from appliance.history.workspaces import Workspaces
from appliance.notebooks import pages
from appliance.notebooks.beside import Beside
from appliance.notebooks.owning import give, owner_of, told
from appliance.spec.models import Clone, Notebook, Workspace
from appliance.state import events
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.threads import in_thread
from appliance.storage.trees.pinning import FOLDER
from appliance.storage.trees.removing import discard, empty
from appliance.storage.trees.tree import open_file
from appliance.telemetry.draining import Draining
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets

ROOM, PRIVATE, WHOLE = "fetch", "private", "whole"
"""Folder of ours beside the workspace while the clone goes on; in it the program's files, and a repository of which
one file is wanted."""
NOTE = "workspace"
"""Beside the workspace: how far its beginning is."""
CLONING, DONE = "cloning", "done"


class Cloning:
    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        workspaces: Workspaces,
        beside: Beside,
        telemetry: Telemetry,
        vault: Secrets,
        instance: str,
        clock: Callable[[], float],
    ) -> None:
        self._db = db
        self._engine = engine
        self._images = images
        self._workspaces = workspaces
        self._beside = beside
        self._telemetry = telemetry
        self._draining = Draining(telemetry)
        self._vault = vault
        self._instance = instance
        self._clock = clock

    def key(self, notebook: Resource, spec: Notebook) -> str:
        """Equal where the same is cloned for the same notebook: 16 hex digits."""
        wanted = spec.workspace.model_dump(mode="json") if spec.workspace else None
        return hashlib.sha256(json.dumps([notebook.uid, wanted], sort_keys=True).encode()).hexdigest()[:16]

    async def clone(self, notebook: Resource, spec: Notebook, progress: Callable[[str], None]) -> None:
        """Done again it goes on where it was. Raises ApplianceError with the program's words."""
        assert spec.workspace is not None
        owner = owner_of(spec.user)
        path = await self._workspaces.open(notebook.uid, owner=owner)
        note = self._beside.note(notebook.uid, NOTE)
        if note == DONE:
            return
        if note != CLONING:
            if await in_thread(os.listdir, path):
                await in_thread(self._beside.write_note, notebook.uid, NOTE, DONE)
                return
            await in_thread(self._beside.write_note, notebook.uid, NOTE, CLONING)
        page = pages.parse(spec.workspace.url, spec.workspace.ref)
        room = self._beside.path(notebook.uid) / ROOM
        for folder in (room / PRIVATE, room / WHOLE):
            await in_thread(partial(folder.mkdir, parents=True, exist_ok=True, mode=0o700))
        target = room / WHOLE if page else path
        await self._others(notebook.uid, but=self.key(notebook, spec))
        job = self._errand(notebook, spec, room / PRIVATE, target)
        witness = Following(self._telemetry, self._draining, self._vault, job, progress)
        container = await errand.run(self._engine, self._images, job, self._prepare(spec.workspace, target), witness)
        words = await errand.last_words(self._engine, container, self._vault.values())
        if page:
            await in_thread(_take, room / WHOLE, page.file, path, _shown(page))
            words = f"{page.file} of {words}"
        with told():
            await in_thread(partial(give, path, owner, again=True))
        await errand.clear(self._engine, job, container)
        await in_thread(discard, room)
        with self._db.write() as db:
            message = words.replace(f" is in {TARGET}", " is in the workspace")
            events.record(db, "notebook", notebook.name, "WorkspaceCloned", message, now=self._clock())
        # last: a session may begin from here on, and whoever begins it ends this task
        await in_thread(self._beside.write_note, notebook.uid, NOTE, DONE)

    async def settle(self, uid: str) -> None:
        """What clones for this notebook ends, and half a clone goes: the spec names none any more."""
        if self._beside.note(uid, NOTE) != CLONING:
            return
        await self.stop(uid)
        await in_thread(empty, await self._workspaces.open(uid))
        await in_thread(discard, self._beside.path(uid) / ROOM)
        await in_thread(self._beside.write_note, uid, NOTE, DONE)

    async def stop(self, uid: str) -> None:
        """What clones for this notebook ends."""
        if self._beside.note(uid, NOTE) == CLONING:
            await self._others(uid, but="")

    async def _others(self, uid: str, *, but: str) -> None:
        """Nothing clones into the workspace but what the spec names now."""
        for container in await self._engine.list(kind=WORKSPACE, uid=uid):
            if container.name != self._container(but):
                await self._engine.remove(container.id)

    def _prepare(self, wanted: Workspace, target: Path) -> Callable[[], Awaitable[Fetch]]:
        async def prepare() -> Fetch:
            page = pages.parse(wanted.url, wanted.ref)
            clone = Clone(
                url=page.url if page else wanted.url,
                name="workspace",
                ref=page.ref if page else wanted.ref,
                username=wanted.username,
                password=wanted.password,
            )
            found = sources.fetch_of(clone, self._vault.resolve)
            await in_thread(empty, target)  # git does not go on where it was killed
            return found

        return prepare

    def _errand(self, notebook: Resource, spec: Notebook, root: Path, target: Path) -> Errand:
        owner = Owner(
            instance=self._instance,
            kind=WORKSPACE,
            name=notebook.name,
            uid=notebook.uid,
            part="workspace",
            generation=notebook.generation,
            digest=self.key(notebook, spec),
        )
        return Errand(self._container(owner.digest), owner, "git", root, target)

    def _container(self, key: str) -> str:
        return f"appliance-{self._instance}-workspace-{key}"


def _shown(page: pages.Page) -> str:
    return f"{page.ref} of {page.url.rpartition('@')[2]}"


def _take(repository: Path, file: str, workspace: Path, where: str) -> None:
    """One file of a hostile repository, under its own name. Raises NotFound."""
    try:
        source = open_file(repository, file)
    except NotFound:
        raise NotFound(f"there is no {file} on {where}", hint="correct `workspace` and apply the file again") from None
    name = file.rpartition("/")[2]
    folder = os.open(workspace, FOLDER)
    try:
        with source:
            made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=folder)
            with os.fdopen(made, "wb") as copy:
                shutil.copyfileobj(source, copy)
    except OSError as error:
        raise StorageError(f"{name} cannot be written: {error.strerror}", hint="it is tried again by itself") from None
    finally:
        os.close(folder)
