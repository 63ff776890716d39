"""Replicas under a machine type of config.toml."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.settings import Settings
from tests.unit.deployments.house import House, spec

pytestmark = pytest.mark.anyio

TABLES = {"small": {"cpus": 0.5, "memory": "1G", "shm": "256M"}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, machines=TABLES)


@pytest.mark.parametrize(
    ("machine", "limits"), [("small", (0.5, 2**30, 2**28)), ("C4", (0.0, 0, 2**30)), ("ours", (0.0, 0, 2**30))]
)
async def test_each_replica_has_what_the_table_says(house: House, machine: str, limits: tuple[float, int, int]) -> None:
    house.declare(spec("one", resources={"instanceType": machine, "replicas": 2}))
    await house.settle()
    made = [house.engine.specs[one.id] for one in house.running()]
    assert [(one.cpus, one.memory_bytes, one.shm_bytes) for one in made] == [limits] * 2
