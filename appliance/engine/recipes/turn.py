"""One image build at a time on a machine, whichever appliance runs it: builds use all cores, and the second of two
equal ones finds its work done. The lock is the kernel's, so it ends with its process however that ends."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.engine.recipes.recipe import Progress

log = logging.getLogger(__name__)

POLL_S = 0.5


def lock_path() -> Path:
    shared = Path("/run/lock")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / "appliance-image-build.lock"


@asynccontextmanager
async def turn(what: str, progress: Progress, path: Path | None = None) -> AsyncIterator[None]:
    """Waits for the machine's other builds. Goes on without the lock, and logs it, where none can be had."""
    path = path or lock_path()
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        log.warning("image builds are not taken in turns: %s", error)
        yield
        return
    try:
        told = False
        while not _try(lock):
            if not told:
                progress(f"{what}: waiting for another image build on this machine")
                told = True
            await asyncio.sleep(POLL_S)
        yield
    finally:
        os.close(lock)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
