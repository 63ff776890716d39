"""Images are fetched or built beside the reconcile loop: a long download holds up nothing, and can be asked about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

RETRY_FIRST_S = 5.0
RETRY_MOST_S = 300.0
PATIENCE_S = 0.25
"""An image that is here already is answered within one look."""


class Ensures(Protocol):
    async def ensure(
        self, ref: str, progress: Callable[[str], None] = ..., *, registries: Collection[str] = ...
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class Image:
    """Where the image of one owner stands."""

    state: Literal["unknown", "busy", "ready", "failed"]
    """unknown: no work was begun for it."""
    id: str = ""
    message: str = ""
    """Progress, or what went wrong and the next step."""
    retry_at: float = 0.0


@dataclass(slots=True)
class _Work:
    ref: str
    asked: float
    task: asyncio.Task[str]
    progress: str = ""
    failures: int = 0
    failed: Image | None = None


class Preparing:
    """One piece of work per owner. `on_done` is called with the owner when its image is here or has failed."""

    def __init__(self, images: Ensures, clock: Callable[[], float], on_done: Callable[[str], None]) -> None:
        self._images = images
        self._clock = clock
        self._on_done = on_done
        self._works: dict[str, _Work] = {}

    def peek(self, owner: str, ref: str, *, asked: float) -> Image:
        """Where the work stands. What failed before the user `asked` again counts as not begun."""
        work = self._works.get(owner)
        if work is None or work.ref != ref:
            return Image("unknown")
        found = self._state(work)
        return Image("unknown") if found.state == "failed" and asked > work.asked else found

    async def ensure(self, owner: str, ref: str, *, asked: float, registries: Collection[str] = ()) -> Image:
        """Begin the work, or look at it. A failure is tried again after its back-off, or when `asked` has grown.
        `registries` are the names of those whose login may be used."""
        work = self._works.get(owner)
        if work and work.ref != ref:
            self.forget(owner)
            work = None
        failed = work.failed if work else None
        if work is None or (failed and (asked > work.asked or self._clock() >= failed.retry_at)):
            failures = work.failures if work and asked <= work.asked else 0
            work = self._begin(owner, ref, asked, failures, registries)
        await asyncio.wait({work.task}, timeout=PATIENCE_S)
        return self._state(work)

    def forget(self, owner: str) -> None:
        """The image is in use, or no longer asked for. Work under way is given up."""
        if work := self._works.pop(owner, None):
            work.task.cancel()

    async def close(self) -> None:
        tasks = [work.task for work in self._works.values()]
        for owner in list(self._works):
            self.forget(owner)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, owner: str, ref: str, asked: float, failures: int, registries: Collection[str]) -> _Work:
        def progress(text: str) -> None:  # may be called from a worker thread: one assignment, nothing more
            work.progress = text

        getting = self._images.ensure(ref, progress, registries=registries)
        task = asyncio.create_task(getting, name=f"image {ref} for {owner}")
        work = self._works[owner] = _Work(ref, asked, task, failures=failures)
        task.add_done_callback(lambda done: self._done(owner, done))
        return work

    def _done(self, owner: str, task: asyncio.Task[str]) -> None:
        if task.cancelled():
            return
        task.exception()  # looked at here, so that asyncio does not complain where the work was forgotten
        self._on_done(owner)

    def _state(self, work: _Work) -> Image:
        if not work.task.done():
            return Image("busy", message=work.progress or f"image {work.ref}: looking for it")
        return work.failed or self._outcome(work)

    def _outcome(self, work: _Work) -> Image:
        error = work.task.exception()
        if error is None:
            return Image("ready", id=work.task.result())
        work.failures += 1
        wait = min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** (work.failures - 1))
        if isinstance(error, ApplianceError):
            text = f"image {work.ref}: {error.message}" + (f"; {error.hint}" if error.hint else "")
        else:
            log.error("image %s", work.ref, exc_info=error)
            text = f"image {work.ref} could not be prepared: {error!r}; the daemon's log tells more"
        work.failed = Image("failed", message=text, retry_at=self._clock() + wait)
        return work.failed
