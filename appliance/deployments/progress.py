"""What a pass makes of the revisions' rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.deployments.facts import Plan, Revision
from appliance.state.rollouts import OPEN, Phase, Rollout


@dataclass(frozen=True, slots=True)
class Move:
    """A row that is in another phase from now on."""

    generation: int
    phase: Phase
    message: str = ""
    rest: bool = False
    """Its time begins anew when it runs again."""


def target(rows: Sequence[Rollout]) -> Rollout | None:
    """Of all rows, newest first: the one that has to serve. Where the newest was undone, the one before it."""
    newest = next(iter(rows), None)
    if newest is None or newest.phase != "Undone":
        return newest
    return next((row for row in rows if row.phase == "Serving" or row.phase in OPEN), newest)


def way_back(rows: Sequence[Rollout], wanted: int) -> Rollout | None:
    """Of all rows, newest first: what served when it was stopped, where another was declared before it was started."""
    if any(row.phase == "Serving" for row in rows):
        return None
    rested = (row for row in rows if row.phase == "Waiting" and row.ready is not None and row.pin is not None)
    return next((row for row in rested if row.generation < wanted), None)


def moves(
    rows: Sequence[Rollout], wanted: Revision, plan: Plan, *, switched_off: bool, asleep: bool = False
) -> Iterator[Move]:
    """`switched_off`: nothing runs because somebody stopped it, not because its spec says so. `asleep`: no more does
    it, and it is as ready as it was."""
    for row in rows:
        if plan.undo:
            if row.generation == wanted.generation:
                yield Move(row.generation, "Undone", plan.undo)
            continue
        if row.generation != wanted.generation:
            if row.phase == "Serving" and switched_off:  # when it is switched on, this one is there to go back to
                if row.began is not None:
                    yield Move(row.generation, "Serving", rest=True)
                continue
            over = plan.complete and not switched_off
            if row.phase == "Serving" or row == way_back(rows, wanted.generation):
                if over:
                    yield Move(row.generation, "Superseded", f"by generation {wanted.generation}")
            elif row.phase in OPEN:
                yield Move(row.generation, "Superseded", f"by generation {wanted.generation}")
            continue
        phase = _phase(row, wanted, plan, switched_off=switched_off)
        rest = not wanted.replicas and not asleep and row.began is not None
        if phase != row.phase or rest:
            yield Move(row.generation, phase, "" if phase == "Serving" else plan.message, rest)


def _phase(row: Rollout, wanted: Revision, plan: Plan, *, switched_off: bool) -> Phase:
    if plan.complete:
        return "Waiting" if switched_off else "Serving"
    if row.phase in ("Serving", "Swapping") or not wanted.replicas:
        return row.phase  # who swaps does so to its end: both would run side by side where there is room for one
    if plan.phase == "Failed":
        return "Failed"
    if row.began is None:
        return "Preparing"
    return "Rolling"
