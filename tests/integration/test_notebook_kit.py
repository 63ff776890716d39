"""Jupyter brought into images that have none, on the real engine and through the real front door."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import docker
import pytest
from websockets.asyncio.client import connect

from appliance.engine.labels import EXECUTION
from appliance.notebooks.executing.asked import Asked
from appliance.notebooks.kit.fitting import LABEL
from appliance.notebooks.kit.kit import KIND
from appliance.state.resources import Resource
from tests.integration.services import Services, eventually, needs_services, services
from tests.integration.test_notebook_documents import Page
from tests.integration.test_notebook_run import cells
from tests.integration.test_notebooks import Browser

pytestmark = needs_services

LOOK = """
import importlib.util, os, subprocess, sys
own = subprocess.run([sys.executable, "-c", "import ipykernel"], capture_output=True)
print(sys.executable, sys.version_info[:2] == (3, 11), os.getuid(), os.getcwd())
print(importlib.util.find_spec("jupyterlab"), own.returncode, os.environ.get("PYTHONPATH"))
"""


@pytest.fixture
async def house(base_image: str, notebook_image: str) -> AsyncIterator[Services]:
    async with services() as found:
        yield found


@pytest.fixture
def without_python(base_image: str) -> Iterator[str]:
    """An image with a shell and nothing that a cell could run in, whose own entrypoint must never run.

    Asked for before the house, so that it goes after the containers that are made of it.
    """
    name = f"appliance-test-{secrets.token_hex(4)}"
    api = docker.from_env(version="auto")
    made = api.containers.create(base_image, ["sh", "-c", "rm -f /usr/bin/python* /usr/local/bin/python* /bin/bash"])
    try:
        made.start()
        assert made.wait(timeout=120)["StatusCode"] == 0
        made.commit(name, conf={"Entrypoint": ["/bin/false"], "Cmd": []})
    finally:
        made.remove(force=True)
    try:
        yield f"{name}:latest"
    finally:
        api.images.remove(name, force=True)
        api.close()


async def ready(house: Services, name: str, **spec: object) -> tuple[Resource, Browser]:
    house.declare("notebook", name, spec)
    notebook = await house.phase("notebook", name, "Running", "Failed", within_s=600)
    assert notebook.phase == "Running", notebook.message
    return notebook, Browser(house, notebook)


def told(house: Services, name: str) -> list[tuple[str, str]]:
    return [(one.level, one.message) for one in house.all_events("notebook", name) if one.reason == "Jupyter"]


async def test_an_image_with_python_only(house: Services, base_image: str) -> None:
    notebook, browser = await ready(house, "nb", image=base_image, user="4711:4712")
    python, where = (await browser.run(LOOK)).splitlines()
    assert python.split()[1:] == ["True", "4711", "/notebooks"]
    assert python.split()[0] in ("/usr/bin/python3", "/usr/local/bin/python3")
    assert where == "None 1 None", "the image's Python is as it was, for cells and for what they start"
    assert told(house, "nb")[0][0] == "info"
    assert "the image's Python 3.11" in told(house, "nb")[0][1]

    assert list((await browser.call("GET", "api/kernelspecs"))["kernelspecs"]) == ["python3"]
    assert await browser.call("GET", "appliance/state")

    # output is kept though nobody looks
    files = await house.workspaces.open(notebook.uid)
    page = Page(house, notebook)
    await page.write("whatever")
    await page.open()
    await page.execute("import time\nfor n in range(5):\n    print(n, time.time(), flush=True)\n    time.sleep(0.5)")
    await eventually(lambda: '"4 ' in page.path.read_text(), "what the cell printed is in the file", 120)
    assert page.path.stat().st_uid == 4711

    terminal = await browser.call("POST", "api/terminals")
    url = f"ws://127.0.0.1:{house.settings.port}{browser.base}terminals/websocket/{terminal['name']}"
    async with asyncio.timeout(60), connect(f"{url}?token={browser.token}") as shell:
        await shell.send(json.dumps(["stdin", "echo $((6*7))-from-$(python3 -c 'import sys; print(sys.prefix)')\n"]))
        said = ""
        while "42-from-/usr" not in said:
            frame = json.loads(await shell.recv())
            said += frame[1] if frame[0] == "stdout" else ""

    # a file of it is executed the same way
    (files / "a.ipynb").write_text(cells("import sys\nprint(sys.executable, x)"))
    await house.notebooks.orders.start("nb", Asked("a.ipynb", {"x": 3}))
    await eventually(lambda: house.notebooks.orders.find("nb").cleared, "the run is over", 180)
    one = house.notebooks.orders.find("nb")
    assert one.phase == "Succeeded", one.message
    executed = json.loads((files / one.output).read_text())["cells"][-1]["outputs"]
    assert "".join(executed[0]["text"]) == f"{python.split()[0]} 3\n"

    # found again: neither asked nor made anew, and nothing of the making is left
    before = sorted(path.name for path in (house.settings.home / "kit").iterdir())
    assert sorted(name.partition("-")[0] for name in before) == ["packages", "root", "share"]
    session = (await house.containers("notebook", "nb"))[0]
    assert session.labels[LABEL].split(",") == before
    house.ask("notebook", "nb", "stopped")
    await house.phase("notebook", "nb", "Stopped")
    await house.restart()
    house.ask("notebook", "nb", "running")
    await house.phase("notebook", "nb", "Running")
    assert sorted(path.name for path in (house.settings.home / "kit").iterdir()) == before
    assert await house.engine.list(kind=KIND) == []
    assert await house.containers(EXECUTION, "nb") == []


async def test_an_image_without_python_is_served_by_the_appliances_own(without_python: str, house: Services) -> None:
    _, browser = await ready(house, "nb", image=without_python)
    assert (await browser.run("import sys, numpy\nprint(sys.executable)")).startswith("/opt/appliance/jupyter/")
    assert told(house, "nb")[0][0] == "warning"
    assert "the image has no Python" in told(house, "nb")[0][1]
    terminal = await browser.call("POST", "api/terminals")
    assert terminal["name"]


async def test_the_built_in_image_and_a_command_of_the_users_are_left_alone(
    house: Services, base_image: str, notebook_image: str
) -> None:
    await ready(house, "own")
    spec = {"image": notebook_image, "command": ["jupyter", "lab", "--allow-root", "--ip=0.0.0.0", "--port=8888"]}
    await ready(house, "commanded", **spec)
    for name in ("own", "commanded"):
        session = (await house.containers("notebook", name))[0]
        assert LABEL not in session.labels
        assert told(house, name) == []
    assert not (house.settings.home / "kit").exists()
