"""A run is deleted over HTTP: by its whole name, which is said twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from appliance.settings import Settings
from tests.conftest import Clock
from tests.unit.api.test_runs import House

pytestmark = pytest.mark.anyio


@pytest.fixture
def house(settings: Settings, clock: Clock) -> Iterator[House]:
    made = House(settings, clock)
    yield made
    made.bench.close()


async def test_a_run_is_deleted_once_its_name_is_repeated(house: House) -> None:
    await house.failed()
    refused = await house.api.delete("/v1/runs/flow.1")
    assert refused.status_code == 409
    assert refused.json()["hint"] == "confirm with the name: `appliance delete run flow.1 --confirm flow.1`"
    assert (await house.run("flow.1"))["phase"] == "Failed"
    done = await house.api.delete("/v1/runs/flow.1", params={"confirm": "flow.1"})
    assert done.status_code == 200
    assert done.json()["bytes"] > 0
    assert house.bench.store.volumes("runs") == []
    assert (await house.api.get("/v1/runs/flow.1")).status_code == 404
    assert (await house.api.delete("/v1/runs/flow.1", params={"confirm": "flow.1"})).status_code == 404
    assert (await house.begin())["name"] == "flow.2"


@pytest.mark.parametrize("name", ["flow", "flow.", "flow.x", "flow.2", "other.1", "flow.1.1"])
async def test_no_other_name_means_a_run_to_delete(house: House, name: str) -> None:
    """To look at, the name of a workflow means its newest run."""
    await house.failed()
    assert (await house.api.delete(f"/v1/runs/{name}", params={"confirm": name})).status_code == 404
    assert (await house.run("flow"))["phase"] == "Failed"


async def test_without_the_token_nothing_is_deleted(house: House) -> None:
    await house.failed()
    assert (await house.front.delete("/v1/runs/flow.1", params={"confirm": "flow.1"})).status_code == 401
    assert (await house.run("flow.1"))["phase"] == "Failed"


async def test_a_run_that_goes_on_stays(house: House) -> None:
    await house.declare()
    house.bench.engine.body = {"make": lambda inside: None}
    await house.begin()
    refused = await house.api.delete("/v1/runs/flow.1", params={"confirm": "flow.1"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "run flow.1 has not ended")
    assert (await house.run("flow.1"))["phase"] == "Running"


async def test_the_schema_tells_of_it(house: House) -> None:
    schema = (await house.api.get("/openapi.json")).json()
    assert schema["paths"]["/v1/runs/{name}"].keys() >= {"get", "delete"}
    assert "DeletedRun" in schema["components"]["schemas"]
