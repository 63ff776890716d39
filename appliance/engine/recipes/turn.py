"""One image build at a time on a machine, whichever appliance runs it: builds use all cores, and the second of two
equal ones finds its work done. The lock is the kernel's, so it ends with its process however that ends."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from appliance.engine.recipes.recipe import Progress

log = logging.getLogger(__name__)

POLL_S = 0.5
PATIENCE_S = 1800.0
"""Anybody on this machine can hold the lock: nobody can stop builds with it."""


def lock_path() -> Path:
    shared = Path("/run/lock")
    folder = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return folder / "appliance-image-build.lock"


@asynccontextmanager
async def turn(what: str, progress: Progress, path: Path | None = None) -> AsyncIterator[None]:
    """Waits for the machine's other builds. Goes on without the lock, and logs it, where none can be had."""
    path = path or lock_path()
    try:
        lock = _open(path)
    except OSError as error:
        log.warning("image builds are not taken in turns: %s", error)
        yield
        return
    try:
        await _acquire(lock, what, progress)
        yield
    finally:
        os.close(lock)


async def _acquire(lock: int, what: str, progress: Progress) -> None:
    if _try(lock):
        return
    progress(f"{what}: waiting for another image build on this machine")
    deadline = time.monotonic() + PATIENCE_S
    while not _try(lock):
        if time.monotonic() > deadline:
            log.warning("another image build has lasted %.0f s; not waiting for it any longer", PATIENCE_S)
            return
        await asyncio.sleep(POLL_S)


def _open(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o644)


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
