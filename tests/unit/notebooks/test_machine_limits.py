"""A session under a machine type of config.toml."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.settings import Settings
from tests.unit.notebooks.test_controller import House, house

__all__ = ["house"]
pytestmark = pytest.mark.anyio

GIB = 2**30
TABLES = {"small": {"cpus": 0.5, "memory": "1G", "shm": "256M", "also": ["C4"]}}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, machines=TABLES)


@pytest.mark.parametrize(
    ("spec", "limits"),
    [
        ({"machine": "small"}, (0.5, GIB, GIB // 4)),
        ({"machine": "C4", "shm": "2G"}, (0.5, GIB, 2 * GIB)),
        ({"machine": "C5"}, (0.0, 0, GIB)),
        ({}, (0.0, 0, GIB)),
    ],
)
async def test_the_container_has_what_the_table_says(
    house: House, spec: dict[str, str], limits: tuple[float, int, int]
) -> None:
    house.declare(spec)
    await house.run("Running")
    (container,) = house.engine.containers
    made = house.engine.specs[container]
    assert (made.cpus, made.memory_bytes, made.shm_bytes) == limits
