"""Dataset versions: how they are sent and fetched, and where they come from."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


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
