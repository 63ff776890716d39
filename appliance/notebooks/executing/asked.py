"""What a user asks to have executed, checked before anything is done. Pure."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from appliance.errors import UsageError
from appliance.headless.program import SUFFIX, check_parameters
from appliance.notebooks.jupyter import ROOT
from appliance.storage.trees.pinning import parts_of

LONGEST_PATH = 1000
"""Characters; the operating system takes a few more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Paths are below the workspace; those that begin with /notebooks/ are too."""

    file: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kernel: str = ""
    """Name of a kernel of the image; empty: the one that the file names."""
    output: str = ""
    """Where the executed copy goes; empty: beside the file, named after the time."""
    gpu: bool = True
    """With GPUs of its own, as many as a session of the notebook has."""


def checked(asked: Asked, *, taken: Collection[str], now: float) -> Asked:
    """With paths as they are meant. `taken`: outputs of those that go on. Raises UsageError."""
    check_parameters(asked.parameters)
    file = inside(asked.file, "file")
    if asked.output:
        output = inside(asked.output, "output")
        if output in taken:
            raise UsageError(f"another run is writing {output!r}", hint="wait for it, or name another file")
    else:
        output = beside(file, taken, now)
    return replace(asked, file=file, output=output)


def inside(path: str, what: str) -> str:
    """As a path below the workspace. Raises UsageError for what leads out or is no notebook."""
    below = path.removeprefix(f"{ROOT}/")
    if below.startswith("/"):
        hint = f"such as train.ipynb, or {ROOT}/train.ipynb"
        raise UsageError(f"the {what} is not among the notebook's files: {path!r}", hint=hint)
    found = "/".join(parts_of(below))
    if not found.endswith(SUFFIX) or found.rpartition("/")[2] == SUFFIX:
        raise UsageError(f"the {what} is no notebook: {path!r}", hint=f"its name ends with {SUFFIX}")
    if not found.isprintable() or len(found) > LONGEST_PATH:
        raise UsageError(f"the {what} has a name that cannot be used here: {path[:80]!r}", hint="rename it")
    return found


def beside(file: str, taken: Collection[str], now: float) -> str:
    """`train.ipynb` -> `train-executed-20261123-160000.ipynb`, in local time."""
    stem = f"{file.removesuffix(SUFFIX)}-executed-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"
    count, found = 1, f"{stem}{SUFFIX}"
    while found in taken:
        count += 1
        found = f"{stem}-{count}{SUFFIX}"
    return found
