"""Files of notebooks that are executed with nobody watching."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Execution(TypedDict):
    """Times in unix seconds. Paths are below the notebook's workspace."""

    notebook: str
    number: int
    """Counts those of the notebook from 1."""
    phase: Literal["Preparing", "Starting", "Running", "Stopping", "Succeeded", "Failed", "Canceled"]
    message: str
    file: str
    output: str
    """The executed copy; while it goes on, as far as it is."""
    parameters: dict[str, Any]
    kernel: str
    author: str
    generation: int
    """Of the notebook's spec that it is made from."""
    created: float
    started: float | None
    finished: float | None
    exit_code: int | None
    logged: str
    """Name under which its lines are stored, with `part`: the notebook's at that time."""
    part: str


class ExecutionRequest(TypedDict):
    file: str
    """Below the workspace, or below /notebooks."""
    parameters: NotRequired[dict[str, Any]]
    kernel: NotRequired[str]
    """Of the image; empty: the one that the file names."""
    output: NotRequired[str]
    """Of the executed copy; empty: beside the file, named after the time."""
    gpu: NotRequired[bool]
    """False: without the GPUs that a session of the notebook has; it waits for none then."""
