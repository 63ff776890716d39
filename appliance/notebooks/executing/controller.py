"""Brings each execution from what was asked for to its end.

The notebook's lock is held only while the files are kept and the container is made, never while something is waited
for, so the notebook itself goes on meanwhile. A daemon that was killed finds the container again by its labels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from appliance.engine.labels import EXECUTION
from appliance.engine.preparing import Ensures, Image, Preparing
from appliance.engine.types import Container
from appliance.errors import ApplianceError, GpuRefused, SpecError
from appliance.history.workspaces import Workspaces
from appliance.notebooks import ending, specs
from appliance.notebooks.documents import Documents
from appliance.notebooks.executing.containers import Containers, Seen
from appliance.notebooks.executing.gpus import ExecutionLeases
from appliance.notebooks.executing.plan import Facts, Step, decide
from appliance.notebooks.making import Making
from appliance.reconcile import Again
from appliance.scheduler.leasing import Leases
from appliance.spec.models import Notebook
from appliance.state import events, executions, resources, trash
from appliance.state.db import Database
from appliance.state.executions import FINAL, Execution
from appliance.state.resources import Resource

MOST_STEPS = 12
LOCKED_EVERY_S = 0.5
"""Whether the files are free is asked so often; a pass that waited would hold up others."""
_LEVELS: Mapping[str, events.Level] = {"Failed": "error"}


class Executing:
    kind = EXECUTION

    def __init__(
        self,
        *,
        db: Database,
        images: Ensures,
        making: Making,
        containers: Containers,
        workspaces: Workspaces,
        documents: Documents,
        default_image: str,
        clock: Callable[[], float],
        hint: Callable[[str, str], None],
        locks: Mapping[str, asyncio.Lock],
        leases: Leases,
    ) -> None:
        self._db = db
        self._leases = ExecutionLeases(leases, clock)
        self._making = making
        self._containers = containers
        self._workspaces = workspaces
        self._documents = documents
        self._default_image = default_image
        self._clock = clock
        self._hint = hint
        self._locks = locks
        self._preparing = Preparing(images, clock, lambda key: hint(self.kind, key))
        self._words: dict[str, str] = {}
        """Id -> how one that has ended did, as its log says."""

    def keys(self) -> Iterable[str]:
        return executions.uncleared(self._db.read)

    async def close(self) -> None:
        """Gives up the image work under way. What is executed goes on."""
        await self._preparing.close()

    def gpu_lost(self, key: str, words: str) -> None:
        """It cannot reach its GPU any more. It goes on: what it has open may work still, and nothing is tried twice."""
        one = executions.find(self._db.read, key)
        if one and one.finished is None and (notebook := self._find(one)):
            text = f"{_named(one)}: {words}; it goes on, and may fail"
            ending.record(self._db, notebook, "GpuLost", text, now=self._clock(), level="warning")

    async def reconcile(self, key: str) -> Again | None:
        for _ in range(MOST_STEPS):
            one = executions.find(self._db.read, key)
            if one is None:
                self._forget(key)
                return None
            seen = await self._containers.look(one)
            notebook, spec = self._find(one), self._spec(one)
            self._leases.follow(one, spec, seen)
            step = decide(self._facts(one, notebook, spec, seen), self._clock())
            if one.phase not in FINAL and step.verb != "end" and (one.phase, one.message) != (step.phase, step.message):
                self._write(one, step, seen)
            if step.verb is None or notebook is None:
                return None if step.wake is None else Again(max(0.0, step.wake - self._clock()))
            if step.verb in ("begin", "end") and self._locks[one.notebook].locked():
                return Again(LOCKED_EVERY_S)
            await self._act(one, notebook, spec, step, seen)
        return Again(0.0)

    def _find(self, one: Execution) -> Resource | None:
        if notebook := resources.find_uid(self._db.read, one.notebook):
            return notebook
        return next((row.resource for row in trash.find(self._db.read, "notebook", one.notebook)), None)

    def _spec(self, one: Execution) -> Notebook:
        """As it was when this was asked for."""
        return specs.read(one.name, one.spec, self._default_image)

    def _facts(self, one: Execution, notebook: Resource | None, spec: Notebook, seen: Seen) -> Facts:
        waits = one.phase in ("Preparing", "Starting") and seen.state == "none"
        image = self._preparing.peek(one.id, spec.image, asked=one.created) if waits else Image("unknown")
        blocked = self._blocked(notebook, spec) if waits and notebook else ""
        return Facts(
            phase=one.phase,
            canceled=one.canceled,
            container=seen.state,
            exit_code=seen.container.exit_code if seen.container else None,
            words=self._words.get(one.id),
            cleared=one.cleared,
            image=image.state,
            image_message=image.message,
            blocked=blocked,
            waits=self._leases.waits(one, spec, image) if waits and not blocked and not one.canceled else "",
        )

    def _blocked(self, notebook: Resource, spec: Notebook) -> str:
        try:
            now = specs.read(notebook.name, notebook.spec, self._default_image)
        except SpecError:
            now = spec  # it was good when this was asked for
        if now.user != spec.user:  # whose the files may be by now
            return f"the notebook's user was changed to {now.user} meanwhile; run it again"
        return self._making.missing(spec)

    async def _act(self, one: Execution, notebook: Resource, spec: Notebook, step: Step, seen: Seen) -> None:
        container = seen.container
        match step.verb:
            case "prepare":
                registries = (spec.registry,) if spec.registry else ()
                await self._preparing.ensure(one.id, spec.image, asked=one.created, registries=registries)
            case "begin":
                try:
                    await self._begin(one, spec)
                except GpuRefused as error:
                    self._leases.refused(one, error)
            case "start" if container:
                await self._start(one, spec, container)
            case "stop" if container:
                await self._containers.stop(container)
            case "read" if container:
                self._words[one.id] = await self._containers.read_out(one, container)
            case "end":
                await self._end(one, notebook, step, seen)
            case "clear":
                await self._clear(one, notebook, seen)

    async def _begin(self, one: Execution, spec: Notebook) -> None:
        self._preparing.forget(one.id)
        async with self._locks[one.notebook]:
            notebook = resources.find_uid(self._db.read, one.notebook)
            if notebook is None or notebook.deleting:
                self._cancel(one, "the notebook was deleted")
                return
            await self._documents.flush(notebook)
            await self._keep(one, notebook, f"before {_named(one)}")
            pinned, left_out = await self._making.add_settings(notebook, spec, self._making.pin(spec))
            lease = self._leases.granted(one, spec)
            if lease is None:
                return  # the GPUs went elsewhere meanwhile: the next step says so
            with self._db.write() as db:
                begun = executions.begin(db, one.id, datasets=pinned.datasets, models=pinned.models)
                if begun and left_out:
                    text = f"{_named(one)} begins without some: {left_out}"
                    events.record(db, "notebook", notebook.name, "SettingsFile", text, now=self._clock())
            if begun:
                made = await self._containers.make(one, notebook, spec, pinned, lease)
                self._leases.held(one, spec, lease, made)

    async def _start(self, one: Execution, spec: Notebook, container: Container) -> None:
        if self._leases.is_stale(one, spec, container):
            await self._containers.drop(container)
            return
        try:
            await self._containers.start(container)
        except GpuRefused as error:
            self._leases.refused(one, error)
            await self._containers.drop(container)

    async def _end(self, one: Execution, notebook: Resource, step: Step, seen: Seen) -> None:
        self._preparing.forget(one.id)
        if seen.container:
            async with self._locks[one.notebook]:
                await self._keep(one, notebook, f"after {_named(one)}")
        code = seen.container.exit_code if seen.container else None
        now = self._clock()
        with self._db.write() as db:
            if executions.finish(db, one.id, step.phase, step.message, exit_code=code, now=now):
                text = f"{_named(one)}: {step.message}"
                level = _LEVELS.get(step.phase, "info")
                events.record(db, "notebook", notebook.name, f"Run{step.phase}", text, now=now, level=level)

    async def _clear(self, one: Execution, notebook: Resource, seen: Seen) -> None:
        await self._containers.forget_secrets(one, notebook)
        await self._containers.clear(one, seen.container)
        with self._db.write() as db:
            executions.set_cleared(db, one.id)
        self._forget(one.id)
        self._hint("notebook", one.notebook)  # its deletion may wait for this

    async def _keep(self, one: Execution, notebook: Resource, message: str) -> None:
        """A moment of the files, where they have changed since the newest one. What fails is told, and ends nothing."""
        try:
            if await self._workspaces.changed(one.notebook):
                await self._workspaces.snapshot(
                    one.notebook, cause="run", message=message, author=one.author, subject=f"run {one.number}"
                )
        except ApplianceError as error:
            text = f"no snapshot {message}: {error.message}; {error.hint}"
            ending.record(self._db, notebook, "SnapshotFailed", text, now=self._clock(), level="warning")

    def _write(self, one: Execution, step: Step, seen: Seen) -> None:
        with self._db.write() as db:
            executions.set_phase(db, one.id, step.phase, step.message)
            if seen.container and seen.container.started:
                executions.set_started(db, one.id, seen.container.started)

    def _cancel(self, one: Execution, why: str) -> None:
        with self._db.write() as db:
            executions.cancel(db, one.id, why)

    def _forget(self, key: str) -> None:
        self._preparing.forget(key)
        self._words.pop(key, None)
        self._leases.forget(key)


def _named(one: Execution) -> str:
    return f"run {one.number} of {one.file}"
