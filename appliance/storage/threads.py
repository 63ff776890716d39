"""Store calls off the event loop: a bounded number of worker threads that belong to this room."""

from __future__ import annotations

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
    return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=limiter)
