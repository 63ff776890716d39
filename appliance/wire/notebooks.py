"""A notebook's door, its workspace and its history."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class Access(TypedDict):
    """How a browser or a Jupyter client gets into a notebook. `url` carries the token."""

    url: str
    base_url: str
    token: str
    history_url: str
    """The page of its history; carries the token where no server sees it."""


class Entry(TypedDict):
    """One file or directory of a listing."""

    name: str
    """Bytes that are not UTF-8 are `\\xNN`, as in every path that crosses the API."""
    kind: Literal["file", "directory", "link", "other"]
    size: int
    modified: float
    target: NotRequired[str]
    """Where a link points; it is never followed."""


class Entries(TypedDict):
    """A directory at one moment. `total` is how many entries it has; `items` are the first of them, by name."""

    items: list[Entry]
    total: int


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
    warnings: NotRequired[list[str]]
    """Of the answer to a restore: what else is to be known of it."""


class FileState(TypedDict):
    kind: Literal["file", "directory", "link", "other"]
    size: int
    modified: float


class FileMoment(TypedDict):
    """One path at one moment."""

    snapshot: str
    """Its id."""
    state: FileState | None
    """None: it was not there."""
    changed: bool
    """It was another, or not there, at the moment before."""


class FileMoments(TypedDict):
    """The timeline of one path, newest first."""

    items: list[FileMoment]
    now: FileState | None
    now_changed: bool
    """It is another now than at the newest moment."""
    whole: bool
    """False: there are older moments that were not looked at."""


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
