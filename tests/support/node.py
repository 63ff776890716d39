"""Clients of Jupyter that others wrote in JavaScript: a browser, and the library that VS Code uses.

`./install.sh test` gets them; where they cannot be had their tests are skipped in words, and in CI they fail.
Pictures of pages are kept below APPLIANCE_TEST_ARTEFACTS (else `dist/artefacts` of the checkout).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).with_name("browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MOST_S = 900.0


@pytest.fixture(scope="session")
def node() -> str:
    """The program, with the packages of `browser/package.json`."""
    program = shutil.which("node")
    if not program:
        _without("no node on this machine")
    if not (HERE / "node_modules/.package-lock.json").is_file():
        _without(f"no packages in {HERE}/node_modules")
    return str(program)


@pytest.fixture(scope="session")
def chromium(node: str) -> str:
    """The browser that `journeys.mjs` drives."""
    if not CHROMIUM:
        _without("no Chromium on this machine")
    return str(CHROMIUM)


def _without(what: str) -> None:
    words = f"{what}: ./install.sh test gets nodejs, npm, chromium and the packages of tests/support/browser"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where pages are pictured, emptied of those of the test before."""
    kept = os.environ.get("APPLIANCE_TEST_ARTEFACTS") or HERE.parents[2] / "dist/artefacts"
    folder = Path(kept) / "notebook-browser"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def script(node: str, *arguments: str, given: dict[str, Any]) -> dict[str, Any]:
    """What `node ARGUMENTS JSON` found: the last line it printed. Fails with all that it said."""
    command = [node, *arguments, json.dumps(given)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=MOST_S, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
