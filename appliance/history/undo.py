"""Which moment an undo goes back to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.state.snapshots import Snapshot

ROLLBACK = "rollback"
UNDO = "undo"


def undo_target(timeline: Iterable[Snapshot]) -> Snapshot | None:
    """The snapshot taken before the last rollback that is not undone yet; `timeline` is oldest first.

    Every rollback leaves the moment before it with cause `rollback`, every undo with cause `undo`. So they nest like
    brackets: an undo takes back the innermost rollback that is still open.
    """
    still_open: list[Snapshot] = []
    for snapshot in timeline:
        if snapshot.cause == ROLLBACK:
            still_open.append(snapshot)
        elif snapshot.cause == UNDO and still_open:
            still_open.pop()
    return still_open[-1] if still_open else None
