"""A bench, or a desk, per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.workflows.desk import Desk
from tests.unit.workflows.fakes import Bench


@pytest.fixture
def bench(settings: Settings, clock: Clock) -> Iterator[Bench]:
    made = Bench(settings, clock)
    yield made
    made.close()


@pytest.fixture
def desk(settings: Settings, clock: Clock, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(settings, clock, tmp_path)
    yield made
    made.db.close()
