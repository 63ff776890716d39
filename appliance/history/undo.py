"""Which moment an undo goes back to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.history.causes import ROLLBACK
from appliance.state.snapshots import Snapshot


def undo_target(timeline: Iterable[Snapshot]) -> Snapshot | None:
    """The moment before the last rollback that is not undone yet; `timeline` is oldest first.

    Every rollback leaves the moment before it with cause `rollback`, and an undo marks the one it goes back to. So
    any moment may be pruned without changing what an undo of the others means.
    """
    still_open = [moment for moment in timeline if moment.cause == ROLLBACK and not moment.undone]
    return still_open[-1] if still_open else None
