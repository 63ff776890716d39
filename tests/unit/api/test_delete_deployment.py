"""A deployment whose replicas have left files in a volume is deleted by its name, which is said twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.deployments import volumes
from appliance.settings import Settings
from appliance.state import resources
from tests.conftest import Clock
from tests.unit.api.test_runs import House

pytestmark = pytest.mark.anyio


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(settings, clock)
    yield made
    made.bench.close()


async def test_files_in_a_volume_ask_for_the_name_again(house: House) -> None:
    bench = house.bench
    with bench.db.write() as db:
        made, _ = resources.put(db, "deployment", "web", {"image": "x"}, source="cli", now=bench.clock())
    folder = bench.store.create(volumes.kept(made.uid, "cache"))
    (folder / "kept").write_text("mine")
    refused = await house.api.delete("/v1/deployments/web")
    assert refused.status_code == 409
    assert "left in cache" in refused.json()["detail"]
    assert "--confirm web" in refused.json()["hint"]
    assert not resources.get(bench.db.read, "deployment", "web").deleting
    assert (await house.api.delete("/v1/deployments/web", params={"confirm": "web"})).status_code == 202
    assert resources.get(bench.db.read, "deployment", "web").deleting


async def test_an_empty_volume_asks_for_nothing(house: House) -> None:
    bench = house.bench
    with bench.db.write() as db:
        made, _ = resources.put(db, "deployment", "web", {"image": "x"}, source="cli", now=bench.clock())
    bench.store.create(volumes.kept(made.uid, "cache"))
    assert (await house.api.delete("/v1/deployments/web")).status_code == 202
