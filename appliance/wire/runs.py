"""Workflow runs and their jobs."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from appliance.wire.resources import Item


class Job(TypedDict):
    name: str
    phase: str
    message: str
    exit_code: int | None
    started: float | None
    finished: float | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    needs: list[str]
    attempt: int
    """Counts from 1."""
    next_try: float | None
    """Unix time of the next attempt of a job that waits for it."""
    reused: str
    """`WORKFLOW.NUMBER/JOB` whose outputs it was given in place of running; empty: it ran itself."""
    image: str
    """The engine's id of the image that it ran; empty before that is known."""
    commit_id: str
    """Full hash of the commit that a git-checkout took; empty: not that, or not yet."""
    matrix: dict[str, str]
    """The values that it stands for, of a job that a `strategy.matrix` made."""
    capsule: bool
    """What it read and wrote is kept: `notebook create --from-job` opens it."""


class Run(TypedDict):
    """`name` is `WORKFLOW.NUMBER`."""

    kind: Literal["run"]
    name: str
    id: str
    workflow: str
    number: int
    phase: str
    message: str
    created: float
    started: float | None
    finished: float | None
    inputs: dict[str, Any]
    cause: str
    """manual, resume, replay, schedule, dataset, folder, spec, git or webhook."""
    source: str
    """What its trigger saw, in words."""
    parent: str
    """The run that it resumes or replays, as `WORKFLOW.NUMBER`, or its id where that is gone; empty: none."""
    jobs: NotRequired[list[Job]]
    """Only when one run is asked for."""
    spec: NotRequired[dict[str, Any]]


class RunRequest(TypedDict):
    inputs: NotRequired[dict[str, Any]]
    cache: NotRequired[bool]
    """Default: true. False: every job runs, also one whose outputs are known already."""


class JobNotebookRequest(TypedDict):
    name: str
    image: NotRequired[str]
    """Default: the setting `notebook_image`; the job's own image need not have Jupyter."""


class JobNotebook(TypedDict):
    """A notebook with what is kept of a failed job."""

    notebook: Item
    reason: str
    """Why the job ended."""
    image: str
    """What the job ran on; empty: its action has an image of its own."""
    inputs: list[str]
    outputs: list[str]
    missing: list[str]
    """What could not be brought along, each with the reason."""


class HookAnswer(TypedDict):
    """What came of a signed message."""

    message: str
    run: str
    """`WORKFLOW.NUMBER` that it started; empty: none."""


class DeletedRun(TypedDict):
    bytes: int
    """What its volumes held."""
