"""The terms in which GPUs are asked for and given. Times are unix seconds, amounts of memory bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from appliance.spec.machines import Shape

Kind = Literal["notebook", "execution", "run", "deployment"]
LOCAL = "local"
"""Owner of what names none."""


@dataclass(frozen=True, slots=True)
class Who:
    """For whom: one container, or what follows it in its place."""

    kind: Kind
    name: str
    uid: str
    part: str = ""
    """A job of a run, a replica's place in a deployment; empty: there is one container only."""
    owner: str = LOCAL
    """Of the ledger and the fair order."""


@dataclass(frozen=True, slots=True)
class Request:
    id: str
    who: Who
    shape: Shape
    priority: int = 0
    asked: float = 0.0
    ready: bool = True
    """It could begin now. One that still fetches its image keeps its place and holds up nobody."""
    bound_s: float | None = None
    """It is ended after so long, whatever it does; None: it may go on for ever."""
    preemptible: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """What can be leased: a whole GPU, or an instance of one that was split."""

    id: str
    """NVML's UUID."""
    parent: str
    """UUID of the GPU it is part of; its own where it is whole."""
    kind: Literal["whole", "mig"] = "whole"
    profile: str = ""
    """Of an instance, as `1g.10gb`."""
    memory: int | None = None
    model: str = ""
    state: Literal["ok", "drained", "lost", "foreign"] = "ok"
    """drained: nothing new is put there; foreign: somebody outside the appliance computes on it."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease: these cards are its container's until nothing of it is on them any more."""

    request: Request
    cards: tuple[str, ...]
    since: float
    freeing: bool = False
    """Its owner has let go; a process may still be on the card."""
    let_go: float | None = None
    """When its owner did; None: just now, as far as anybody knows."""


@dataclass(frozen=True, slots=True)
class Policy:
    patience_s: float = 3600.0
    """After so long at the head of the queue, cards that come free are kept for it."""
    preempt_after_s: float = 60.0
    """After so long, opted-in work of a lower priority makes way."""
    share_margin: float = 0.05
    """Part of a shared card's memory that is promised to nobody."""
    point_s: float = 600.0
    """One point of priority goes before so many seconds of waiting; so everything has its turn in the end."""
    fair_s: float = 14_400.0
    """At most so long an owner who has had much goes behind those who have had less."""


@dataclass(frozen=True, slots=True)
class Grant:
    request: str
    cards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preempt:
    request: str
    """The one that holds and is to make way."""
    by: str
    words: str


@dataclass(frozen=True, slots=True)
class Wait:
    request: str
    place: int
    """1 is the next; 0: it stands in no queue, for this machine cannot give it, or not as its cards are now."""
    why: str
    behind: str = ""
    """Whom it waits for, in words."""
    forecast: float | None = None
    """When it may begin; None: nobody knows, for what runs there has no end."""


@dataclass(frozen=True, slots=True)
class Placement:
    grants: tuple[Grant, ...] = ()
    preempts: tuple[Preempt, ...] = ()
    waits: tuple[Wait, ...] = ()
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Request -> the cards that are kept for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the request of one stands."""

    state: Literal["none", "unneeded", "waits", "granted", "impossible"]
    """none: it was never asked for; unneeded: it runs without a GPU; impossible: this machine can never give it."""
    cards: tuple[str, ...] = ()
    lease: str = ""
    since: float = 0.0
    """When it was granted."""
    words: str = ""
    """Why it waits, behind whom, since when and until when probably; or what it was given in place of what it asked."""
