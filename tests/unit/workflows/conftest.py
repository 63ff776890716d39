"""A bench per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench


@pytest.fixture
def bench(settings: Settings, clock: Clock) -> Iterator[Bench]:
    made = Bench(settings, clock)
    yield made
    made.close()
