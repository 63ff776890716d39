"""Names of volumes and snapshots: what a store accepts, before any of it reaches a path or a command line."""

from __future__ import annotations

import hashlib
import re

from appliance.errors import Conflict, UsageError

MOST_PARTS = 8
MOST_CHARACTERS = 200
"""Of a whole volume name. ZFS ends at 255 with pool and snapshot, file systems at 255 for one directory entry."""
MOST_IN_PART = 64
"""Of a part that `part` makes, and of a snapshot name."""

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_DIGESTED = re.compile(r"\.[0-9a-f]{16}$")


def check_volume(name: str) -> str:
    """The name itself. Raises UsageError."""
    parts = name.split("/")
    if len(name) > MOST_CHARACTERS or len(parts) > MOST_PARTS or not all(map(_PART.fullmatch, parts)):
        raise UsageError(
            f"{name!r} is not a volume name",
            hint=f"use at most {MOST_PARTS} parts of A-Z a-z 0-9 . _ - joined by /, none starting with a dot,"
            f" {MOST_CHARACTERS} characters in all",
        )
    return name


def inside_another(inner: str, outer: str) -> Conflict:
    """The error for a volume that would lie inside another one: destroying that would take it along."""
    return Conflict(f"volume {inner!r} cannot lie inside volume {outer!r}", hint="use another name")


def check_snapshot(name: str) -> str:
    """The name itself. Raises UsageError."""
    if len(name) > MOST_IN_PART or not _PART.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a snapshot name",
            hint=f"use at most {MOST_IN_PART} of A-Z a-z 0-9 . _ -, not starting with a dot",
        )
    return name


def part(text: str, most: int = MOST_IN_PART) -> str:
    """One part of a volume name for any text: the text itself where it fits, else a likeness and its digest.

    Different texts give different parts, also where someone picks them to clash: what looks like the answer
    for a long text is not taken as it is.
    """
    if len(text) <= most and _PART.fullmatch(text) and not _DIGESTED.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    likeness = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[: most - len(digest) - 1]
    return f"{likeness or '_'}.{digest}"
