"""The rows of runs and of their jobs, as they are read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from appliance.state.db import Row

FINAL_PHASES = frozenset({"Succeeded", "Failed", "Error", "Skipped", "Omitted", "Canceled"})


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a workflow. `number` counts within the workflow, from 1; times are unix seconds."""

    id: str
    number: int
    workflow_uid: str
    workflow: str
    spec: dict[str, Any]
    inputs: dict[str, Any]
    phase: str
    message: str
    cancel: bool
    created: float
    started: float | None
    finished: float | None
    cause: str = "manual"
    """What started it: manual, resume, replay, schedule, dataset, folder, spec, git or webhook."""
    parent: str = ""
    """Id of the run that it resumes or replays."""
    mode: str = ""
    """`resume`, `replay` or empty."""
    source: str = ""
    """What its trigger saw, in words: a commit, a dataset version, a tick."""
    cache: bool = True
    """False: all of its jobs run; what they make is given to later runs as ever."""
    kept: bool = False
    """It is over, and its volumes stay for a while so that it can be resumed."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """A run that is not over, as little of it as a newer one of its workflow has to know."""

    id: str
    workflow_uid: str
    workflow: str
    number: int
    cancel: bool
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One node of a run. `container` is the engine's name for its container, set before that is created."""

    run: str
    name: str
    position: int
    phase: str
    message: str
    container: str
    exit_code: int | None
    started: float | None
    finished: float | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    attempt: int = 1
    """Counts from 1; a retry is the next."""
    not_before: float | None = None
    """Unix time before which the next attempt does not start."""
    image: str = ""
    """Digest of the image that it ran, as the engine identifies it; empty before that is known."""
    cache_key: str = ""
    reused: str = ""
    """`WORKFLOW.NUMBER/JOB` whose outputs it was given in place of running; empty: it ran itself."""
    begun: str = ""
    """What an action of the daemon's own has set going and waits for, in its own words; empty: nothing yet."""
    pins: dict[str, Any] = field(default_factory=dict)
    """Input -> document that it is given whatever its spec says: of a run that resumes or replays another."""
    commit_id: str = ""
    """Of a checkout that is over: the commit that it took. Before its end: the one that it has to take, whatever its
    ref means, in a run that resumes or replays another. Empty: not known, and up to its ref."""
    stopped: float | None = None
    """Unix time at which `appliance stop --all` was about to stop the container of this attempt."""
    interrupted: int = 0
    """Earlier attempts that ended with the appliance or the machine, and so do not count."""
    preempted: str = ""
    """For whom this attempt makes way with its GPU, in words; empty: it need not."""
    fault: str = ""
    """What its GPU has told of this attempt's program, in words."""
    lost: str = ""
    """How the GPU of this attempt failed or was taken away, in words: nothing of that is the program's fault."""

    @property
    def tries(self) -> int:
        """Attempts that count, with this one."""
        return self.attempt - self.interrupted


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a job stands, without what it was given and what it made."""

    name: str
    phase: str
    message: str = ""
    attempt: int = 1
    not_before: float | None = None


def run_of(row: Row) -> Run:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    return Run(
        **{
            **values,
            "spec": json.loads(row["spec"]),
            "inputs": json.loads(row["inputs"]),
            "cancel": bool(row["cancel"]),
            "cache": bool(row["cache"]),
            "kept": bool(row["kept"]),
        }
    )


def job_of(row: Row) -> Job:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- a Row iterates over values
    documents = {key: json.loads(row[key]) for key in ("inputs", "outputs", "pins")}
    return Job(**{**values, **documents})
