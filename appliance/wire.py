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
    attempt: int
    """Counts from 1."""
    next_try: float | None
    """Unix time of the next attempt of a job that waits for it."""
    reused: str
    """`WORKFLOW.NUMBER/JOB` whose outputs it was given in place of running; empty: it ran itself."""
    image: str
    """The engine's id of the image that it ran; empty before that is known."""
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
    parent: str
    """`NAME:VERSION` that it was branched from, or that was its base; empty: it began empty."""
    digest: str
    """Of the whole content, where it was put file by file."""
    used_by: list[str]
    """Who or what needs it, in words; such a version cannot be removed."""
    unique: NotRequired[int]
    """Bytes that come back if it is removed; only where sizes were asked for."""
    shared: NotRequired[int]
    """Bytes that others have too: branches, its base, what it is the base of."""


class OpenVersion(TypedDict):
    """A version that is being put. `resumed`: it was begun before, and goes on where it was."""

    ref: str
    version: str
    resumed: bool


class Missing(TypedDict):
    """What of a manifest is not there yet. Its lines are counted from 0."""

    ranges: list[list[int]]
    """[first, one past the last] of lines."""
    offsets: dict[str, int]
    """Line -> bytes that are there already, of large files that are half sent."""


class Packed(TypedDict):
    """A pack that was stored: the sha256 of what arrived, files that are whole by it, bytes of content."""

    sha256: str
    files: int
    bytes: int


class VersionReader(TypedDict):
    """A job that was given a version as an input."""

    run: str
    job: str
    phase: str
    made: list[str]
    """Dataset versions that it wrote, as `NAME:VERSION`."""


class Lineage(TypedDict):
    """Where a dataset version comes from, and what came of it."""

    ref: str
    run: str
    """`WORKFLOW.NUMBER` that made it; empty: a person put it."""
    job: str
    inputs: dict[str, str]
    """Of that job: input -> `NAME:VERSION`."""
    parent: str
    readers: list[VersionReader]
    children: list[str]
    """Branches, and versions that had it as their base."""
    models: list[Model]
    used_by: list[str]


class Model(TypedDict):
    id: str
    name: str
    type: str
    dataset: str
    version: str
    run: str
    created: float


class ModelLineage(TypedDict):
    """`run` registered it, and `inputs` are what that run was given; `version` is what it is."""

    model: Model
    run: str
    job: str
    inputs: dict[str, str]
    version: Lineage


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
    author: str
    subject: str
    """`session 3` or a run's name: what the moment belongs to."""
    bytes: int | None
    """Written since the moment before; None where the store cannot tell."""
    held: list[str]
    """Who or what holds it, in words; such a moment is never pruned."""


class Verdict(TypedDict):
    """What retention says of one moment."""

    snapshot: Snapshot
    why: str
    """Why it stays; empty: it goes."""


class Pruning(TypedDict):
    """What went, or with dry_run would go. `items` newest first."""

    items: list[Verdict]
    bytes: int
    """What comes back."""
    exact: bool
    """False: at least so much."""
    dry_run: bool


class FileChange(TypedDict):
    """One line of a diff. `path` is below the workspace's root; bytes that are not UTF-8 are `\\xNN`."""

    change: Literal["added", "removed", "changed", "renamed"]
    path: str
    was: NotRequired[str]
    """Of a rename: the path before."""
    kind: Literal["file", "directory", "link", "other"]
    note: NotRequired[str]
    """What differs beside the content: the mode, the owner."""
    before: int | None
    """Size in bytes; None where it was not there. Of a directory 0, of one that was renamed the size of its files."""
    after: int | None


class DiffEnd(TypedDict):
    """The last line of a diff. `cut` says why it is not whole, empty where it is."""

    end: Literal[True]
    cut: str
    changes: int
    entries: int
    """Files and directories that were compared."""


class Hunk(TypedDict):
    """Lines that differ, with some that do not around them. `before` and `after` are the first line's numbers."""

    before: int
    after: int
    lines: list[str]
    """Each begins with ` `, `-` or `+`, or with `\\` where the line before it ends the file without a newline."""


class CellChange(TypedDict):
    """One cell of a Jupyter notebook. `moved` cells have left the order that the others keep."""

    change: Literal["added", "removed", "changed", "moved"]
    type: str
    """`code`, `markdown` or `raw`."""
    id: str
    was: int | None
    """Its place, counted from 1; None where it was not there."""
    now: int | None
    hunks: list[Hunk]
    """Of the source."""
    outputs_before: str
    """In one line, such as `2 outputs: image/png 34.1 kB, stdout 12 lines`; empty where there are none."""
    outputs_after: str
    outputs_changed: bool
    notes: list[str]
    """What else differs: `metadata: tags`, `type markdown -> code`."""


class FileDiff(TypedDict):
    """One file at two moments. `note` says why something is not told, empty where all is."""

    kind: Literal["text", "notebook", "binary", "link", "other"]
    path: str
    was: str
    """The path in the older moment; another one where the file was renamed."""
    before: int | None
    """Size in bytes; None where it was not there."""
    after: int | None
    same: bool
    note: str
    hunks: list[Hunk]
    """Of a text, and of where a link points."""
    cells: list[CellChange]
    """Of a notebook."""
    unchanged: int
    """Cells that are the same."""
    metadata: list[str]
    """What differs in a notebook beside its cells."""


class Entry(TypedDict):
    """One file or directory of a listing."""

    name: str
    """Bytes that are not UTF-8 are `\\xNN`, as in every path that crosses the API."""
    kind: Literal["file", "directory", "link", "other"]
    size: int
    modified: float
    target: NotRequired[str]
    """Where a link points; it is never followed."""


