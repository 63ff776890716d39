"""A notebook's file executed with nobody watching, on the real engine with the real image."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.labels import EXECUTION
from appliance.notebooks.executing.asked import Asked
from appliance.state import resources
from appliance.state.executions import Execution
from appliance.telemetry.types import LogQuery
from tests.integration.services import Services, eventually, needs_services, services

pytestmark = needs_services

LOOK = "import getpass, os\nprint('x is', x, 'as', os.getuid(), getpass.getuser(), open('/run/secrets/KEY').read())"
FOREVER = "import time\nprint('begun', flush=True)\nwhile True:\n    print('tick', flush=True)\n    time.sleep(0.05)"


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


def cells(*sources: str) -> str:
    empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    found = [{**empty, "source": source, "id": f"c{index}"} for index, source in enumerate(sources)]
    return json.dumps({"cells": found, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


async def resting(house: Services, **spec: Any) -> Path:
    """The files of a notebook that never ran."""
    notebook = house.declare("notebook", "nb", spec)
    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    return await house.workspaces.open(notebook.uid)


async def running(house: Services) -> Execution:
    orders = house.notebooks.orders
    await eventually(lambda: orders.find("nb").phase == "Running", "the run runs", 180)
    return orders.find("nb")


async def over(house: Services) -> Execution:
    orders = house.notebooks.orders
    await eventually(lambda: orders.find("nb").cleared, "the run is over", 180)
    return orders.find("nb")


async def said(house: Services, one: Execution) -> list[str]:
    query = LogQuery(kind="notebook", name="nb", part=one.part, limit=1000)
    return [line.line for line in await house.telemetry.logs(query)]


async def test_a_file_of_a_notebook_that_rests(house: Services) -> None:
    house.vault.set("KEY", "hunter2-hunter2")
    files = await resting(house, user="4711:4712", secrets=["KEY"])
    (files / "ä b").mkdir()
    (files / "ä b" / "c d.ipynb").write_text(cells(LOOK, "1/0"))
    one = await house.notebooks.orders.start("nb", Asked("ä b/c d.ipynb", {"x": {"deep": [1, None]}}))
    one = await over(house)
    assert (one.phase, one.exit_code) == ("Failed", 1)
    assert one.message == "cell 3 (1/0): ZeroDivisionError: division by zero"
    assert "x is {'deep': [1, None]} as 4711 notebook ***" in await said(house, one)
    copy = files / one.output
    assert copy.parent == files / "ä b"
    assert (copy.stat().st_uid, copy.stat().st_gid) == (4711, 4712)
    outputs = [cell["outputs"] for cell in json.loads(copy.read_text())["cells"]]
    assert outputs[2][0]["ename"] == "ZeroDivisionError"
    moments = house.workspaces.timeline(house.get("notebook", "nb").uid)
    assert [(row.cause, row.message) for row in moments[:2]] == [
        ("run", "after run 1 of ä b/c d.ipynb"),
        ("run", "before run 1 of ä b/c d.ipynb"),
    ]
    assert await house.containers(EXECUTION, "nb") == []
    assert house.get("notebook", "nb").phase == "Stopped"


async def test_it_outlives_the_daemon_and_ends_when_it_is_asked_to(house: Services) -> None:
    files = await resting(house)
    (files / "a.ipynb").write_text(cells(FOREVER))
    one = await house.notebooks.orders.start("nb", Asked("a.ipynb", output="out.ipynb"))
    await running(house)

    async def has_begun() -> bool:
        return "begun" in await said(house, one)

    await eventually(has_begun, "its lines come as it prints them", 120)
    (container,) = await house.containers(EXECUTION, "nb")
    await house.restart()
    assert house.notebooks.orders.elsewhere(house.get("notebook", "nb")) == "run 1 of a.ipynb goes on"
    assert [found.id for found in await house.containers(EXECUTION, "nb")] == [container.id]
    house.notebooks.orders.cancel("nb", author="me")
    one = await over(house)
    assert (one.phase, one.message, one.exit_code) == ("Canceled", "canceled by me", 143)
    lines = await said(house, one)
    assert lines[-1] == "appliance: stopped by SIGTERM"
    (cell,) = json.loads((files / "out.ipynb").read_text())["cells"]
    printed = "".join("".join(output["text"]) for output in cell["outputs"])
    assert printed.startswith("begun\ntick\n")


async def test_deleting_its_notebook_ends_it(house: Services) -> None:
    files = await resting(house)
    (files / "a.ipynb").write_text(cells(FOREVER))
    await house.notebooks.orders.start("nb", Asked("a.ipynb"))
    await running(house)
    uid = house.get("notebook", "nb").uid
    with house.db.write() as db:
        resources.set_deleting(db, uid, now=0.0)
    house.reconciler.hint("notebook", uid)
    await house.gone("notebook", "nb")
    assert await house.containers(EXECUTION, "nb") == []
    await house.notebooks.trash.undelete("nb")
    assert house.notebooks.orders.find("nb").message == "the notebook was deleted"
