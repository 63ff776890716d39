"""Brings each notebook to what its user asked for: a session behind the front door, or none; its files stay.

One lock per notebook is held by a pass of the reconcile loop and by every operation on the history, so nobody swaps the
files below a running session.
"""

from __future__ import annotations

import secrets
from asyncio import Lock
from collections.abc import Callable, Iterable, Mapping

from appliance.engine.preparing import Image
from appliance.errors import ApplianceError
from appliance.notebooks import ending, jupyter, status
from appliance.notebooks.acting import Acting
from appliance.notebooks.bars import Bars
from appliance.notebooks.leasing import SessionLeases
from appliance.notebooks.making import digest
from appliance.notebooks.moments import Moments
from appliance.notebooks.plan import Facts, Session, Step, decide
from appliance.notebooks.provision import Provision
from appliance.notebooks.publishing import Publishing
from appliance.notebooks.quotas import Quotas
from appliance.notebooks.sessions import Sessions
from appliance.notebooks.specs import wanted
from appliance.notebooks.status import Seen
from appliance.notebooks.watching import Watching
from appliance.reconcile import Again
from appliance.spec.models import Notebook
from appliance.state import resources
from appliance.state.db import Database
from appliance.state.resources import Resource

MOST_STEPS = 12
"""Steps of one pass. A plan settles in far fewer; whatever is left is another pass."""
LOCKED_EVERY_S = 0.5
"""Whether an operation on the files is over is asked so often; a pass that waited would hold up others."""


class NotebookController:
    kind = "notebook"

    def __init__(
        self,
        *,
        db: Database,
        sessions: Sessions,
        provision: Provision,
        quotas: Quotas,
        bars: Bars,
        leases: SessionLeases,
        moments: Moments,
        watching: Watching,
        publishing: Publishing,
        acting: Acting,
        default_image: str,
        clock: Callable[[], float],
        locks: Mapping[str, Lock],
    ) -> None:
        self._db = db
        self._sessions = sessions
        self._provision = provision
        self._quotas = quotas
        self._bars = bars
        self._leases = leases
        self._moments = moments
        self._watching = watching
        self._publishing = publishing
        self._acting = acting
        self._default_image = default_image
        self._clock = clock
        self._locks = locks

    def keys(self) -> Iterable[str]:
        return [notebook.uid for notebook in resources.every(self._db.read, self.kind)]

    async def reconcile(self, key: str) -> Again | None:
        if self._locks[key].locked():
            return Again(LOCKED_EVERY_S)
        async with self._locks[key]:
            try:
                return await self._pass(key)
            except ApplianceError as error:
                self._tell(key, error)
                raise

    async def _pass(self, uid: str) -> Again | None:
        for _ in range(MOST_STEPS):
            notebook = resources.find_uid(self._db.read, uid)
            if notebook is None:
                self._forget(uid)
                return None
            if "token" not in notebook.status:
                self._give_token(notebook)
                continue
            spec = wanted(notebook, self._default_image)
            if spec is None:
                self._provision.forget(uid)
            seen = await self._sessions.observe(notebook)
            await self._keep_ended(notebook, seen)
            facts = self._leases.fill(notebook, spec, self._facts(notebook, spec, tuple(seen)))
            step = decide(facts, self._clock())
            step = await self._publishing.publish(notebook, seen, step)
            if not self._write(notebook, spec, step, seen):
                continue  # the spec has changed meanwhile: decide anew
            if step.verb is None or not await self._acting.act(notebook, spec, step, seen):
                return None if step.wake is None else Again(max(0.0, step.wake - self._clock()))
        return Again(0.0)

    async def _keep_ended(self, notebook: Resource, seen: Seen) -> None:
        """What a session wrote until it was killed is in the history before anything else is done."""
        for session in seen:
            if session.state == "ended" and session.started and not notebook.deleting:
                await self._moments.after_end(notebook, session)

    def _facts(self, notebook: Resource, spec: Notebook | None, sessions: tuple[Session, ...]) -> Facts:
        image = self._provision.peek(notebook, spec) if spec else Image("unknown")
        return Facts(
            wanted=spec is not None,
            deleting=notebook.deleting,
            digest=digest(spec) if spec else "",
            asked=notebook.updated,
            sessions=sessions,
            image=image.state,
            image_message=image.message,
            image_retry_at=image.retry_at,
            blocked=self._bars.session(notebook, spec) if spec else "",
            note="; ".join(filter(None, self._notes(notebook, spec))) if spec else "",
            rested=ending.words(notebook),
            silence=self._acting.silence.get(notebook.uid, ""),
        )

    def _notes(self, notebook: Resource, spec: Notebook) -> tuple[str, ...]:
        return (
            self._watching.note(notebook),
            self._quotas.note(notebook.uid, spec),
            self._leases.note(notebook, spec),
        )

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
        document = status.describe(notebook.status, seen, image=spec.image if spec else "", wanted=spec is not None)
        if spec:
            document |= self._quotas.shown(notebook.uid, spec)
        return status.write(self._db, notebook, phase=step.phase, message=message, document=document, now=self._clock())

    def _tell(self, uid: str, error: ApplianceError) -> None:
        """A pass that cannot go on says why; what serves goes on serving."""
        if notebook := resources.find_uid(self._db.read, uid):
            status.write_problem(self._db, notebook, error, now=self._clock())

    def _forget(self, uid: str) -> None:
        self._provision.forget(uid)
        self._moments.forget(uid)
        self._publishing.forget(uid)
        self._acting.forget(uid)
        self._leases.forget(uid)
