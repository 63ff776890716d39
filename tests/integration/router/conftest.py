"""One front door in a directory of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from appliance.router import process
from appliance.router.router import Router
from tests.integration.router.door import Door
from tests.support.ports import free_port


@pytest.fixture
def home() -> Iterator[Path]:
    """Open to HAProxy's account, as pytest's own directories are not."""
    directory = Path(tempfile.mkdtemp(prefix="appliance-router-"))
    directory.chmod(0o711)
    (directory / "run").mkdir(mode=0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def door(home: Path) -> AsyncIterator[Door]:
    async with AsyncExitStack() as stack:
        found = Door(home, free_port(), [], stack)
        try:
            yield found
        finally:
            await process.end(process.running(home / "router" / "haproxy.cfg"), grace_s=5.0)


@pytest.fixture
async def router(door: Door) -> Router:
    router = door.router()
    await router.start()
    return router
