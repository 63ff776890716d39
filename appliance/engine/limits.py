"""Resource limits of a container (`ulimit`): what a caller wants, as far as this machine lets the engine give it."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = -1
_SYS_RESOURCE = 24
"""The capability that raises a hard limit; see capabilities(7)."""
_NUMBERS = {"memlock": resource.RLIMIT_MEMLOCK, "stack": resource.RLIMIT_STACK, "nofile": resource.RLIMIT_NOFILE}
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    """memlock, stack or nofile."""
    soft: int
    hard: int
    """Bytes or files; -1: none."""


def allowed(wanted: Sequence[Limit]) -> list[Limit]:
    """Without those that would have to be raised where nobody here may: a container that asks for one does not start.

    The engine of this machine is taken to be allowed what we are. One inside a container often is not root enough.
    """
    if _may_raise():
        return list(wanted)
    return [limit for limit in wanted if _within(limit.hard, resource.getrlimit(_NUMBERS[limit.name])[1])]


def _within(wanted: int, hard: int) -> bool:
    return hard == resource.RLIM_INFINITY or (wanted != UNLIMITED and wanted <= hard)


def _may_raise() -> bool:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    effective = next((line for line in lines if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(effective.split()[1], 16) >> _SYS_RESOURCE & 1)
