"""What every test gets: asyncio, a frozen clock and a private home. Sockets leave this machine from no test."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.settings import load as load_settings

pytest_plugins = ["tests.support.docker", "tests.support.zfs", "tests.support.daemon"]


class Clock:
    """A clock that tests move by hand. Seconds, as `time.time` counts them."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return load_settings({}, home=tmp_path / "home")
