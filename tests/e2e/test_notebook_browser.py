"""Two notebooks in one browser profile, through the front door: what a person sees, with pictures of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import run_inside
from tests.support.daemon import RunningDaemon, eventually
from tests.support.node import script

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.images, pytest.mark.haproxy]

FILE = "Übung – 実験 'a' #1.ipynb"
WAITS = """import os, time
print('started', flush=True)
while not os.path.exists('go on'):
    time.sleep(0.1)
for number in range(5):
    print('alone', number, flush=True)
    time.sleep(0.2)"""
"""Goes on when the test says so: after the browser has ended."""


def document(*codes: str) -> bytes:
    """A notebook of code cells."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "source": code,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for number, code in enumerate(codes)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return json.dumps({"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}).encode()


class Browser:
    """One profile of one browser; each journey starts the browser anew, as a person comes back the next day."""

    def __init__(self, node: str, chromium: str, profile: Path, pictures: Path) -> None:
        self._node = node
        self._given = {"browser": chromium, "profile": str(profile), "pictures": str(pictures)}

    def goes(self, journey: str, **given: Any) -> dict[str, Any]:
        return script(self._node, "journeys.mjs", journey, given={**self._given, **given})


@pytest.fixture(scope="module")
def browser(node: str, chromium: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield Browser(node, chromium, tmp_path_factory.mktemp("profile"), pictures)
    print(f"pictures: {', '.join(sorted(str(picture) for picture in pictures.glob('*.png')))}")


@pytest.fixture(scope="module")
def notebooks(browser: Browser, daemon: RunningDaemon, notebook_image: str) -> list[str]:
    """Two that run; what asks for the browser first skips before anything is started."""
    names = ["one", "two"]
    for name in names:
        made = daemon.cli("notebook", "create", name, "--env", f"WHICH={name}", timeout_s=600)
        assert made.returncode == 0, made.stderr
    return names


def door(daemon: RunningDaemon, name: str, file: str = FILE) -> dict[str, str]:
    access = daemon.client.access(name)
    return {"url": access["url"], "base": access["base_url"], "file": file}


def put(daemon: RunningDaemon, name: str, file: str, content: bytes) -> None:
    """A file of the workspace, written by the notebook's own Python: an upload is not what is tested here."""
    code = "import sys; open(sys.argv[1], 'wb').write(bytes.fromhex(sys.argv[2]))"
    (container,) = daemon.running_containers(name)
    run_inside(container, "python3", "-c", code, f"/notebooks/{file}", content.hex())


def texts(daemon: RunningDaemon, name: str, file: str) -> str:
    """What the first cell has printed, as the file of the workspace says."""
    written = json.loads(daemon.cli("notebook", "cat", name, file).stdout or "{}")
    outputs = written["cells"][0]["outputs"] if written else []
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_a_cell_goes_on_when_its_tab_is_closed_and_its_output_is_there_later(
    daemon: RunningDaemon, notebooks: list[str], browser: Browser
) -> None:
    put(daemon, "one", FILE, document(WAITS))
    browser.goes("leave", **door(daemon, "one"), workspace="kept", first="started")

    # no tab, no browser: the kernel and the server alone bring the output into the file
    put(daemon, "one", "go on", b"")
    eventually(lambda: "alone 4" in texts(daemon, "one", FILE), within_s=30, what="the whole output in the file")

    shown = browser.goes("comeBack", **door(daemon, "one"), workspace="kept", last="alone 4")
    assert "".join(shown["output"]).split("\n") == ["started", *(f"alone {number}" for number in range(5)), ""]


def test_a_cell_that_is_run_before_its_kernel_is_there_is_run(
    daemon: RunningDaemon, notebooks: list[str], browser: Browser
) -> None:
    put(daemon, "one", "early.ipynb", document("print('early', 'bird')"))
    browser.goes("atOnce", **door(daemon, "one", "early.ipynb"), workspace="early", first="early bird")


def test_a_terminal_of_the_lab_is_a_shell_in_the_workspace(
    daemon: RunningDaemon, notebooks: list[str], browser: Browser
) -> None:
    command = 'test -t 0 && echo "$((6 * 7)) $PWD" > "from the terminal"'
    browser.goes("terminal", **door(daemon, "one"), workspace="shell", command=command, done="from the terminal")
    assert daemon.cli("notebook", "cat", "one", "from the terminal").stdout == "42 /notebooks\n"


def test_two_notebooks_are_used_in_turns_in_one_browser(
    daemon: RunningDaemon, notebooks: list[str], browser: Browser
) -> None:
    for name in notebooks:
        put(daemon, name, f"{name}.ipynb", document(""))
    one, two = (door(daemon, name, f"{name}.ipynb") for name in notebooks)
    found = browser.goes("together", one=one, two=two, workspace="together")["found"]
    assert found == ["one turn 1\n", "two turn 1\n", "one turn 2\n", "two turn 2\n"]


def test_the_next_session_knows_the_browser_and_what_was_open(
    daemon: RunningDaemon, notebooks: list[str], browser: Browser
) -> None:
    assert daemon.cli("notebook", "stop", "one").returncode == 0
    assert daemon.cli("notebook", "start", "one", timeout_s=600).returncode == 0
    daemon.phase("notebooks", "one", "Running")
    found = browser.goes("again", **door(daemon, "one"), workspace="kept")
    assert "login" not in found["address"]
    assert "token" not in found["address"]
