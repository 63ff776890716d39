"""The reconcile loop: hints, back-off, one worker per key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from appliance.reconcile import Again, Reconciler

pytestmark = pytest.mark.anyio


class Recorder:
    kind = "thing"

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = list(keys)
        self.calls: list[str] = []
        self.active: set[str] = set()
        self.overlapped = False
        self.fail_first = 0
        self.again: Again | None = None
        self.gate: asyncio.Event | None = None
        self.changed = asyncio.Condition()

    def keys(self) -> Iterable[str]:
        return self._keys

    async def reconcile(self, key: str) -> Again | None:
        self.overlapped |= key in self.active
        self.active.add(key)
        try:
            async with self.changed:
                self.calls.append(key)
                self.changed.notify_all()
            if self.gate:
                await self.gate.wait()
            await asyncio.sleep(0)
            if self.fail_first:
                self.fail_first -= 1
                raise RuntimeError("as planned")
            again, self.again = self.again, None
            return again
        finally:
            self.active.discard(key)

    async def seen(self, number: int) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(lambda: len(self.calls) >= number)


@asynccontextmanager
async def running(reconciler: Reconciler) -> AsyncIterator[Reconciler]:
    task = asyncio.create_task(reconciler.run())
    try:
        yield reconciler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_start_visits_every_key() -> None:
    controller = Recorder(["a", "b", "c"])
    async with running(Reconciler([controller])):
        await controller.seen(3)
    assert sorted(controller.calls) == ["a", "b", "c"]


async def test_a_hint_while_working_runs_the_key_once_more_and_never_beside_itself() -> None:
    controller = Recorder()
    controller.gate = asyncio.Event()
    async with running(Reconciler([controller])) as reconciler:
        reconciler.hint("thing", "a")
        await controller.seen(1)
        for _ in range(5):
            reconciler.hint("thing", "a")
        assert controller.calls == ["a"]
        controller.gate.set()
        await controller.seen(2)
        await asyncio.sleep(0.01)
    assert controller.calls == ["a", "a"]
    assert not controller.overlapped


async def test_a_delayed_hint_that_comes_due_while_working_waits_for_the_end() -> None:
    controller = Recorder()
    controller.gate = asyncio.Event()
    async with running(Reconciler([controller])) as reconciler:
        reconciler.hint("thing", "a")
        await controller.seen(1)
        reconciler.hint("thing", "a", after=0.01)
        await asyncio.sleep(0.05)
        assert controller.calls == ["a"]
        controller.gate.set()
        await controller.seen(2)
    assert not controller.overlapped


async def test_a_failure_is_tried_again_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.reconcile.loop.BACKOFF_FIRST_S", 0.01)
    controller = Recorder()
    controller.fail_first = 2
    async with running(Reconciler([controller])) as reconciler:
        reconciler.hint("thing", "a")
        await controller.seen(2)
        assert reconciler.failures
        await controller.seen(3)
        async with asyncio.timeout(60):
            while reconciler.failures:  # noqa: ASYNC110 - the loop tells nobody
                await asyncio.sleep(0.01)


async def test_again_brings_the_key_back() -> None:
    controller = Recorder()
    controller.again = Again(0.01)
    async with running(Reconciler([controller])) as reconciler:
        reconciler.hint("thing", "a")
        await controller.seen(2)


async def test_a_key_that_hangs_does_not_hold_up_the_others() -> None:
    controller = Recorder()
    controller.gate = asyncio.Event()
    async with running(Reconciler([controller], workers=2)) as reconciler:
        reconciler.hint("thing", "slow")
        reconciler.hint("thing", "quick")
        await controller.seen(2)
    assert controller.calls == ["slow", "quick"]


async def test_the_queue_never_runs_more_than_its_workers() -> None:
    controller = Recorder()
    controller.gate = asyncio.Event()
    async with running(Reconciler([controller], workers=2)) as reconciler:
        for key in "abcd":
            reconciler.hint("thing", key)
        await controller.seen(2)
        await asyncio.sleep(0.02)
        assert len(controller.calls) == 2
        controller.gate.set()
        await controller.seen(4)


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancel_that_meets_a_hint_ends_the_loop(steps: int) -> None:
    reconciler = Reconciler([Recorder()])
    reconciler.hint("thing", "later", after=60)
    task = asyncio.create_task(reconciler.run())
    await asyncio.sleep(0.01)
    reconciler.hint("thing", "a")
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    ended, _ = await asyncio.wait([task], timeout=60)
    task.cancel()
    assert ended
