"""Executing a notebook's files over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.test_api import is_problem
from tests.unit.api.test_notebook_life import LifeHouse, house, notebooks

__all__ = ["house", "notebooks"]
pytestmark = pytest.mark.anyio
RUNS = "/v1/notebooks/nb/executions"


async def begin(house: LifeHouse) -> None:
    uid = await house.begin()
    (await house.notebooks.workspaces.open(uid) / "a.ipynb").write_text("{}")


async def test_asked_for_listed_and_canceled(house: LifeHouse) -> None:
    await begin(house)
    answer = await house.post("nb/executions", file="a.ipynb", parameters={"x": [1, {"y": None}]}, gpu=False)
    assert answer.status_code == 201
    row: dict[str, Any] = answer.json()
    assert (row["notebook"], row["number"], row["phase"], row["logged"], row["part"]) == (
        "nb",
        1,
        "Preparing",
        "nb",
        "run-1",
    )
    assert row["parameters"] == {"x": [1, {"y": None}]}
    assert row["output"].startswith("a-executed-")
    await house.notebooks.notebooks.executing.reconcile(house.notebooks.hints[-1])
    assert (await house.door.get(f"{RUNS}/1")).json()["phase"] == "Running"
    second = (await house.post("nb/executions", file="/notebooks/a.ipynb", output="b.ipynb")).json()
    assert (second["number"], second["file"], second["output"]) == (2, "a.ipynb", "b.ipynb")
    assert [item["number"] for item in (await house.door.get(RUNS)).json()["items"]] == [2, 1]
    assert [item["number"] for item in (await house.door.get(f"{RUNS}?limit=1")).json()["items"]] == [2]
    assert (await house.door.get(f"{RUNS}/newest")).json()["number"] == 2
    answer = await house.door.post(f"{RUNS}/1/cancel", json={})
    assert answer.status_code == 202


async def test_what_is_refused(house: LifeHouse) -> None:
    await begin(house)
    is_problem(await house.post("nb/executions", file="../a.ipynb"), 400, "usage")
    is_problem(await house.post("nb/executions", file="a.ipynb", output="/etc/x.ipynb"), 400, "usage")
    is_problem(await house.post("nb/executions", file="a.ipynb", parameters={"a b": 1}), 400, "usage")
    is_problem(await house.post("nb/executions", file="a.ipynb", image="other"), 400, "usage")
    is_problem(await house.post("nb/executions", file="a.ipynb", gpu="no"), 400, "usage")
    is_problem(await house.post("nb/executions"), 400, "usage")
    assert "notebook ls nb" in is_problem(await house.post("nb/executions", file="b.ipynb"), 404, "not_found")["hint"]
    is_problem(await house.post("none/executions", file="a.ipynb"), 404, "not_found")
    is_problem(await house.door.get(f"{RUNS}/x"), 400, "usage")
    is_problem(await house.door.get(f"{RUNS}/3"), 404, "not_found")
    is_problem(await house.door.get(f"{RUNS}/newest"), 404, "not_found")
    own = {"Authorization": f"token {house.notebooks.row.status['token']}"}
    is_problem(await house.front.post(RUNS, json={"file": "a.ipynb"}, headers=own), 401, "forbidden")
