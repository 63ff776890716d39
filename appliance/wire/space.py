"""What holds the disk space."""

from __future__ import annotations

from typing_extensions import TypedDict


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
