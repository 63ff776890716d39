"""`concurrency`: what a new run does while an older one of the same workflow goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import Conflict
from appliance.spec.models import Workflow
from appliance.state import events, runs
from appliance.state.db import Database
from appliance.state.runs import Run
from appliance.workflows import concurrency, submit

Policy = Literal["", "queue", "skip", "cancel"]


def document(policy: str) -> dict[str, object]:
    jobs = {"a": {"uses": "script@v1", "with": {"image": "i", "script": "true"}}}
    return {"jobs": jobs, **({"concurrency": policy} if policy else {})}


def start(db: Database, policy: str, name: str = "wf") -> Run:
    return submit.start_run(db, None, name, document(policy), {}, now=1.0)


def held(db: Database, run: Run, policy: Policy) -> str:
    return concurrency.held_by(run, Workflow(name=run.workflow, concurrency=policy), runs.unfinished(db.read))


def end(db: Database, run: Run) -> None:
    runs.set_phase(db.read, run.id, "Succeeded", finished=2.0)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "state.db")
    yield made
    made.close()


def test_without_a_policy_runs_go_on_side_by_side(db: Database) -> None:
    start(db, "")
    assert held(db, start(db, ""), "") == ""


def test_a_queue_is_worked_on_oldest_first(db: Database) -> None:
    first, second, third = (start(db, "queue") for _ in range(3))
    assert held(db, first, "queue") == ""
    assert held(db, second, "queue") == "waits for wf.1: one run at a time (concurrency: queue)"
    assert "wf.1 and 1 more" in held(db, third, "queue")
    end(db, second)
    assert "wf.1:" in held(db, third, "queue")
    end(db, first)
    assert held(db, third, "queue") == ""


def test_other_workflows_and_newer_runs_hold_nobody(db: Database) -> None:
    start(db, "queue", "other")
    run = start(db, "queue")
    start(db, "queue")
    assert held(db, run, "queue") == ""


def test_what_has_begun_or_is_to_end_waits_for_nothing(db: Database) -> None:
    start(db, "queue")
    begun, ending = start(db, "queue"), start(db, "queue")
    runs.set_phase(db.read, begun.id, "Running", started=1.0)
    runs.request_cancel(db.read, ending.id)
    assert held(db, runs.get(db.read, begun.id), "queue") == ""
    assert held(db, runs.get(db.read, ending.id), "queue") == ""


def test_skip_makes_no_second_run_and_says_which_goes_on(db: Database) -> None:
    first = start(db, "skip")
    with pytest.raises(Conflict) as refused:
        start(db, "skip")
    assert "wf.1 goes on" in refused.value.message
    assert "appliance workflow cancel wf.1" in refused.value.hint
    assert len(runs.newest(db.read)) == 1
    start(db, "skip", "other")
    end(db, first)
    assert held(db, start(db, "skip"), "skip") == ""


def test_cancel_asks_the_older_ones_to_end_and_waits_until_they_have(db: Database) -> None:
    first, second = start(db, "cancel"), start(db, "cancel")
    third = start(db, "cancel")
    assert [runs.get(db.read, run.id).cancel for run in (first, second, third)] == [True, True, False]
    told = [event for event in events.newest(db.read, kind="run") if event.reason == "CancelRequested"]
    assert [event.name for event in told] == ["wf.1", "wf.2"]
    assert "asked to cancel" in held(db, third, "cancel")
    end(db, first)
    end(db, second)
    assert held(db, third, "cancel") == ""


def test_a_queue_is_bounded_and_says_so(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "MOST_WAITING", 2)
    first = start(db, "queue")
    runs.set_phase(db.read, first.id, "Running", started=1.0)
    second, _ = start(db, "queue"), start(db, "queue")
    with pytest.raises(Conflict) as refused:
        start(db, "queue")
    assert "2 runs of workflow 'wf' wait already" in refused.value.message
    assert "appliance workflow runs wf" in refused.value.hint
    assert len(runs.newest(db.read)) == 3
    start(db, "queue", "other")
    runs.request_cancel(db.read, second.id)
    start(db, "queue")
    with pytest.raises(Conflict):
        start(db, "queue")


def test_what_comes_before_a_run_is_asked_for_without_its_spec(db: Database) -> None:
    first, second, third = (start(db, "queue") for _ in range(3))
    start(db, "queue", "other")
    runs.request_cancel(db.read, second.id)
    found = runs.ahead(db.read, third.workflow_uid, third.number)
    assert [(one.id, one.number, one.cancel) for one in found] == [(first.id, 1, False), (second.id, 2, True)]
    queue = Workflow(name="wf", concurrency="queue")
    assert concurrency.held_by(third, queue, found) == held(db, third, "queue") != ""
    end(db, first)
    assert [one.number for one in runs.ahead(db.read, third.workflow_uid)] == [2, 3]


@pytest.mark.parametrize("policy", ["queue", "skip", "cancel"])
def test_a_workflow_of_a_repository_meets_no_other_of_its_name(db: Database, policy: Policy) -> None:
    """Names are made of those of repositories and files, so two workflows may well have the same."""

    def pushed(uid: str) -> Run:
        return submit.start_run(db, None, "wf", document(policy), {}, now=1.0, uid=uid)

    first, other = start(db, policy), pushed("repository:1:a.yaml")
    assert (first.number, other.number) == (1, 2), "logs go by the name"
    assert not runs.get(db.read, first.id).cancel
    assert held(db, other, policy) == ""
    assert held(db, pushed("repository:2:a.yaml"), policy) == ""
    if policy == "skip":
        with pytest.raises(Conflict):
            pushed("repository:1:a.yaml")
    else:
        assert "wf.2" in held(db, pushed("repository:1:a.yaml"), policy)
    assert runs.get(db.read, other.id).cancel == (policy == "cancel")


def test_a_run_that_cannot_be_made_cancels_nobody(db: Database) -> None:
    first = start(db, "cancel")
    with pytest.raises(Exception, match="no value for input"):
        submit.start_run(db, None, "wf", {**document("cancel"), "inputs": {"x": {"type": "string"}}}, {}, now=1.0)
    assert not runs.get(db.read, first.id).cancel


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(policy=st.sampled_from(["queue", "skip", "cancel"]), steps=st.lists(st.sampled_from("ssbbe"), max_size=25))
def test_never_two_at_once_and_never_stuck(
    tmp_path_factory: pytest.TempPathFactory, policy: Policy, steps: str
) -> None:
    """Starting, beginning what is not held, ending: at most one run has begun, and one may always go on."""
    db = Database(tmp_path_factory.mktemp("law") / "state.db")
    try:
        for step in steps:
            going = runs.unfinished(db.read)
            begun = [run for run in going if run.phase == "Running"]
            free = [run for run in going if run.phase == "Pending" and not held(db, run, policy)]
            if step == "s":
                if policy == "skip" and going:
                    with pytest.raises(Conflict):
                        start(db, policy)
                else:
                    start(db, policy)
            elif step == "b" and free:
                run = free[0]
                if run.cancel:
                    end(db, run)
                else:
                    runs.set_phase(db.read, run.id, "Running", started=1.0)
            elif step == "e" and begun:
                end(db, begun[0])
            going = runs.unfinished(db.read)
            begun = [run for run in going if run.phase == "Running"]
            assert len(begun) <= 1
            if going and not begun:
                assert [run for run in going if not held(db, run, policy)]
    finally:
        db.close()
