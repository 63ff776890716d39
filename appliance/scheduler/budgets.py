"""The watchdog of shared cards: nothing but this keeps a container within the memory that it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.scheduler import words

KILL_PART = 1.1
"""Part of its budget from which a container is ended."""
GRACE_S = 30.0
"""It may be over that for so long: a library often takes much for a moment."""


@dataclass(frozen=True, slots=True)
class Budget:
    state: Literal["ok", "unknown", "warned", "kill"] = "ok"
    over: float | None = None
    """Since when it holds more than KILL_PART of its budget."""
    words: str = ""


def judge(share: int, used: int | None, before: Budget, *, now: float) -> Budget:
    """What to do with a container that asked for `share` bytes of a shared card and holds `used` (None: not told)."""
    if used is None:
        # what it did before says nothing about now: nobody is ended for what cannot be seen
        return Budget("unknown", None, "the driver does not tell how much memory of the GPU it holds")
    if used <= share:
        return Budget()
    told = f"it holds {words.size(used)} of a shared GPU and asked for {words.size(share)}"
    if used <= share * KILL_PART:
        return Budget("warned", None, f"{told}; others may fail for want of it")
    since = now if before.over is None else before.over
    if now - since >= GRACE_S:
        return Budget("kill", since, f"{told}, for {now - since:.0f} s; ask for a larger share, or a GPU of its own")
    return Budget("warned", since, f"{told}; it is ended if it goes on for {GRACE_S:.0f} s")
