"""What the rooms that run containers ask of the scheduler, and the answer of a machine on which nobody leases GPUs."""

from __future__ import annotations

from typing import Protocol

from appliance.scheduler.types import Answer, Who

LEASE = "dev.appliance.lease"
"""Label of a container: id of the lease that its GPUs come from."""
NO_GPU = "it asks for a GPU, and this machine has none; `gpus: 0` runs it without one"


class Leases(Protocol):
    """On the event loop's thread; each call that changes something is one transaction.

    The order of a container's life: `ask` until it is granted, make the container with `answer.cards` and the label
    LEASE, `held` once its id is known, `release` when it is gone or wanted no more. All may be repeated.
    """

    def ask(
        self,
        who: Who,
        *,
        machine: str,
        gpus: int = 0,
        ready: bool,
        priority: int | None = None,
        bound_s: float | None = None,
        preemptible: bool | None = None,
    ) -> Answer:
        """Ask for what a spec names, or ask again: the place in the queue stays while the shape is the same.

        `gpus`: an explicit number, which wins over the machine type's. `ready`: it could begin at once; until then it
        keeps its place and holds nothing. `bound_s`: it is ended after so long by force. `priority`, `preemptible`:
        None takes the machine type's. Who waits is hinted when the answer changes.
        """

    def peek(self, who: Who) -> Answer: ...

    def held(self, who: Who, container: str) -> None:
        """The container with this id was made with the lease's cards."""

    def release(self, who: Who, *, successor: Who | None = None) -> None:
        """It needs them no more, or waits no more. They go to nobody before nothing of its container is on them.

        `successor` gets the same cards in the same transaction, so that no stranger comes in between.
        """

    def free(self, machine: str, gpus: int = 0) -> int | None:
        """So many more containers of this type could have their GPUs now; None: it needs none, or nobody gets one."""

    def gpu_busy(self, uid: str) -> bool | None:
        """Whether the GPUs of a notebook, run or deployment work; None: it cannot be seen. False without a lease."""


class NoGpus:
    """A machine type that names a GPU runs without one, as Gradient's specs on a machine that has none."""

    def ask(
        self,
        who: Who,
        *,
        machine: str,
        gpus: int = 0,
        ready: bool,
        priority: int | None = None,
        bound_s: float | None = None,
        preemptible: bool | None = None,
    ) -> Answer:
        return Answer("waits", words=NO_GPU) if gpus else Answer("unneeded")

    def peek(self, who: Who) -> Answer:
        return Answer("none")

    def held(self, who: Who, container: str) -> None:
        pass

    def release(self, who: Who, *, successor: Who | None = None) -> None:
        pass

    def free(self, machine: str, gpus: int = 0) -> int | None:
        return None

    def gpu_busy(self, uid: str) -> bool | None:
        return False
