"""What the scheduler knows at one moment, for whoever shows it: `Scheduler.snapshot()`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appliance.gpu.types import Fault, Inventory
from appliance.scheduler.attribution import Share
from appliance.scheduler.types import Card, Held, Request, Wait
from appliance.spec.machines import Shape


@dataclass(frozen=True, slots=True)
class Lease:
    held: Held
    container: str = ""
    """Its id; empty: it is not made yet."""
    message: str = ""
    """Why it is still there, where its owner has let go."""


@dataclass(frozen=True, slots=True)
class Waiting:
    request: Request
    wait: Wait


@dataclass(frozen=True, slots=True)
class Queue:
    at: float
    """Unix seconds."""
    inventory: Inventory
    cards: tuple[Card, ...] = ()
    leases: tuple[Lease, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    """In the order in which they are served; those that are not ready, or can never be given, are among them."""
    faults: tuple[Fault, ...] = ()
    """The newest of each card, oldest first."""
    shares: tuple[Share, ...] = ()
    """What the last two samples came to."""
    sampled_s: float = 0.0
    """So far those were apart."""


class Gpus(Protocol):
    """What the API asks of the scheduler."""

    def snapshot(self) -> Queue: ...

    def drain(self, uuid: str, why: str) -> None:
        """Nothing new is put on the card or instance; what runs there goes on. Raises NotFound."""

    def resume(self, uuid: str) -> None:
        """It is given again. Raises NotFound, and Conflict where it still does not answer."""

    def instead(self, machine: str, gpus: int = 0) -> str:
        """What this machine gives in place of that, or why it never can; empty: just that."""

    def free_cards(self, shape: Shape) -> int | None:
        """So many containers of this shape could begin now, 256 at most; None: this machine has no GPU."""
