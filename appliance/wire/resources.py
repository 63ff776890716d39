"""What is declared: resources, and the specs that declare them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Item(TypedDict):
    """A declared resource: notebook, workflow, deployment or dataset."""

    kind: str
    name: str
    uid: str
    phase: str
    message: str
    generation: int
    observed: int
    source: str
    desired: str
    deleting: bool
    problem: str
    """What is wrong with the spec file that declares it; the last good spec stays in force."""
    url: str
    """Where it opens on the front door; empty where it does not."""
    created: float
    updated: float
    status: dict[str, Any]
    next_run: NotRequired[float | None]
    """Of a workflow: when its schedules start it next; None: they do not."""
    spec: NotRequired[dict[str, Any]]
    """Only when one item is asked for."""


class SpecFile(TypedDict):
    """A file of the watched folder. `problem` is empty where its content is in force."""

    name: str
    problem: str
    declares: list[str]
    updated: float


class Change(TypedDict):
    """What `apply` did, or with dry_run would do, for one document."""

    kind: str
    name: str
    change: Literal["created", "updated", "unchanged"]
    warnings: list[str]
    plan: NotRequired[list[str]]
    """With dry_run, of a deployment: what would become of its replicas, in sentences."""


class ApplyRequest(TypedDict):
    text: str
    file: str
    """Name for error messages, and for the name of a spec that has none."""
    name: NotRequired[str]
    dry_run: NotRequired[bool]
