"""Which moment an undo goes back to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.history.undo import undo_target
from appliance.state.snapshots import Snapshot


def timeline(causes: list[str]) -> list[Snapshot]:
    return [Snapshot(str(number), "u", "v", cause, "", 0.0) for number, cause in enumerate(causes)]


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


@given(st.lists(st.sampled_from(["manual", "rollback", "undo"])))
def test_it_is_what_a_stack_says(causes: list[str]) -> None:
    stack: list[str] = []
    for number, cause in enumerate(causes):
        if cause == "rollback":
            stack.append(str(number))
        elif cause == "undo":
            stack = stack[:-1]
    assert target(*causes) == (stack[-1] if stack else None)
