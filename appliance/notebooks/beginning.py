"""What a notebook's files begin from: the repository that its spec names, cloned once, before the first session.

A container of its own clones straight into the workspace, beside the reconcile loop, and outlives the daemon. A note
beside the workspace tells how far it is: while that says `cloning`, nothing but our own clone has ever written there,
so what a failed one has left is removed before the next. A workspace that has files in it already is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from appliance.engine.preparing import Image
from appliance.errors import ApplianceError
from appliance.notebooks.beside import Beside
from appliance.notebooks.cloning import DONE, NOTE, Cloning
from appliance.spec import address
from appliance.spec.models import Notebook
from appliance.state.resources import Resource

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 5.0, 300.0


@dataclass(slots=True)
class _Work:
    key: str
    asked: float
    task: asyncio.Task[None]
    progress: str = ""
    failures: int = 0
    failed: Image | None = None


class Beginning:
    """`hint` is called with a notebook's uid when its files are here or have failed to come."""

    def __init__(
        self, cloning: Cloning, beside: Beside, clock: Callable[[], float], hint: Callable[[str], None]
    ) -> None:
        self._cloning = cloning
        self._beside = beside
        self._clock = clock
        self._hint = hint
        self._works: dict[str, _Work] = {}

    def needed(self, notebook: Resource, spec: Notebook) -> bool:
        """No session may begin before the files are here."""
        if spec.workspace is None or notebook.status.get("session", 0):
            return False
        return self._beside.note(notebook.uid, NOTE) != DONE

    def peek(self, notebook: Resource, spec: Notebook) -> Image:
        """Where the work stands, in the terms of an image that is fetched. What failed before the user asked again
        counts as not begun."""
        work = self._works.get(notebook.uid)
        if work is None or work.key != self._cloning.key(notebook, spec):
            return Image("unknown")
        found = self._state(work, spec)
        return Image("unknown") if found.state == "failed" and notebook.updated > work.asked else found

    def ensure(self, notebook: Resource, spec: Notebook) -> None:
        """Begin the work, or go on with it. A failure is tried again after its back-off, or when the user asks."""
        key = self._cloning.key(notebook, spec)
        work = self._works.get(notebook.uid)
        if work and work.key != key:
            self.forget(notebook.uid)
            work = None
        if work is None:
            self._begin(notebook, spec, key, 0)
        elif (found := self._state(work, spec)).state == "failed":
            asked = notebook.updated > work.asked
            if asked or self._clock() >= found.retry_at:
                self._begin(notebook, spec, key, 0 if asked else work.failures)

    def forget(self, uid: str) -> None:
        """Nobody waits for it any more. What is under way goes on, and is found again."""
        if work := self._works.pop(uid, None):
            work.task.cancel()

    async def settle(self, uid: str) -> None:
        """Before a session begins: nothing of ours writes to the workspace from here on. Raises EngineError."""
        self.forget(uid)
        await self._cloning.settle(uid)

    async def stop(self, uid: str) -> None:
        """Before the notebook is deleted; should it come back, it is cloned anew. Raises EngineError."""
        self.forget(uid)
        await self._cloning.stop(uid)

    async def close(self) -> None:
        tasks = [work.task for work in self._works.values()]
        for uid in list(self._works):
            self.forget(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, notebook: Resource, spec: Notebook, key: str, failures: int) -> None:
        def progress(words: str) -> None:  # may be called from a worker thread: one assignment, nothing more
            work.progress = words

        async def clone() -> None:
            await self._cloning.clone(notebook, spec, progress)

        task = asyncio.create_task(clone(), name=f"workspace of {notebook.name}")
        work = self._works[notebook.uid] = _Work(key, notebook.updated, task, failures=failures)
        task.add_done_callback(lambda done: self._done(notebook.uid, done))

    def _done(self, uid: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # looked at here, so that asyncio does not complain where the work was given up
            self._hint(uid)

    def _state(self, work: _Work, spec: Notebook) -> Image:
        where = address.shown(spec.workspace.url) if spec.workspace else ""
        if not work.task.done():
            return Image("busy", message=f"workspace {where}: {work.progress or 'looking for it'}")
        return work.failed or self._outcome(work, where)

    def _outcome(self, work: _Work, where: str) -> Image:
        error = work.task.exception()
        if error is None:
            return Image("ready")
        work.failures += 1
        wait = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** (work.failures - 1))
        if isinstance(error, ApplianceError):
            text = f"workspace {where}: {error.message}" + (f"; {error.hint}" if error.hint else "")
        else:
            log.error("workspace %s", where, exc_info=error)
            text = f"workspace {where} could not be cloned: {error!r}; the daemon's log tells more"
        work.failed = Image("failed", message=text, retry_at=self._clock() + wait)
        return work.failed
