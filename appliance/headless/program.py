"""The program that executes a notebook in a container, and what it is told. Pure.

Parameters are written into the executed notebook, so `secret:NAME` means nothing among them: a secret comes to a
notebook as a variable of its container.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appliance.errors import UsageError
from appliance.fetching import programs

SUFFIX = ".ipynb"
PROGRAM = "run_notebook"
INSIDE = Path(__file__).with_name("inside")


def check_parameters(names: Iterable[str]) -> None:
    """Raises UsageError."""
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(
                f"the parameter {name!r} cannot be the name of a Python variable", hint="use letters, digits and _"
            )


def files_of(notebook: str, output: str, parameters: Mapping[str, Any], kernel: str = "") -> dict[str, str]:
    """File name -> content for the private mount. Paths are the container's. Raises UsageError.

    `kernel`: name of a kernel of the image; empty: the one that the notebook names.
    """
    check_parameters(parameters)
    request = {"notebook": notebook, "output": output, "parameters": dict(parameters), "kernel": kernel}
    return programs.files_of(PROGRAM, request, folder=INSIDE)
