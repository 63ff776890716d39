"""Which moment an undo goes back to."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from appliance.history.undo import undo_target
from appliance.state.snapshots import Snapshot


def timeline(causes: list[str]) -> list[Snapshot]:
    """What is in the state after these, each undo having marked the moment it went back to."""
    found: list[Snapshot] = []
    for number, cause in enumerate(causes):
        if cause == "undo" and (goal := undo_target(found)):
            found = [replace(moment, undone=moment.undone or moment is goal) for moment in found]
        found.append(Snapshot(str(number), "u", "v", cause, "", 0.0))
    return found


def target(*causes: str) -> str | None:
    found = undo_target(timeline(list(causes)))
    return found.id if found else None


def test_undo_takes_back_the_last_rollback_that_is_not_undone() -> None:
    assert target() is None
    assert target("start", "manual", "stop") is None
    assert target("start", "rollback") == "1"
    assert target("start", "rollback", "manual") == "1"
    assert target("rollback", "rollback") == "1"
    assert target("rollback", "rollback", "undo") == "0"
    assert target("rollback", "rollback", "undo", "undo") is None
    assert target("rollback", "undo", "rollback") == "2"


CAUSES = st.lists(st.sampled_from(["manual", "rollback", "undo"]))


@given(CAUSES)
def test_it_is_what_a_stack_says(causes: list[str]) -> None:
    stack: list[str] = []
    for number, cause in enumerate(causes):
        if cause == "rollback":
            stack.append(str(number))
        elif cause == "undo":
            stack = stack[:-1]
    assert target(*causes) == (stack[-1] if stack else None)


@given(CAUSES, st.sets(st.integers(0, 20)))
def test_a_moment_that_is_gone_changes_nothing_of_the_others(causes: list[str], gone: set[int]) -> None:
    whole = timeline(causes)
    left = [moment for moment in whole if int(moment.id) not in gone]
    goal = undo_target(whole)
    if goal is None or int(goal.id) not in gone:
        assert undo_target(left) == goal
