"""Backups and their targets."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


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


class BackupRequest(TypedDict):
    target: str
    """An absolute path on the daemon's machine, or `zfs:POOL/DATASET`."""
    verify: NotRequired[bool]
    """Check what is there instead."""
    keep: NotRequired[int]
    """Points that stay; 0 or nothing: all."""


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
