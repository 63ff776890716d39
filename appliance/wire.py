"""What crosses the API: the shapes of its JSON. Shared by the API, the client, the CLI and the TUI.

Documents stay plain dicts: nothing to decode. The client imports this module for types only, so that the CLI
starts without it.
Times are unix seconds, sizes bytes. A list answer is `{"items": [...]}`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Problem(TypedDict):
    """RFC 9457 problem, the one shape of every error. `code` is the class in errors.py."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str
    where: str
    problems: NotRequired[list[dict[str, Any]]]
    """Of a spec: file, line, column, path, message, hint."""


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
    spec: NotRequired[dict[str, Any]]
    """Only when one item is asked for."""


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
    jobs: NotRequired[list[Job]]
    """Only when one run is asked for."""
    spec: NotRequired[dict[str, Any]]


class Event(TypedDict):
    id: int
    at: float
    kind: str
    name: str
    level: Literal["info", "warning", "error"]
    reason: str
    message: str


class LogLine(TypedDict):
    seq: int
    at: float
    kind: str
    name: str
    part: str
    stream: str
    line: str


class Version(TypedDict):
    """A committed dataset version; `ref` is `NAME:VERSION`."""

    ref: str
    version: str
    message: str
    created: float
    bytes: int
    run: str
    job: str
    tags: list[str]


class Model(TypedDict):
    id: str
    name: str
    type: str
    dataset: str
    version: str
    run: str
    created: float


class Secret(TypedDict):
    name: str
    updated: float


class SpecFile(TypedDict):
    """A file of the watched folder. `problem` is empty where its content is in force."""

    name: str
    problem: str
    declares: list[str]
    updated: float


class Snapshot(TypedDict):
    id: str
    cause: str
    message: str
    created: float


class Access(TypedDict):
    """How a browser or a Jupyter client gets into a notebook. `url` carries the token."""

    url: str
    base_url: str
    token: str


class Change(TypedDict):
    """What `apply` did, or with dry_run would do, for one document."""

    kind: str
    name: str
    change: Literal["created", "updated", "unchanged"]
    warnings: list[str]


class ApplyRequest(TypedDict):
    text: str
    file: str
    """Name for error messages, and for the name of a spec that has none."""
    name: NotRequired[str]
    dry_run: NotRequired[bool]


class ScaleRequest(TypedDict):
    replicas: int


class SnapshotRequest(TypedDict):
    message: NotRequired[str]


class RollbackRequest(TypedDict):
    snapshot: str
    """Its id."""


class SecretRequest(TypedDict):
    value: str


class SqlRequest(TypedDict):
    query: str


class SqlAnswer(TypedDict):
    columns: list[str]
    rows: list[list[Any]]


class RunRequest(TypedDict):
    inputs: NotRequired[dict[str, Any]]


class Part(TypedDict):
    """Health of one part of the appliance. `ok` False: `message` says what is wrong and the next step."""

    name: str
    ok: bool
    message: str


class Brief(TypedDict):
    """One line of what runs or failed."""

    kind: str
    name: str
    phase: str
    message: str
    since: float
    url: str


class Status(TypedDict):
    version: str
    instance: str
    home: str
    pid: int
    started: float
    now: float
    url: str
    parts: list[Part]
    counts: dict[str, dict[str, int]]
    """Plural kind -> phase -> number."""
    active: list[Brief]
    failed: list[Brief]
    """Newest failures of the last day."""
    broken_specs: list[SpecFile]


class Page(TypedDict):
    items: list[Any]