class DiskPlace(TypedDict):
    """A file system that the appliance fills. `low`: new work waits until there is room."""

    name: str
    where: str
    total: int
    free: int
    low: bool


class SpaceOwner(TypedDict):
    kind: str
    """`notebook`, `dataset`, `run`, `shared` or `system`; `?` for volumes that belong to nothing known."""
    name: str
    live: int
    """What its present files refer to, shared with others or not."""
    history: int
    """On the disk for its past."""
    unique: int
    """Comes back if it goes with all its past; at the least, where others were made from it."""
    disk: int
    """Counted to it and to no one else; all owners add up to what the volumes take."""


class SpaceHolder(TypedDict):
    """A snapshot, or several together, and what comes back if they go."""

    kind: str
    name: str
    snapshots: list[str]
    bytes: int
    exact: bool
    """False: at least so much."""
    created: float
    cause: str
    message: str
    held: bool


class SpaceGrowth(TypedDict):
    per_day: float | None
    """None: too little is known to tell, and `why` says what."""
    days: float
    why: str
    low_in_days: float | None
    """New work waits from then on; None: not at this pace, or nobody knows."""
    full_in_days: float | None


class SpaceProgress(TypedDict):
    done: int
    total: int


class Space(TypedDict):
    places: list[DiskPlace]
    reserved: int
    """Set aside for the appliance's own state; `free` does not count it."""
    reserve: int
    """So much it would be if it all fitted."""
    low_mark: int
    """With less than this free where the volumes lie, new work waits."""
    waiting: str
    """Why new work waits; empty: it does not."""
    growth: SpaceGrowth
    owners: list[SpaceOwner]
    holders: list[SpaceHolder]
    problems: list[str]
    """What is not counted, and why."""
    measured: float | None
    """When owners and holders were counted; None: they are being counted for the first time."""
    took_s: float
    measuring: SpaceProgress | None
    """Volumes counted so far, where that goes on at present."""


class Entries(TypedDict):
    """A directory at one moment. `total` is how many entries it has; `items` are the first of them, by name."""

    items: list[Entry]
    total: int


class BackupProgress(TypedDict):
    step: str
    done: int
    total: int
    """Volumes; 0 while it is not known how many."""
    read: int
    written: int
    """In bytes."""


class Backup(TypedDict):
    """One backup, or one check of a backup. `bytes` are new in the target."""

    id: str
    """Of its point, too, once it has succeeded."""
    target: str
    phase: str
    """`Running`, `Succeeded`, `Failed` or `Canceled`."""
    message: str
    bytes: int
    created: float
    finished: float | None
    progress: NotRequired[BackupProgress]
    """Only while it runs."""


class ForgetRequest(TypedDict):
    target: str
    confirm: NotRequired[str]
    """Repeats the target; needed unless it is a dry run."""
    dry_run: NotRequired[bool]


class Forgotten(TypedDict):
    """What a target that is forgotten takes out of the list, and what is let go of for it."""

    target: str
    backups: int
    moments: int
    """Snapshots of volumes that were kept only for the next backup to it."""


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


class RestoreRequest(TypedDict):
    snapshot: str
    path: str
    """Of a file, link or folder in the snapshot."""
    to: NotRequired[str]
    """Where it is put; empty: in its place. Nothing may be there already."""


class ForkRequest(TypedDict):
    name: str
    """Of the new notebook."""
    snapshot: NotRequired[str]
    """What it begins from; empty: the files as they are."""
    start: NotRequired[bool]


class PruneRequest(TypedDict):
    dry_run: NotRequired[bool]


class HoldRequest(TypedDict):
    reason: NotRequired[str]


class VersionRequest(TypedDict):
    """Open a version to send to. Asked for again by the same `source`, it is the same one."""

    message: NotRequired[str]
    source: NotRequired[str]
    """What is sent, as host and path."""
    base: NotRequired[str]
    """`NAME:VERSION` that it begins as."""
    mirror: NotRequired[bool]
    """What the base has and the source has not is left out."""
    restart: NotRequired[bool]
    """Drop what has been sent from this source so far."""


class CommitRequest(TypedDict):
    message: NotRequired[str]
    tags: NotRequired[list[str]]


class PackRequest(TypedDict):
    """Files of a version's manifest, each with the offset from which on it is wanted."""

    files: list[tuple[str, int]]


class BranchRequest(TypedDict):
    name: str
    """Of the new dataset."""
    version: NotRequired[str]
    """Id or tag; empty: the newest."""
    message: NotRequired[str]


class TagRequest(TypedDict):
    version: str


class ModelRequest(TypedDict):
    name: str
    type: NotRequired[str]
    ref: str
    """The dataset version that it is."""


class BackupRequest(TypedDict):
    target: str
    """An absolute path on the daemon's machine, or `zfs:POOL/DATASET`."""
    verify: NotRequired[bool]
    """Check what is there instead."""
    keep: NotRequired[int]
    """Points that stay; 0 or nothing: all."""


class SecretRequest(TypedDict):
    value: str


class SqlRequest(TypedDict):
    query: str


class SqlAnswer(TypedDict):
    columns: list[str]
    rows: list[list[Any]]


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


class HookAnswer(TypedDict):
    """What came of a signed message."""

    message: str
    run: str
    """`WORKFLOW.NUMBER` that it started; empty: none."""


class Page(TypedDict):
    items: list[Any]
