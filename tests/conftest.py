"""What every test gets: asyncio, a frozen clock and a private home. Sockets leave this machine from no test."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Commands that run inside a test narrow it, as they do in a process of their own."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return load_settings({}, home=tmp_path / "home")
