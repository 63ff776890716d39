"""What every test gets: asyncio, a frozen clock and a private home. Sockets leave this machine from no test."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from appliance.settings import Settings
from appliance.settings import load as load_settings

# How long an example takes says how busy the machine is. Where CI is set, Hypothesis draws the same ones every time.
hypothesis_settings.register_profile(
    "here", hypothesis_settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("here")

pytest_plugins = [
    "tests.support.docker",
    "tests.support.zfs",
    "tests.support.daemon",
    "tests.support.git",
    "tests.support.corpus",
    "tests.support.node",
    "tests.support.nvml",
]


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


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where nobody watches, a failure is shown when it happens: the summary never comes if a later test hangs."""
    if os.environ.get("CI") and report.failed:
        told = f"\n--- {report.nodeid} ({report.when}, {report.duration:.0f} s)\n{report.longreprtext}"
        print(told, file=sys.__stdout__, flush=True)
