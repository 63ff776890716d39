"""What a run needs next: tables for the single rules, a property for whole runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.types import Container
from appliance.spec.models import Job as JobSpec
from appliance.spec.models import ScriptAction, Workflow
from appliance.state.runs import FINAL_PHASES, Job, Run
from appliance.workflows.plan import Cancel, Finish, Omit, Start, Step, Work, plan, step

NOW = 1000.0


def workflow(
    needs: dict[str, tuple[str, ...]], *, timeout_s: float | None = None, job_s: float | None = None
) -> Workflow:
    jobs = {
        name: JobSpec(action=ScriptAction(image="i", script="s"), needs=wanted, timeout_s=job_s)
        for name, wanted in needs.items()
    }
    return Workflow(name="flow", jobs=jobs, timeout_s=timeout_s)


def a_run(*, cancel: bool = False, started: float | None = None) -> Run:
    return Run("r" * 32, 1, "w", "flow", {}, {}, "Running", "", cancel, 0.0, started, None)


def a_job(name: str, phase: str = "Pending", *, started: float | None = None, message: str = "") -> Job:
    return Job("r" * 32, name, 0, phase, message, f"c-{name}", None, started, None, {}, {})


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
    assert plan(a_run(), spec, [job], {"a": running}, now=NOW, slots=1).deadline == NOW + 60


def test_an_omission_reaches_every_descendant_and_nobody_else() -> None:
    spec = workflow({"last": ("mid",), "mid": ("first",), "first": (), "other": (), "after": ("other",)})
    jobs = [a_job(name) for name in spec.jobs]
    jobs[2] = a_job("first", "Failed", message="exit code 1")
    found = plan(a_run(), spec, jobs, {}, now=NOW, slots=9).actions
    assert set(found) == {Omit("mid", "first failed"), Omit("last", "first failed"), Start("other")}


def test_slots_are_given_in_order_and_the_rest_waits() -> None:
    spec = workflow({"a": (), "b": (), "c": ()})
    found = plan(a_run(), spec, [a_job(name) for name in "abc"], {}, now=NOW, slots=2)
    assert (found.actions, found.waiting) == ((Start("a"), Start("b")), ("c",))


def test_a_job_that_is_worked_on_is_left_alone() -> None:
    jobs = [a_job("a", "Starting")]
    assert plan(a_run(), workflow({"a": ()}), jobs, {}, now=NOW, slots=1, busy={"a"}).actions == ()
    assert plan(a_run(), workflow({"a": ()}), jobs, {}, now=NOW, slots=1).actions == (Work("a"),)


def test_the_end_waits_for_containers_and_for_hands() -> None:
    spec, jobs = workflow({"a": ()}), [a_job("a", "Succeeded")]
    exited, removing = {"a": a_container("exited")}, {"a": a_container("removing")}
    assert plan(a_run(), spec, jobs, exited, now=NOW, slots=1).actions == (Work("a"),)
    later = plan(a_run(), spec, jobs, removing, now=NOW, slots=1)
    assert later.actions == ()
    assert later.deadline is not None
    assert plan(a_run(), spec, jobs, {}, now=NOW, slots=1, busy={"a"}).actions == ()
    assert plan(a_run(), spec, jobs, {}, now=NOW, slots=1).actions == (Finish("Succeeded", ""),)


def test_a_failed_run_names_its_first_failure() -> None:
    jobs = [
        a_job("a", "Succeeded"),
        a_job("b", "Failed", message="exit code 3"),
        a_job("c", "Omitted", message="b failed"),
    ]
    spec = workflow({"a": (), "b": (), "c": ("b",)})
    assert plan(a_run(), spec, jobs, {}, now=NOW, slots=1).actions == (Finish("Failed", "b: exit code 3"),)


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
    jobs = {name: a_job(name) for name in needs}
    started: list[str] = []
    canceled_when: set[str] | None = None
    for moment in range(100):
        if moment == cancel_after:
            run, canceled_when = replace(run, cancel=True), set(started)
        active = [name for name, job in jobs.items() if job.phase == "Running"]
        containers = {name: a_container("running") for name in active}
        found = plan(run, spec, list(jobs.values()), containers, now=NOW, slots=slots - len(active))
        finish = [action for action in found.actions if isinstance(action, Finish)]
        if finish:
            break
        for action in found.actions:
            match action:
                case Start(name):
                    assert all(jobs[need].phase == "Succeeded" for need in needs[name])
                    started.append(name)
                    jobs[name] = replace(jobs[name], phase="Running", started=NOW)
                case Omit(name, reason):
                    jobs[name] = replace(jobs[name], phase="Omitted", message=reason)
                case Cancel(name):
                    jobs[name] = replace(jobs[name], phase="Canceled")
                case Work(name):
                    assert run.cancel
                    jobs[name] = replace(jobs[name], phase="Canceled")
        running = [name for name, job in jobs.items() if job.phase == "Running"]
        assert len(running) <= slots
        if running and not run.cancel:
            ends = seed.choice(running)
            jobs[ends] = replace(jobs[ends], phase="Failed" if ends in failing else "Succeeded", message="x")
    else:
        raise AssertionError("no end")
    phases = {name: job.phase for name, job in jobs.items()}
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
