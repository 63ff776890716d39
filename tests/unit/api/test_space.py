"""`/v1/space`, and what a low disk refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.history.measuring import SpaceReports
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.room import Room
from tests.conftest import Clock
from tests.unit.api.test_api import House, house, is_problem

__all__ = ["house"]  # the fixture
pytestmark = pytest.mark.anyio


async def test_the_report_comes_when_it_is_counted(house: House, clock: Clock, tmp_path: Path) -> None:
    house.datasets.create("mnist")
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    await house.datasets.put("mnist", tmp_path / "file")
    answer = (await house.trusted.get("/v1/space", params={"wait": 5})).json()
    assert answer["measuring"] is None
    assert answer["measured"] == clock()
    assert [(owner["kind"], owner["name"]) for owner in answer["owners"]] == [("dataset", "mnist")]
    assert answer["owners"][0]["live"] >= 100_000
    assert answer["places"][0]["free"] > 0
    assert (answer["waiting"], answer["problems"]) == ("", [])
    assert answer["growth"]["per_day"] is None
    assert "less than a day" in answer["growth"]["why"]


async def test_a_wait_that_makes_no_sense_is_refused(house: House) -> None:
    is_problem(await house.trusted.get("/v1/space", params={"wait": "long"}), 400, "usage")


async def test_an_upload_does_not_take_the_last_of_the_disk(
    house: House, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path / "volumes", "a test")
    room = Room(store, tmp_path, low=0, reserve=0)
    house.parts.space = SpaceReports(house.db, store, room, low=0, clock=clock)
    house.datasets.create("mnist")
    assert (await house.trusted.post("/v1/datasets/mnist/versions", json={})).status_code == 201
    monkeypatch.setattr(room, "why", lambda: "waits for disk space: it is low")
    problem = is_problem(await house.trusted.post("/v1/datasets/mnist/versions", json={}), 507, "no_space")
    assert "the upload does not begin: waits for disk space" in problem["detail"]
    assert (await house.trusted.get("/v1/space")).json()["waiting"] == "waits for disk space: it is low"
