"""Carries out what was decided for the session of a notebook: begun, asked whether it answers, halted, and led out.

The caller holds the notebook's lock throughout.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx2

from appliance.engine.types import Container
from appliance.errors import GpuRefused, RouterError
from appliance.history.workspaces import Workspaces
from appliance.notebooks import jupyter, status
from appliance.notebooks.bars import Bars
from appliance.notebooks.documents import OpenDocuments
from appliance.notebooks.executing.orders import Orders
from appliance.notebooks.leasing import SessionLeases
from appliance.notebooks.making import Making
from appliance.notebooks.moments import Moments
from appliance.notebooks.mounts import Mounts
from appliance.notebooks.owning import owner_of
from appliance.notebooks.plan import Session, Step
from appliance.notebooks.provision import Provision
from appliance.notebooks.publishing import Publishing
from appliance.notebooks.quotas import Quotas
from appliance.notebooks.sessions import Sessions, number_of
from appliance.notebooks.specs import wanted
from appliance.notebooks.status import Seen
from appliance.notebooks.trash import Trash
from appliance.spec.models import Notebook
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource


class Acting:
    def __init__(
        self,
        *,
        db: Database,
        http: httpx2.AsyncClient,
        sessions: Sessions,
        workspaces: Workspaces,
        provision: Provision,
        making: Making,
        mounts: Mounts,
        documents: OpenDocuments,
        quotas: Quotas,
        bars: Bars,
        leases: SessionLeases,
        orders: Orders,
        moments: Moments,
        publishing: Publishing,
        trash: Trash,
        forget_beside: Callable[[Resource], Awaitable[None]],
        default_image: str,
        clock: Callable[[], float],
    ) -> None:
        """`forget_beside` removes what is kept of a notebook beside its workspace."""
        self._db = db
        self._http = http
        self._sessions = sessions
        self._workspaces = workspaces
        self._provision = provision
        self._making = making
        self._mounts = mounts
        self._documents = documents
        self._quotas = quotas
        self._bars = bars
        self._leases = leases
        self._orders = orders
        self._moments = moments
        self._publishing = publishing
        self._trash = trash
        self._forget_beside = forget_beside
        self._default_image = default_image
        self._clock = clock
        self.silence: dict[str, str] = {}
        """uid -> why Jupyter has not answered yet."""

    def forget(self, uid: str) -> None:
        self.silence.pop(uid, None)

    async def act(self, notebook: Resource, spec: Notebook | None, step: Step, seen: Seen) -> bool:
        """Carry out the step. False: there is nothing more to do in this pass. Raises ApplianceError."""
        session = step.session
        match step.verb:
            case "prepare" if spec:
                await self._provision.ensure(notebook, spec)
            case "begin" if spec:
                try:
                    await self._begin(notebook, spec, step.crashes, seen)
                except GpuRefused as error:
                    self._leases.refused(notebook, error)
            case "start" if session:
                try:
                    await self._sessions.start(session)
                except GpuRefused as error:
                    self._leases.refused(notebook, error)
                    await self._clear(notebook, seen[session])
            case "probe" if session:
                return await self._probe(notebook, seen[session])
            case "halt" if session:
                await self._halt(notebook, session, seen[session])
            case "clear" if session:
                await self._clear(notebook, seen[session])
            case "rest":
                self._rest(notebook, step.message)
            case "destroy":
                if self._orders.leave(notebook):
                    return False  # it is told when nothing of it runs any more
                await self._destroy(notebook)
        return True

    async def end_sessions(self, notebook: Resource, *, snapshot: bool = False) -> None:
        """No `snapshot` is needed before the history takes one of its own and moves the files."""
        with suppress(RouterError):  # a front door that is down leads nobody there
            await self._publishing.withdraw(notebook)
        await self._halt_all(notebook, snapshot=snapshot)

    async def make_way(self, notebook: Resource) -> None:
        """For another session. Raises Conflict before this one ends."""
        self._check_next(notebook)
        await self.end_sessions(notebook, snapshot=True)

    async def leave(self, notebook: Resource) -> None:
        """Its path on the front door: nothing of it is there any more. Raises Conflict, RouterError before it ends."""
        self._check_next(notebook)
        await self._publishing.withdraw(notebook)
        await self._halt_all(notebook, snapshot=True)
        await self._publishing.drop(notebook)

    async def _begin(self, notebook: Resource, spec: Notebook, crashes: int, seen: Seen) -> None:
        self.silence.pop(notebook.uid, None)
        number = 1 + max([notebook.status.get("session", 0), *(session.number for session in seen)])
        await self._workspaces.open(notebook.uid, owner=owner_of(spec.user))
        await self._provision.settle(notebook.uid)
        await self._quotas.keep(notebook, spec, now=True)
        if self._quotas.refusal(notebook.uid, spec):
            return  # the next step says so
        await self._moments.before(notebook, number)
        pinned, left_out = await self._making.add_settings(notebook, spec, self._making.pin(spec))
        brought = await self._provision.bring(spec)
        if not status.remember_pinned(self._db, notebook, pinned):
            return
        lease = self._leases.granted(notebook, spec)
        if lease is None:
            return  # the GPUs went elsewhere meanwhile: the next step says so
        made = await self._making.create(notebook, spec, pinned, brought.fit, lease, number=number, crashes=crashes)
        if lease.lease:
            self._leases.held(notebook, spec, made)
        if lease.words:
            self._record(notebook, "Gpu", f"session {number}: {lease.words}")
        if left_out:
            self._record(notebook, "SettingsFile", f"session {number} begins without some: {left_out}", level="warning")
        if brought.words:
            self._record(notebook, "Jupyter", f"session {number}: {brought.words}", level=brought.level)

    async def _probe(self, notebook: Resource, container: Container) -> bool:
        """True: Jupyter answers, and that is stored before anybody is sent there."""
        port = container.ports.get(jupyter.PORT)
        silence = await jupyter.ask(self._http, port, notebook.name) if port else "its port is not published yet"
        self.silence[notebook.uid] = silence
        if silence:
            return False
        with self._db.write() as db:
            return resources.set_status(
                db,
                notebook.uid,
                generation=notebook.generation,
                phase="Starting",
                status={**notebook.status, "ready": container.id},
            )

    async def _halt(self, notebook: Resource, session: Session, container: Container, *, snapshot: bool = True) -> None:
        if session.state == "running":
            await self._documents.flush(notebook)
        await self._sessions.stop(session)
        if snapshot and session.state == "running" and not notebook.deleting:
            await self._moments.after(notebook, session)
        await self._clear(notebook, container)

    async def _clear(self, notebook: Resource, container: Container) -> None:
        await self._sessions.clear(notebook, container)
        await self._mounts.forget_secrets(notebook, number_of(container))

    async def _halt_all(self, notebook: Resource, *, snapshot: bool) -> None:
        for session, container in (await self._sessions.observe(notebook)).items():
            await self._halt(notebook, session, container, snapshot=snapshot)

    def _check_next(self, notebook: Resource) -> None:
        if notebook.status.get("started") and (spec := wanted(notebook, self._default_image)):
            self._bars.check_next(notebook, spec)

    def _rest(self, notebook: Resource, why: str) -> None:
        with self._db.write() as db:
            resources.set_desired(db, notebook.uid, "stopped", now=self._clock())
            events.record(db, notebook.kind, notebook.name, "ShutDown", why, now=self._clock())

    async def _destroy(self, notebook: Resource) -> None:
        """Into the trash, its files untouched, or for ever."""
        await self._publishing.drop(notebook)
        await self._provision.stop(notebook.uid)
        if self._trash.kept_s and not notebook.purging:
            self._trash.put(notebook)
            return
        await self._workspaces.destroy(notebook.uid)
        await self._forget_beside(notebook)
        with self._db.write() as db:
            resources.remove(db, notebook.uid)
            events.record(
                db, notebook.kind, notebook.name, "Deleted", "the notebook and its files are gone", now=self._clock()
            )

    def _record(self, notebook: Resource, reason: str, message: str, *, level: events.Level = "info") -> None:
        with self._db.write() as db:
            events.record(db, notebook.kind, notebook.name, reason, message, now=self._clock(), level=level)
