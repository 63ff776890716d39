"""What a run needs next: tables for the single rules, a property for whole runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.types import Container
from appliance.spec.models import Job as JobSpec
from appliance.spec.models import Retry, ScriptAction, Workflow
from appliance.state.runs import FINAL_PHASES, Job, Mark, Run
from appliance.workflows.board import Board
from appliance.workflows.plan import (
    LONGEST_DELAY_S,
    Cancel,
    Fail,
    Finish,
    Omit,
    Start,
    Step,
    Work,
    next_look,
    plan,
    retry_at,
    step,
)

NOW = 1000.0


def workflow(
    needs: dict[str, tuple[str, ...]],
    *,
    timeout_s: float | None = None,
    job_s: float | None = None,
    retry: Retry | None = None,
) -> Workflow:
    action = ScriptAction(image="i", script="s")
    jobs = {
        name: JobSpec(action=action, needs=wanted, timeout_s=job_s, retry=retry or Retry())
        for name, wanted in needs.items()
    }
    return Workflow(name="flow", jobs=jobs, timeout_s=timeout_s)


def a_run(*, cancel: bool = False, started: float | None = None) -> Run:
    return Run("r" * 32, 1, "w", "flow", {}, {}, "Running", "", cancel, 0.0, started, None)


def a_job(name: str, phase: str = "Pending", *, started: float | None = None, message: str = "") -> Job:
    return Job("r" * 32, name, 0, phase, message, f"c-{name}", None, started, None, {}, {})


def a_board(spec: Workflow, **phases: str | Mark) -> Board:
    """All jobs are Pending but those given."""
    marks = {name: Mark(name, "Pending") for name in spec.jobs}
    for name, told in phases.items():
        marks[name] = told if isinstance(told, Mark) else Mark(name, told)
    return Board(spec, marks.values())


def a_container(state: str, *, finished: float | None = None) -> Container:
    return Container("id", "c", "i", "i", {}, state, finished=finished)


@pytest.mark.parametrize(
    ("phase", "started", "state", "expected"),
    [
        ("Pending", None, None, Step.WATCH),
        ("Starting", None, None, Step.PREPARE),
        ("Starting", None, "created", Step.START),
        ("Starting", 1.0, "created", Step.START),
        ("Starting", 1.0, "running", Step.ADOPT),
        ("Starting", 1.0, "exited", Step.COLLECT),
        ("Starting", 1.0, None, Step.LOST),
        ("Running", 1.0, "running", Step.WATCH),
        ("Running", 1.0, "exited", Step.COLLECT),
        ("Running", 1.0, "dead", Step.COLLECT),
        ("Running", 1.0, "removing", Step.WATCH),
        ("Running", 1.0, None, Step.LOST),
        ("Succeeded", 1.0, "exited", Step.CLEAN),
        ("Succeeded", 1.0, "removing", Step.WATCH),
        ("Failed", 1.0, None, Step.WATCH),
    ],
)
def test_a_job_is_found_again_wherever_it_was_left(
    phase: str, started: float | None, state: str | None, expected: Step
) -> None:
    container = a_container(state) if state else None
    assert step(a_run(), workflow({"a": ()}), a_job("a", phase, started=started), container, now=NOW) is expected


@pytest.mark.parametrize(
    ("phase", "started", "state", "expected"),
    [
        ("Starting", None, None, Step.DROP),
        ("Starting", None, "created", Step.DROP),
        ("Starting", 1.0, "running", Step.STOP),
        ("Running", 1.0, "running", Step.STOP),
        ("Running", 1.0, "exited", Step.COLLECT),
    ],
)
@pytest.mark.parametrize("cause", ["cancel", "run timeout"])
def test_what_must_end_never_starts(
    phase: str, started: float | None, state: str | None, expected: Step, cause: str
) -> None:
    run = a_run(cancel=cause == "cancel", started=0.0)
    spec = workflow({"a": ()}, timeout_s=None if cause == "cancel" else 10)
    container = a_container(state) if state else None
    assert step(run, spec, a_job("a", phase, started=started), container, now=NOW) is expected


def test_a_jobs_timeout_counts_from_its_start() -> None:
    spec, running = workflow({"a": ()}, job_s=60), a_container("running")
    job = a_job("a", "Running", started=NOW)
    assert step(a_run(), spec, job, running, now=NOW + 59.9) is Step.WATCH
    assert step(a_run(), spec, job, running, now=NOW + 60) is Step.STOP
    assert next_look(spec, job, now=NOW, within_s=15) == 15
    assert next_look(spec, job, now=NOW + 50, within_s=15) == 10
    assert next_look(spec, job, now=NOW + 70, within_s=15) == 0


def test_the_runs_timeout_is_when_it_is_looked_at_again() -> None:
    spec = workflow({"a": ()}, timeout_s=60)
    run = a_run(started=NOW)
    board = a_board(spec, a="Running")
    assert plan(run, spec, board, now=NOW + 1, slots=1).deadline == NOW + 60
    assert plan(run, spec, board, now=NOW + 60, slots=1).actions == (Work("a"),)


def test_an_omission_reaches_every_descendant_and_nobody_else() -> None:
    spec = workflow({"last": ("mid",), "mid": ("first",), "first": (), "other": (), "after": ("other",)})
    board = a_board(spec, first=Mark("first", "Failed", "exit code 1"))
    found = plan(a_run(), spec, board, now=NOW, slots=9).actions
    assert found == (Omit("mid", "first failed"), Omit("last", "first failed"), Start("other"))


def test_slots_are_given_in_order_and_the_rest_waits() -> None:
    spec = workflow({"c": (), "a": (), "b": ()})
    found = plan(a_run(), spec, a_board(spec), now=NOW, slots=2)
    assert (found.actions, found.waiting) == ((Start("c"), Start("a")), 1)
    assert plan(a_run(), spec, a_board(spec), now=NOW, slots=-1).actions == ()


def test_the_end_waits_for_hands() -> None:
    spec = workflow({"a": ()})
    board = a_board(spec, a="Succeeded")
    assert plan(a_run(), spec, board, now=NOW, slots=1, busy=True).actions == ()
    assert plan(a_run(), spec, board, now=NOW, slots=1).actions == (Finish("Succeeded", ""),)


def test_a_failed_run_names_its_first_failure() -> None:
    spec = workflow({"a": (), "b": (), "c": ("b",)})
    board = a_board(spec, a="Succeeded", b=Mark("b", "Failed", "exit code 3"), c=Mark("c", "Omitted", "b failed"))
    assert plan(a_run(), spec, board, now=NOW, slots=1).actions == (Finish("Failed", "b: exit code 3"),)


def test_the_next_step_stands_at_the_job_and_not_at_the_run() -> None:
    spec = workflow({"a": (), "b": ()})
    error = "no dataset 'd' (next: `appliance dataset create d` makes it)"
    board = a_board(spec, a=Mark("a", "Error", error), b=Mark("b", "Failed", "exit code 3"))
    assert plan(a_run(), spec, board, now=NOW, slots=1).actions == (Finish("Failed", "a: no dataset 'd', and 1 more"),)


def test_the_next_attempt_waits_for_its_time() -> None:
    spec = workflow({"a": (), "b": ()})
    board = a_board(spec, a=Mark("a", "Pending", attempt=2, not_before=NOW + 5), b="Succeeded")
    early = plan(a_run(), spec, board, now=NOW + 4.9, slots=1)
    assert (early.actions, early.waiting, early.deadline) == ((), 0, NOW + 5)
    assert plan(a_run(), spec, board, now=NOW + 5, slots=1).actions == (Start("a"),)
    late = plan(a_run(), spec, board, now=NOW + 5, slots=0)
    assert (late.actions, late.waiting, late.deadline) == ((), 1, None)


def test_a_wait_for_the_next_attempt_ends_with_the_run() -> None:
    spec = workflow({"a": (), "b": ("a",)}, timeout_s=60)
    board = a_board(spec, a=Mark("a", "Pending", "attempt 1 of 2: exit code 1", attempt=2, not_before=NOW + 500))
    assert plan(a_run(cancel=True), spec, board, now=NOW, slots=1).actions == (Cancel("a"), Cancel("b"))
    failed, omitted = plan(a_run(started=NOW), spec, board, now=NOW + 60, slots=1).actions
    assert isinstance(failed, Fail)
    assert "run's timeout of 60 s" in failed.reason
    assert isinstance(omitted, Omit)


@pytest.mark.parametrize(
    ("attempt", "delay_s"),
    [(1, 10.0), (2, 20.0), (3, 40.0), (9, 2560.0), (10, LONGEST_DELAY_S), (400, LONGEST_DELAY_S)],
)
def test_back_off_doubles_up_to_an_hour(attempt: int, delay_s: float) -> None:
    spec = workflow({"a": ()}, retry=Retry(limit=500, delay_s=10))
    job = replace(a_job("a", "Running"), attempt=attempt)
    assert retry_at(a_run(), spec, job, now=NOW) == NOW + delay_s


def test_when_nothing_is_tried_again() -> None:
    spec = workflow({"a": ()}, retry=Retry(limit=1, delay_s=10), timeout_s=60)
    job = a_job("a", "Running")
    assert retry_at(a_run(started=NOW), spec, job, now=NOW) == NOW + 10
    assert retry_at(a_run(started=NOW), spec, replace(job, attempt=2), now=NOW) is None, "the last attempt"
    assert retry_at(a_run(started=NOW, cancel=True), spec, job, now=NOW) is None, "canceled"
    assert retry_at(a_run(started=NOW), spec, job, now=NOW + 50) is None, "the run would be over by then"


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    count = draw(st.integers(1, 7))
    names = [f"j{index}" for index in range(count)]
    needs = {
        name: tuple(draw(st.sets(st.sampled_from(names[:index])))) if index else () for index, name in enumerate(names)
    }
    return dict(draw(st.permutations(list(needs.items()))))


@given(
    needs=graphs(),
    failing=st.sets(st.sampled_from([f"j{index}" for index in range(7)])),
    slots=st.integers(1, 3),
    cancel_after=st.none() | st.integers(0, 20),
    seed=st.randoms(use_true_random=False),
)
def test_every_run_comes_to_its_right_end(
    needs: dict[str, tuple[str, ...]], failing: set[str], slots: int, cancel_after: int | None, seed: object
) -> None:
    """A whole run, with ends of jobs and a cancel at any moment, against the few lines of what must be true."""
    import random

    assert isinstance(seed, random.Random)
    spec, run = workflow(needs), a_run()
    board = a_board(spec)
    started: list[str] = []
    canceled_when: set[str] | None = None
    for moment in range(100):
        if moment == cancel_after:
            run, canceled_when = replace(run, cancel=True), set(started)
        found = plan(run, spec, board, now=NOW, slots=slots - len(board.active))
        finish = [action for action in found.actions if isinstance(action, Finish)]
        if finish:
            break
        for action in found.actions:
            match action:
                case Start(name):
                    assert all(board[need].phase == "Succeeded" for need in needs[name])
                    started.append(name)
                    board.moved(Mark(name, "Running"))
                case Omit(name, reason):
                    board.moved(Mark(name, "Omitted", reason))
                case Cancel(name):
                    board.moved(Mark(name, "Canceled"))
                case Work(name):
                    assert run.cancel
                    board.moved(Mark(name, "Canceled"))
        assert len(board.active) <= slots
        if board.active and not run.cancel:
            ends = seed.choice(sorted(board.active))
            board.moved(Mark(ends, "Failed" if ends in failing else "Succeeded", "x"))
    else:
        raise AssertionError("no end")
    phases = {mark.name: mark.phase for mark in board}
    assert set(phases.values()) <= FINAL_PHASES
    assert len(started) == len(set(started))
    if canceled_when is not None:
        assert set(started) == canceled_when
    if canceled_when is None:
        for name in needs:
            reachable = all(phases[need] == "Succeeded" for need in needs[name])
            own = "Failed" if name in failing else "Succeeded"
            assert phases[name] == (own if reachable else "Omitted")
    bad = any(phase in ("Failed", "Omitted") for phase in phases.values())
    expected = "Canceled" if "Canceled" in phases.values() else "Failed" if bad else "Succeeded"
    assert finish[0].phase == expected


PHASES = st.sampled_from(["Pending", "Pending", "Starting", "Running", "Succeeded", "Skipped", "Failed", "Omitted"])


@given(
    needs=graphs(),
    changes=st.lists(st.tuples(st.sampled_from([f"j{n}" for n in range(7)]), PHASES, st.none() | st.floats(0, 9))),
)
def test_a_board_told_of_changes_is_one_made_anew(
    needs: dict[str, tuple[str, ...]], changes: list[tuple[str, str, float | None]]
) -> None:
    """Whatever order the changes come in: what a daemon that goes on knows is what one that has just started knows."""
    spec = workflow(needs)
    told = a_board(spec)
    for name, phase, not_before in changes:
        if name in needs:
            told.moved(Mark(name, phase, not_before=not_before if phase == "Pending" else None))
    anew = Board(spec, list(told))
    for now in (0.0, 4.5, 9.0):
        assert list(told.startable(now)) == list(anew.startable(now))
        assert told.count_startable(now) == len(list(told.startable(now)))
        assert told.next_wait(now) == anew.next_wait(now)
    assert (told.active, told.doomed, told.open) == (anew.active, anew.doomed, anew.open)


def test_each_waiting_job_is_told_once() -> None:
    spec = workflow({"a": (), "b": (), "c": ("a",)})
    board = a_board(spec)
    assert sorted(board.untold("no slot", NOW)) == ["a", "b"]
    board.tell("no slot", ["a", "b"])
    assert board.untold("no slot", NOW) == []
    assert sorted(board.untold("no room", NOW)) == ["a", "b"]
    board.tell("no room", ["a", "b"])
    board.moved(Mark("a", "Succeeded"))
    assert board.untold("no room", NOW) == ["c"]
