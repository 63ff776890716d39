"""When the cards of a lease go to somebody else: not before nothing of its container is on them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

BLIND_S = 30.0
"""So long after its container's end a lease is kept where the driver does not tell which programs are on the card."""
STUCK_S = 600.0
"""After so long a program that does not go is not waited for any more: its card counts as one that is not there."""


@dataclass(frozen=True, slots=True)
class Freeing:
    free: bool
    words: str = ""
    """What is waited for, or what is not known where it is freed all the same."""


def free(
    *, container: Literal["running", "ended", "gone"], pids: Collection[int] | None, since: float, now: float
) -> Freeing:
    """Whether a lease that its owner let go at `since` is free.

    `pids`: programs of that container on the lease's cards; None: they cannot be seen.
    """
    if container == "running":
        return Freeing(False, "its container still runs")
    if pids:
        named = ", ".join(str(pid) for pid in sorted(pids))
        several = "s" if len(pids) > 1 else ""
        stuck = now - since >= STUCK_S
        step = "; it does not die by itself: `ps` tells in which state it is, and D ends with a reboot" if stuck else ""
        return Freeing(
            False,
            f"its container has ended, but process{'es' if several else ''} {named} "
            f"{'are' if several else 'is'} still on the GPU{step}",
        )
    if pids is None:
        if now - since < BLIND_S:
            return Freeing(False, "the driver does not tell whether its processes are gone")
        return Freeing(True, f"freed {BLIND_S:.0f} s after its container's end; its processes cannot be seen")
    return Freeing(True)
