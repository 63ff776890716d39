"""The loop: hints wake a key at once, a resync wakes every key now and then, failures back off per key.

One key is never worked on twice at the same time; different keys are, up to `workers`. A hint that comes while its
key is being worked on makes it run once more afterwards, so no hint is lost.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from appliance.errors import ApplianceError

log = logging.getLogger(__name__)

BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 60.0


class Key(NamedTuple):
    """`kind` picks the controller; `id` is a resource uid or a run id."""

    kind: str
    id: str


class Again(NamedTuple):
    """A controller's wish to be called again, `after` seconds from now."""

    after: float


class Controller(Protocol):
    kind: str

    def keys(self) -> Iterable[str]:
        """Ids of everything that may need work; asked at the start and at each resync."""
        ...

    async def reconcile(self, key: str) -> Again | None:
        """Read, decide, act, write. Called again soon after an exception, with growing back-off."""
        ...


class Reconciler:
    def __init__(self, controllers: Iterable[Controller], *, workers: int = 16, resync_s: float = 30.0) -> None:
        self.controllers: dict[str, Controller] = {controller.kind: controller for controller in controllers}
        self.failures: dict[Key, int] = {}
        self._workers = workers
        self._resync_s = resync_s
        self._due: list[tuple[float, int, Key]] = []
        self._when: dict[Key, float] = {}
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._count = itertools.count()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, controller: Controller) -> None:
        """Before `run`. For controllers that need `hint` when they are made."""
        self.controllers[controller.kind] = controller

    def hint(self, kind: str, key: str, *, after: float = 0.0) -> None:
        """Something about this key has changed. Cheap; call it after the commit. Event loop thread only.

        A kind without a controller has no work to do.
        """
        if kind in self.controllers:
            self._schedule(Key(kind, key), after)

    def hint_all(self) -> None:
        for kind, controller in self.controllers.items():
            for key in controller.keys():  # noqa: SIM118 -- not a mapping
                self.hint(kind, key)

    async def run(self) -> None:
        """Until cancelled; then waits for the work that is under way to be cancelled too."""
        resync = asyncio.create_task(self._resync(), name="resync")
        try:
            while True:
                await self._start_due()
        finally:
            resync.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(resync, *self._tasks, return_exceptions=True)

    async def _resync(self) -> None:
        while True:
            try:
                self.hint_all()
            except Exception:
                log.exception("resync failed; the next one is in %.0f s", self._resync_s)
            await asyncio.sleep(self._resync_s * random.uniform(0.9, 1.1))

    async def _start_due(self) -> None:
        self._wake.clear()
        now = asyncio.get_running_loop().time()
        while self._due and self._due[0][0] <= now and len(self._running) < self._workers:
            when, _, key = heapq.heappop(self._due)
            if self._when.get(key) != when:
                continue  # an earlier hint replaced this entry
            del self._when[key]
            if key in self._running:
                self._again.add(key)
                continue
            self._running.add(key)
            task = asyncio.create_task(self._work(key), name=f"{key.kind}/{key.id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        wait = None
        if self._due and len(self._running) < self._workers:
            wait = max(0.0, self._due[0][0] - now)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _work(self, key: Key) -> None:
        again: Again | None = None
        try:
            again = await self.controllers[key.kind].reconcile(key.id)
            self.failures.pop(key, None)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failures = self.failures[key] = self.failures.get(key, 0) + 1
            delay = min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10)) * random.uniform(0.8, 1.2)
            surprise = None if isinstance(error, ApplianceError) else error
            log.warning(
                "%s/%s: %s (failure %d, again in %.1f s)",
                key.kind, key.id, error, failures, delay, exc_info=surprise,
            )  # fmt: skip
            again = Again(delay)
        finally:
            self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                if key not in self.failures:
                    self._schedule(key, 0.0)
            self._wake.set()
        if again is not None:
            self._schedule(key, again.after)

    def _schedule(self, key: Key, after: float) -> None:
        if key in self._running and after <= 0:
            self._again.add(key)
            return
        when = asyncio.get_running_loop().time() + after
        if key in self._when and self._when[key] <= when:
            return
        self._when[key] = when
        heapq.heappush(self._due, (when, next(self._count), key))
        self._wake.set()
