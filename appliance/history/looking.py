"""A moment as a directory, for as long as somebody looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

import anyio

from appliance.storage.base import Store
from appliance.storage.threads import in_thread

View = AbstractAsyncContextManager[Path]


@asynccontextmanager
async def view(store: Store, volume: str, snapshot: str | None) -> AsyncIterator[Path]:
    """`snapshot` None is the live content. Raises NotFound."""
    if snapshot is None:
        yield await in_thread(store.path, volume)
        return
    opened = ExitStack()
    try:
        yield await in_thread(opened.enter_context, store.view(volume, snapshot))
    finally:
        with anyio.CancelScope(shield=True):
            await in_thread(opened.close)
