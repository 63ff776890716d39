"""What the plan of a deployment is made from and what it says: the words that its parts have in common. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["Pending", "Preparing", "Starting", "Ready", "Updating", "Degraded", "Asleep", "Disabled", "Failed"]


@dataclass(frozen=True, slots=True)
class Revision:
    generation: int
    digest: str
    """Of everything a replica is made from."""
    replicas: int


@dataclass(frozen=True, slots=True)
class Replica:
    """A container of the deployment, as observed."""

    id: str
    generation: int
    """In which it was made; with `index` and `restarts` it makes the container's name."""
    index: int
    restarts: int
    digest: str
    state: Literal["created", "running", "ended"]
    streak: int = 0
    """Quick endings in a row in its place before it was made."""
    excused: int = 0
    """So many of `restarts` were no fault of the replica."""
    ready: bool = False
    sick: str = ""
    """Why it has to be restarted though it runs; empty: it has not."""
    said: str = ""
    """What its last probe said; empty where that went well."""
    started: float = 0.0
    ended: float = 0.0
    ending: str = ""
    """Why it ended, in words."""
    interrupted: bool = False
    """It ended with the appliance, the engine or the machine, and is made again at once."""

    @property
    def part(self) -> str:
        return f"{self.generation}-{self.index}"

    @property
    def failures(self) -> int:
        """How many times it was made again because it had ended by itself or was ill."""
        return max(0, self.restarts - self.excused)

    @property
    def resumed(self) -> bool:
        """It takes the place of one that was interrupted, and has not ended by itself since."""
        return self.excused > 0 and not self.streak

    @property
    def able(self) -> bool:
        """It may take traffic."""
        return self.state == "running" and self.ready and not self.sick


@dataclass(frozen=True, slots=True)
class Place:
    """A replica that has to be made."""

    revision: Revision
    index: int
    restarts: int = 0
    streak: int = 0
    excused: int = 0


def part(digest: str, index: int) -> str:
    """Of a deployment's leases: the place that a replica has, whoever it is."""
    return f"{digest}-{index}"


@dataclass(frozen=True, slots=True)
class Facts:
    wanted: Revision
    """What is declared; no replicas where it is disabled, stopped or being deleted."""
    stable: Revision | None = None
    """The last revision that became ready as a whole; None: none yet."""
    replicas: tuple[Replica, ...] = ()
    """Without those that are leaving already."""
    leaving: tuple[Replica, ...] = ()
    prepared: Literal["unknown", "busy", "ready", "failed"] = "unknown"
    """Whether the wanted revision's image and models are here."""
    prepare_message: str = ""
    prepare_retry_at: float = 0.0
    since: float = 0.0
    """When the wanted generation could first start replicas, unix seconds."""
    deadline_s: float = 300.0
    hurry_s: float = 0.0
    """The hold that the deadline is a part of; 0: it is not."""
    blocked: str = ""
    """Why nothing may begin at present; what was whole already is kept whole. Empty: all may."""
    waits: str = ""
    """Why replicas that are to be made are not: their GPUs are in use."""
    asleep: str = ""
    """Why nothing runs until a request comes; empty: it is awake."""
    scaled: float = 0.0
    """When the load last asked for another number, unix seconds; 0: it does not say how many there are."""
    swap: bool = False
    """The wanted revision and others have no room side by side."""
    back: bool = False
    """An earlier revision is there to go back to, should the wanted one fail."""
    asked: float = 0.0
    """When the wanted generation was declared, unix seconds."""
    looking: float = 0.0
    """Since when somebody looks, unix seconds."""
    undone: str = ""
    """What is to be said of the declared generation, where it has failed and the wanted one is an earlier one."""

    @property
    def in_queue(self) -> bool:
        """The wanted revision waits for GPUs and has none: its time does not run. Of one that has some it does, for it
        keeps them from others."""
        return bool(self.waits) and not any(one.digest == self.wanted.digest for one in self.replicas)


@dataclass(frozen=True, slots=True)
class Plan:
    phase: Phase
    message: str
    serve: tuple[Replica, ...] = ()
    """These and no others take traffic, from now on."""
    make: tuple[Place, ...] = ()
    next: tuple[Place, ...] = ()
    """To be made as soon as those that leave are gone."""
    start: tuple[Replica, ...] = ()
    """Made, but never started."""
    halt: tuple[Replica, ...] = ()
    """To be stopped; what is left of them is the record of why."""
    retire: tuple[Replica, ...] = ()
    """To leave: requests under way are waited for, then it is stopped and removed."""
    prepare: bool = False
    complete: bool = False
    """The wanted revision is ready as a whole: it is the stable one from now on."""
    undo_at: float | None = None
    """When it is given up unless it is ready by then, unix time; None: it is not."""
    undo: str = ""
    """Why the wanted revision is given up: the one before it is wanted again. Nothing else is to be done then."""
    swapping: bool = False
    """Whoever serves at present is about to leave before its successor begins; requests wait."""
    wake: float | None = None
    """Look again at this unix time at the latest; None: when something changes."""
