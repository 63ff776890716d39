"""What a pass makes of the revisions' rows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.deployments.plan import Plan, Revision
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
            if row.phase in OPEN or (row.phase == "Serving" and plan.complete):
                yield Move(row.generation, "Superseded", f"by generation {wanted.generation}")
            continue
        phase = _phase(row, wanted, plan, switched_off=switched_off)
        rest = not wanted.replicas and not asleep and row.began is not None
        if phase != row.phase or rest:
            yield Move(row.generation, phase, "" if phase == "Serving" else plan.message, rest)


def _phase(row: Rollout, wanted: Revision, plan: Plan, *, switched_off: bool) -> Phase:
    if plan.complete:
        return "Waiting" if switched_off else "Serving"
    if row.phase == "Serving" or not wanted.replicas:
        return row.phase
    if plan.phase == "Failed":
        return "Failed"
    if row.began is None:
        return "Preparing"
    return "Swapping" if row.phase == "Swapping" else "Rolling"
