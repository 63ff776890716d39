"""Brings each notebook to what its user asked for: a session behind the front door, or none; its files stay.

One lock per notebook is held by a pass of the reconcile loop and by every operation on the history, so nobody swaps the
files below a running session.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import httpx2

from appliance.datasets.datasets import Datasets
from appliance.engine.docker import Engine
from appliance.engine.images import Images
from appliance.engine.preparing import Image, Preparing
from appliance.engine.types import Container
from appliance.errors import ApplianceError, RouterError, StorageError
from appliance.history.causes import Cause
from appliance.history.workspaces import Workspaces
from appliance.notebooks import jupyter, status
from appliance.notebooks.history import History
from appliance.notebooks.making import Making, digest
from appliance.notebooks.plan import Facts, Phase, Session, Step, decide
from appliance.notebooks.quotas import Quotas
from appliance.notebooks.sessions import Sessions
from appliance.notebooks.status import Seen
from appliance.notebooks.tending import AUTHOR, Tending
from appliance.reconcile import Again
from appliance.router.router import Router
from appliance.router.table import Route, Target
from appliance.settings import Settings
from appliance.spec.load import parse
from appliance.spec.models import Notebook
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.base import Store
from appliance.storage.room import plenty
from appliance.telemetry.telemetry import Telemetry
from appliance.vault.secrets import Secrets

MOST_STEPS = 12
"""Steps of one pass. A plan settles in far fewer; whatever is left is another pass."""
ROUTER_EVERY_S = 2.0


class NotebookController:
    kind = "notebook"

    def __init__(
        self,
        *,
        db: Database,
        engine: Engine,
        images: Images,
        workspaces: Workspaces,
        datasets: Datasets,
        store: Store,
        telemetry: Telemetry,
        router: Router,
        vault: Secrets,
        settings: Settings,
        instance: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        no_room: Callable[[], str] = plenty,
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._router = router
        self._settings = settings
        self._clock = clock
        self._no_room = no_room
        self._hint = partial(hint, self.kind)
        self._preparing = Preparing(images, clock, self._hint)
        self._sessions = Sessions(
            engine=engine, telemetry=telemetry, grace_s=settings.stop_grace_s, clock=clock, secrets=vault.values
        )
        self._making = Making(
            engine=engine,
            workspaces=workspaces,
            datasets=datasets,
            store=store,
            vault=vault,
            settings=settings,
            instance=instance,
        )
        # asks 127.0.0.1 in plain HTTP only; `verify` would read the machine's certificates, a tenth of a second
        self._http = httpx2.AsyncClient(trust_env=False, verify=False)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.history = History(
            db=db,
            workspaces=workspaces,
            settings=settings,
            clock=clock,
            hint=self._hint,
            locks=self._locks,
            end_sessions=self._end_sessions,
            no_room=no_room,
        )
        self._quotas = Quotas(db=db, store=store, clock=clock, hint=self._hint, locks=self._locks)
        self._tending = Tending(db=db, workspaces=workspaces, settings=settings, locks=self._locks, no_room=no_room)
        self._routes: dict[str, Route] = {}
        """uid -> the route the front door was last given; empty at first, so each is given again after a restart."""
        self._silence: dict[str, str] = {}
        """uid -> why Jupyter has not answered yet."""

    async def close(self) -> None:
        """Gives up the image work under way. Sessions go on."""
        await self._preparing.close()
        await self._http.aclose()

    def keys(self) -> Iterable[str]:
        return [notebook.uid for notebook in resources.every(self._db.read, self.kind)]

    async def reconcile(self, key: str) -> Again | None:
        async with self._locks[key]:
            try:
                return await self._pass(key)
            except ApplianceError as error:
                self._tell(key, error)
                raise

    async def tend(self, now: float) -> None:
        """Look after every notebook's quota and history: to be called about once a minute."""
        await self._quotas.tend()
        await self._tending.tend(now)

    async def _pass(self, uid: str) -> Again | None:
        for _ in range(MOST_STEPS):
            notebook = resources.find_uid(self._db.read, uid)
            if notebook is None:
                self._forget(uid)
                return None
            if "token" not in notebook.status:
                self._give_token(notebook)
                continue
            spec = self._wanted(notebook)
            seen = await self._sessions.observe(notebook)
            step = decide(self._facts(notebook, spec, tuple(seen)), self._clock())
            step = await self._publish(notebook, seen, step)
            if not self._write(notebook, spec, step, seen):
                continue  # the spec has changed meanwhile: decide anew
            if step.verb is None or not await self._act(notebook, spec, step, seen):
                return None if step.wake is None else Again(max(0.0, step.wake - self._clock()))
        return Again(0.0)

    def _wanted(self, notebook: Resource) -> Notebook | None:
        """The spec, its image filled in; None where no session is wanted, so that a spec gone bad can be deleted."""
        if notebook.deleting or notebook.desired != "running":
            self._preparing.forget(notebook.uid)
            return None
        spec = parse("notebook", notebook.name, notebook.spec)
        assert isinstance(spec, Notebook)
        return spec if spec.image else spec.model_copy(update={"image": self._settings.notebook_image})

    def _facts(self, notebook: Resource, spec: Notebook | None, sessions: tuple[Session, ...]) -> Facts:
        unknown = Image("unknown")
        image = self._preparing.peek(notebook.uid, spec.image, asked=notebook.updated) if spec else unknown
        return Facts(
            wanted=spec is not None,
            deleting=notebook.deleting,
            digest=digest(spec) if spec else "",
            asked=notebook.updated,
            sessions=sessions,
            image=image.state,
            image_message=image.message,
            image_retry_at=image.retry_at,
            blocked=self._blocked(notebook, spec) if spec else "",
            note=self._quotas.note(notebook.uid, spec) if spec else "",
            silence=self._silence.get(notebook.uid, ""),
        )

    def _blocked(self, notebook: Resource, spec: Notebook) -> str:
        return self._making.missing(spec) or self._quotas.refusal(notebook.uid, spec) or self._no_room()

    async def _act(self, notebook: Resource, spec: Notebook | None, step: Step, seen: Seen) -> bool:
        """Carry out the step. False: there is nothing more to do in this pass."""
        session = step.session
        match step.verb:
            case "prepare" if spec:
                await self._preparing.ensure(notebook.uid, spec.image, asked=notebook.updated)
            case "begin" if spec:
                self._preparing.forget(notebook.uid)
                self._silence.pop(notebook.uid, None)
                await self._begin(notebook, spec, step.crashes, seen)
            case "start" if session:
                await self._sessions.start(session)
            case "probe" if session:
                return await self._probe(notebook, seen[session])
            case "halt" if session:
                await self._halt(notebook, session, seen[session])
            case "clear" if session:
                await self._sessions.clear(notebook, seen[session])
            case "rest":
                self._rest(notebook, step.message)
            case "destroy":
                await self._destroy(notebook)
        return True

    async def _begin(self, notebook: Resource, spec: Notebook, crashes: int, seen: Seen) -> None:
        number = 1 + max([notebook.status.get("session", 0), *(session.number for session in seen)])
        await self._workspaces.open(notebook.uid)
        await self._quotas.keep(notebook, spec, now=True)
        if self._quotas.refusal(notebook.uid, spec):
            return  # the next step says so
        await self._snapshot_once(notebook, "start", f"before session {number}", number)
        mounted = self._making.versions(spec)
        if status.remember_mounted(self._db, notebook, mounted):
            await self._making.create(notebook, spec, mounted, number=number, crashes=crashes)

    async def _probe(self, notebook: Resource, container: Container) -> bool:
        """True: Jupyter answers, and that is stored before anybody is sent there."""
        port = container.ports.get(jupyter.PORT)
        silence = await jupyter.ask(self._http, port, notebook.name) if port else "its port is not published yet"
        self._silence[notebook.uid] = silence
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
        await self._sessions.stop(session)
        if snapshot and session.state == "running" and not notebook.deleting:
            await self._snapshot_once(notebook, "stop", f"after session {session.number}", session.number)
        await self._sessions.clear(notebook, container)

    async def _end_sessions(self, notebook: Resource) -> None:
        """Before the history takes a snapshot of its own and moves the files."""
        with suppress(RouterError):  # a front door that is down leads nobody there
            await self._set_route(notebook, ())
        for session, container in (await self._sessions.observe(notebook)).items():
            await self._halt(notebook, session, container, snapshot=False)

    async def _destroy(self, notebook: Resource) -> None:
        await self._router.drop_route(_prefix(notebook))
        await self._workspaces.destroy(notebook.uid)
        await self._making.forget(notebook)
        with self._db.write() as db:
            resources.remove(db, notebook.uid)
            events.record(
                db, self.kind, notebook.name, "Deleted", "the notebook and its files are gone", now=self._clock()
            )

    def _rest(self, notebook: Resource, why: str) -> None:
        with self._db.write() as db:
            resources.set_desired(db, notebook.uid, "stopped", now=self._clock())
            events.record(db, self.kind, notebook.name, "ShutDown", why, now=self._clock())

    async def _publish(self, notebook: Resource, seen: Seen, step: Step) -> Step:
        """The front door sends requests to a session that has answered; else its waiting page tells what goes on.

        The step, changed where the front door cannot be told: what only it can see does not hold up the rest.
        """
        targets = [
            Target(container.id[:12], container.ports[jupyter.PORT])
            for session, container in seen.items()
            if session.ready and session.state == "running" and jupyter.PORT in container.ports
        ]
        leaving = notebook.deleting or step.verb in ("halt", "destroy")
        try:
            await self._set_route(notebook, () if leaving else tuple(targets[:1]))
        except RouterError as error:
            phase: Phase = "Starting" if step.phase == "Running" else step.phase
            message = f"the front door does not lead there: {error.message}; {error.hint}"
            return replace(step, phase=phase, message=message, wake=self._clock() + ROUTER_EVERY_S)
        return step

    async def _set_route(self, notebook: Resource, targets: tuple[Target, ...]) -> None:
        route = Route(prefix=_prefix(notebook), targets=targets, strip=False)
        if self._routes.get(notebook.uid) != route:
            await self._router.set_route(route)
            self._routes[notebook.uid] = route

    async def _snapshot_once(self, notebook: Resource, cause: Cause, message: str, number: int) -> None:
        """A step that is repeated after a kill does not fill the history with copies of one moment.

        A snapshot that fails is told and holds up nothing: on a full disk the notebook is the way to free some space.
        """
        newest = next(iter(self._workspaces.timeline(notebook.uid)), None)
        if newest and (newest.cause, newest.message) == (cause, message):
            return
        try:
            await self._workspaces.snapshot(
                notebook.uid, cause=cause, message=message, author=AUTHOR, subject=f"session {number}"
            )
        except StorageError as error:
            text = f"no snapshot {message}: {error.message}; {error.hint}"
            self._record(notebook, "SnapshotFailed", text, level="warning")

    def _give_token(self, notebook: Resource) -> None:
        """32 hex digits, as Gradient's; kept for the notebook's life, so that a bookmark stays good."""
        status.write(
            self._db,
            notebook,
            phase=notebook.phase,
            message=notebook.message,
            document={
                **notebook.status,
                "token": secrets.token_hex(16),
                "url_path": jupyter.base_url(notebook.name),
            },
            now=self._clock(),
        )

    def _write(self, notebook: Resource, spec: Notebook | None, step: Step, seen: Seen) -> bool:
        message = step.message
        if step.session and step.phase == "Failed" and (words := self._sessions.last_words(step.session)):
            message += f"\n{words}"
        document = status.describe(notebook.status, seen, image=spec.image if spec else "")
        if spec:
            document |= self._quotas.shown(notebook.uid, spec)
        return status.write(self._db, notebook, phase=step.phase, message=message, document=document, now=self._clock())

    def _tell(self, uid: str, error: ApplianceError) -> None:
        """A pass that cannot go on says why; what serves goes on serving."""
        if notebook := resources.find_uid(self._db.read, uid):
            status.write_problem(self._db, notebook, error, now=self._clock())

    def _record(self, notebook: Resource, reason: str, message: str, *, level: events.Level = "info") -> None:
        with self._db.write() as db:
            events.record(db, self.kind, notebook.name, reason, message, now=self._clock(), level=level)

    def _forget(self, uid: str) -> None:
        self._preparing.forget(uid)
        for memory in (self._routes, self._silence):
            memory.pop(uid, None)


def _prefix(notebook: Resource) -> str:
    return jupyter.base_url(notebook.name).rstrip("/")
