"""The next tick of a workflow, where the API shows it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.settings import Settings
from appliance.state import resources
from tests.conftest import Clock
from tests.unit.api.test_api import House
from tests.unit.triggers.conftest import JOBS

pytestmark = pytest.mark.anyio

HOURLY = "on: {schedule: [{cron: '0 * * * *', timezone: UTC}]}\n" + JOBS


@pytest.fixture
def house(tmp_path: Path, settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(tmp_path, settings, clock)
    yield made
    made.db.close()


async def test_a_workflow_with_a_clock_says_when_it_starts_next(house: House, clock: Clock) -> None:
    await house.apply(HOURLY, "hourly.yaml")
    await house.apply(JOBS, "plain.yaml")
    await house.apply("kind: dataset\nname: digits\n", "digits.yaml")
    clock.now = datetime(2026, 7, 1, 12, 59, 30, tzinfo=UTC).timestamp()
    for path in ("/v1/workflows", "/v1/workflows/hourly", "/v1/workflows/plain"):
        found = (await house.trusted.get(path)).json()
        shown = {each["name"]: each["next_run"] for each in found.get("items", [found])}
        assert shown.items() <= {"hourly": clock.now + 30, "plain": None}.items()
    assert "next_run" not in (await house.trusted.get("/v1/datasets/digits")).json()
    clock.now += 30
    assert (await house.trusted.get("/v1/workflows/hourly")).json()["next_run"] == clock.now + 3600


async def test_a_workflow_that_was_withdrawn_starts_no_more(house: House) -> None:
    await house.apply(HOURLY, "hourly.yaml")
    with house.db.write() as db:
        uid = resources.get(db, "workflow", "hourly").uid
        resources.set_desired(db, uid, "stopped", now=1.0)
    assert (await house.trusted.get("/v1/workflows/hourly")).json()["next_run"] is None
