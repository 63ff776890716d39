"""Deleted notebooks that can be brought back, and what a notebook's life is asked with."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from appliance.wire.resources import Item


class Deleted(TypedDict):
    """One entry of the trash. Times in unix seconds."""

    kind: Literal["notebook"]
    name: str
    uid: str
    """Tells apart those of one name."""
    deleted: float
    until: float
    """From then on it may be destroyed."""
    bytes: int | None
    """What its files and history take on the disk; None: not counted yet."""
    going: bool
    """It is being destroyed."""


class Deletion(TypedDict):
    """What becomes of a notebook that was deleted."""

    until: float | None
    """It can be brought back until then; None: it is destroyed."""


class UndeleteRequest(TypedDict):
    name: NotRequired[str]
    """By which it comes back; empty: its own."""


class RenameRequest(TypedDict):
    name: str


class SetRequest(TypedDict):
    """Each key as in a spec; an empty text takes the key out, so that its default holds again."""

    image: NotRequired[str]
    machine: NotRequired[str]
    gpus: NotRequired[int]
    user: NotRequired[str]
    idle: NotRequired[str]
    shutdown: NotRequired[str]
    quota: NotRequired[str]
    shm: NotRequired[str]
    owner: NotRequired[str]
    priority: NotRequired[int]
    preemptible: NotRequired[bool]
    env: NotRequired[dict[str, str]]
    """Variables to set; the others stay."""
    unset_env: NotRequired[list[str]]
    generation: NotRequired[int]
    """Refused where it is another one by now."""
    start: NotRequired[bool]
    """False: a session that runs is stopped and none follows."""


class Changed(TypedDict):
    notebook: Item
    session: bool
    """What a session is made of has changed, so one that runs is followed by another."""
