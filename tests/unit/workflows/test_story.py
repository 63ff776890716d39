"""What a run tells of itself: its events, and what it is refused or warned of at the start."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.errors import SpecError, UsageError
from appliance.state import events, resources, runs
from appliance.workflows.submit import start_run
from tests.unit.workflows.bodies import events_of, forever
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio


async def test_what_is_ignored_is_said(bench: Bench) -> None:
    resources_ = {"instance-type": "A4000", "container-registries": ["mine"]}
    bench.submit({"defaults": {"resources": resources_}, **flow(job=script())})
    told = [event.message for event in events.newest(bench.db.read, kind="run") if event.reason == "Ignored"]
    assert [message.partition(":")[0] for message in told] == ["container-registries"]
    assert "no mine here, `appliance registry add mine`" in told[0]


async def test_events_tell_the_story(bench: Bench) -> None:
    bench.submit(flow(good=script(), bad=script("good"), after=script("bad")), body={"bad": lambda inside: 1})
    await bench.settle()
    told = [(event.reason, event.message) for event in events.newest(bench.db.read, kind="run", name="flow.1")]
    assert told == [
        ("Submitted", "3 jobs"),
        ("Started", "the first job starts"),
        ("JobStarted", "good runs"),
        ("JobSucceeded", "good"),
        ("JobStarted", "bad runs"),
        ("JobFailed", "bad: exit code 1"),
        ("JobOmitted", "after: bad failed"),
        ("Failed", "bad: exit code 1"),
    ]


def test_numbers_count_within_a_workflow_and_the_document_is_kept(bench: Bench) -> None:
    document = flow(job=script())
    with bench.db.write() as db:
        workflow, _ = resources.put(db, "workflow", "flow", document, source="cli", now=1.0)
    found = [start_run(bench.db, workflow, "flow", document, {}, now=1.0) for _ in range(2)]
    assert [run.number for run in found] == [1, 2]
    assert found[0].spec == document
    assert found[0].workflow_uid == workflow.uid


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        (
            flow(
                get={
                    "uses": "git-checkout@v1",
                    "with": {"url": "context.event.github.url"},
                    "outputs": {"d": {"type": "volume"}},
                }
            ),
            UsageError,
            "no GitHub event",
        ),
        ({"inputs": {"d": {"type": "dataset"}}, **flow(job=script())}, UsageError, "no value for input d"),
        (flow(job={"uses": "script@v2", "with": {}}), SpecError, "script@v2"),
    ],
)
def test_what_cannot_run_is_refused_at_once(
    bench: Bench, document: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        start_run(bench.db, None, "flow", document, {}, now=1.0)
    assert runs.newest(bench.db.read) == []


async def test_a_start_that_nobody_saw_is_told_all_the_same(bench: Bench) -> None:
    at_once = bench.submit(flow(job=script()))
    await bench.settle()
    seen = bench.submit(flow(slow=script()), body={"slow": forever}, name="seen")
    await bench.settle()
    bench.engine.exit("slow", 0)
    await bench.settle()
    assert [bench.run(run).phase for run in (at_once, seen)] == ["Succeeded", "Succeeded"]
    told = [(event.name, event.message) for event in events_of(bench, "JobStarted")]
    assert told == [("flow.1", "job runs"), ("seen.1", "slow runs")]


async def test_an_attempt_that_failed_before_anybody_looked_has_started_too(bench: Bench) -> None:
    bench.submit(flow(job=script(retry=1)), body={"job": lambda inside: 3})
    await bench.settle()
    bench.wait(3600)
    await bench.settle()
    assert len(bench.engine.starts) == 2
    assert len(events_of(bench, "JobStarted")) == 2


async def test_a_container_that_never_began_has_not_started(bench: Bench) -> None:
    bench.engine.start_error = "no such command"
    run = bench.submit(flow(job=script()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert events_of(bench, "JobStarted") == []
