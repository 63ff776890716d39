"""Store calls off the event loop: a bounded number of worker threads that belong to this room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import anyio
from anyio.lowlevel import RunVar

THREADS = 8
"""Volume operations at a time; more only queue up at the disk."""

P = ParamSpec("P")
R = TypeVar("R")
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("storage threads")


async def in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Await a blocking call. A cancelled caller waits until the call has ended, so nothing goes on behind it."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
    async with limiter:
        # a task of its own: a cancel scope's shield does not hold off `Task.cancel`
        work = asyncio.ensure_future(
            anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=anyio.CapacityLimiter(1))
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await ended(work)
            raise


async def ended(work: asyncio.Future[R]) -> None:
    """Wait for it however often the caller is cancelled. The cancellation is told and not what came of the call."""
    with anyio.CancelScope(shield=True):
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:
                continue
    if not work.cancelled():
        work.exception()
