"""What a deployment's spec names beside its image and models: repositories, buckets, volumes and dataset versions.

Each is fetched once for all replicas of all revisions that name the same, beside the reconcile loop, by a container
that outlives the daemon. `deployment restart` has it fetched afresh: a branch or a bucket may have moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from appliance.deployments import volumes
from appliance.deployments.gathering import Gathering, Pinned
from appliance.engine.types import Mount
from appliance.errors import ApplianceError, Conflict
from appliance.spec.models import Deployment
from appliance.state import resources
from appliance.state.resources import Resource
from appliance.storage.threads import in_thread

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_MOST_S = 5.0, 300.0
PATIENCE_S = 0.25
"""What is here already is answered within one look."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where the content of one deployment stands."""

    state: Literal["unknown", "busy", "ready", "failed"]
    """unknown: no work was begun for it."""
    message: str = ""
    """Progress, or what went wrong and the next step."""
    retry_at: float = 0.0
    pin: Pinned = field(default_factory=dict)


@dataclass(slots=True)
class _Work:
    keys: frozenset[str]
    asked: float
    task: asyncio.Task[Pinned]
    progress: dict[str, str]
    """What is fetched -> how far it is."""
    failures: int = 0
    failed: Prepared | None = None


class Content:
    """`hint` is called with a deployment's uid when its content is here or has failed."""

    def __init__(self, gathering: Gathering, clock: Callable[[], float], hint: Callable[[str], None]) -> None:
        self._gathering = gathering
        self._clock = clock
        self._hint = hint
        self._works: dict[str, _Work] = {}

    def peek(self, deployment: Resource, spec: Deployment) -> Prepared:
        """Where the work stands. What failed before the user asked again counts as not begun."""
        if not _asks(spec):
            self._give_up(deployment.uid)
            return Prepared("ready")
        work = self._works.get(deployment.uid)
        if work is None or work.keys != self._gathering.keys(deployment, spec):
            return Prepared("unknown")
        found = self._state(work)
        return Prepared("unknown") if found.state == "failed" and deployment.updated > work.asked else found

    async def ensure(self, deployment: Resource, spec: Deployment) -> None:
        """Begin the work, or go on with it. A failure is tried again after its back-off, or when the user asks."""
        if not _asks(spec):
            return
        keys = self._gathering.keys(deployment, spec)
        work = self._works.get(deployment.uid)
        if work and work.keys != keys:
            self._give_up(deployment.uid)
            work = None
        if work is None:
            work = self._begin(deployment, spec, keys, 0)
        elif (found := self._state(work)).state == "failed":
            asked = deployment.updated > work.asked
            if asked or self._clock() >= found.retry_at:
                work = self._begin(deployment, spec, keys, 0 if asked else work.failures)
        await asyncio.wait({work.task}, timeout=PATIENCE_S)

    def anew(self, uid: str) -> None:
        """Some of what was found is gone since: all of it is looked for again."""
        self._give_up(uid)

    async def mounts(self, deployment: Resource, content: Pinned) -> list[Mount]:
        """Of a pinned content. Raises NotFound where some of it is gone."""
        return [
            Mount(await self._gathering.place(deployment, entry), path, read_only=not entry.get("writable"))
            for path, entry in content.items()
        ]

    async def forget(self, uid: str, keep: Collection[str]) -> None:
        """Destroy what was fetched for the deployment but the volumes `keep` and what is being fetched for it now.

        `keep` is what `volumes.volumes_of` tells of the pins that are still needed. Of a deployment that is gone, or
        is being deleted, all goes: its volumes with what replicas have left there too. Raises ApplianceError where
        some of it stays, and this has to be asked again.
        """
        deployment = resources.find_uid(self._gathering.db.read, uid)
        gone = deployment is None or deployment.deleting
        work, ends = self._works.get(uid), False
        if gone and work:
            self._give_up(uid)
            await asyncio.wait({work.task})
            ends = work.task.cancelled()
        work = self._works.get(uid)
        await self._gathering.destroy(uid, keep, work.keys if work else (), all_of_it=gone)
        if ends:  # what the engine was about to make may be there a moment later
            raise Conflict("what was being fetched for it is being ended", hint="it is looked for once more")

    async def sweep(self) -> None:
        """What was fetched for deployments that are gone goes; a volume that replicas wrote to only where it is empty.

        Raises EngineError.
        """
        await self._gathering.sweep()

    async def holding(self, uid: str) -> list[str]:
        """Names of the deployment's volumes in which its replicas have left something: gone for good with it."""
        return await in_thread(volumes.holding, self._gathering.store, uid)

    async def close(self) -> None:
        """Gives up waiting. The containers that fetch go on, and are found again."""
        tasks = [work.task for work in self._works.values()]
        for uid in list(self._works):
            self._give_up(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, deployment: Resource, spec: Deployment, keys: frozenset[str], failures: int) -> _Work:
        progress: dict[str, str] = {}
        working = self._gathering.gather(deployment, spec, progress)
        task = asyncio.create_task(working, name=f"content of {deployment.name}")
        work = self._works[deployment.uid] = _Work(keys, deployment.updated, task, progress, failures)
        task.add_done_callback(lambda done: self._done(deployment.uid, done))
        return work

    def _done(self, uid: str, task: asyncio.Task[Pinned]) -> None:
        if not task.cancelled():
            task.exception()  # looked at here, so that asyncio does not complain where the work was given up
            self._hint(uid)

    def _give_up(self, uid: str) -> None:
        if work := self._works.pop(uid, None):
            work.task.cancel()

    def _state(self, work: _Work) -> Prepared:
        if not work.task.done():
            told = [f"{what}: {words}" for what, words in dict(work.progress).items()]
            return Prepared("busy", message="; ".join(told) or "its content is looked for")
        return work.failed or self._outcome(work)

    def _outcome(self, work: _Work) -> Prepared:
        error = work.task.exception()
        if error is None:
            return Prepared("ready", pin=work.task.result())
        work.failures += 1
        wait = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** (work.failures - 1))
        if isinstance(error, ApplianceError):
            text = error.message + (f"; {error.hint}" if error.hint else "")
        else:
            log.error("content of a deployment", exc_info=error)
            text = f"its content could not be fetched: {error!r}; the daemon's log tells more"
        work.failed = Prepared("failed", message=text, retry_at=self._clock() + wait)
        return work.failed


def _asks(spec: Deployment) -> bool:
    return bool(spec.integrations) or spec.repositories is not None
