"""Runs and jobs that are canceled, or whose time is over."""

from __future__ import annotations

import pytest

from appliance.errors import Conflict
from appliance.workflows.steps import hosted
from appliance.workflows.submit import cancel_run
from tests.conftest import Clock
from tests.unit.workflows.bodies import forever
from tests.unit.workflows.fakes import Bench, Killed, flow, script

pytestmark = pytest.mark.anyio


async def test_cancel_stops_what_runs_and_leaves_nothing(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}, "v": {"type": "volume"}}
    run = bench.submit(
        flow(quick=script(), slow=script("quick", outputs=outputs), never=script("slow")), body={"slow": forever}
    )
    await bench.settle()
    assert bench.phases(run) == {"quick": "Succeeded", "slow": "Running", "never": "Pending"}
    cancel_run(bench.db, run.id, now=bench.clock())
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"quick": "Succeeded", "slow": "Canceled", "never": "Canceled"}
    assert bench.run(run).phase == "Canceled"
    assert bench.engine.starts == ["quick", "slow"]
    assert bench.leftovers() == []
    assert bench.datasets.versions("digits") == []


async def test_a_cancel_after_the_commit_comes_too_late_for_that_job(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"d": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(flow(make=script(outputs=outputs), after=script("make")))

    def kill_after_commit(call: str) -> None:
        if call == "commit done" and any(version.committed for version in bench.datasets.versions("digits")):
            bench.watch(lambda call: None)
            bench.queue.clear()
            raise Killed

    bench.watch(kill_after_commit)
    while not bench.kills:
        await bench.settle_some(1)
    cancel_run(bench.db, run.id, now=bench.clock())
    await bench.settle()
    assert bench.phases(run) == {"make": "Succeeded", "after": "Canceled"}
    assert bench.run(run).phase == "Canceled"
    assert len(bench.datasets.versions("digits")) == 1


async def test_a_run_that_has_ended_cannot_be_canceled(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    await bench.settle()
    with pytest.raises(Conflict, match="has ended already: Succeeded"):
        cancel_run(bench.db, run.id, now=bench.clock())


async def test_a_timeout_stops_the_job_and_says_so(bench: Bench) -> None:
    run = bench.submit(flow(slow=script(timeout=60), after=script("slow")), body={"slow": forever})
    await bench.settle()
    bench.wait(59)
    await bench.settle()
    assert bench.phases(run)["slow"] == "Running"
    assert bench.again == pytest.approx(1.0)
    bench.wait(1)
    await bench.settle()
    assert bench.phases(run) == {"slow": "Failed", "after": "Omitted"}
    assert "timeout of 60 s" in bench.jobs(run)["slow"].message


async def test_a_runs_timeout_ends_everything(bench: Bench) -> None:
    run = bench.submit({**flow(slow=script(), after=script("slow")), "timeout": 100}, body={"slow": forever})
    await bench.settle()
    bench.wait(100)
    await bench.settle()
    assert bench.phases(run) == {"slow": "Failed", "after": "Omitted"}
    assert "run's timeout of 100 s" in bench.run(run).message


async def test_an_end_before_the_timeout_counts_even_if_it_is_seen_later(bench: Bench, clock: Clock) -> None:
    run = bench.submit(flow(job=script(timeout=60)), body={"job": forever})
    await bench.settle()
    clock.now += 30
    bench.engine.exit("job", 0)
    clock.now += 500
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


@pytest.fixture
def slow_hosted(monkeypatch: pytest.MonkeyPatch) -> None:
    """create-model@v1 that never gets done."""

    async def act(*given: object) -> str:
        return "waits for something"

    monkeypatch.setattr(hosted, "act", act)


HOSTED_JOB = {
    "uses": "create-model@v1",
    "with": {"name": "digits", "type": "Custom"},
    "needs": ["train"],
    "inputs": {"model": "train.outputs.model"},
}


TRAIN = script(outputs={"model": {"type": "dataset", "with": {"ref": "weights"}}})


@pytest.mark.usefixtures("slow_hosted")
async def test_what_the_daemon_does_itself_times_out_too(bench: Bench) -> None:
    bench.datasets.create("weights")
    run = bench.submit(flow(train=TRAIN, register={**HOSTED_JOB, "timeout": 60}))
    await bench.settle()
    assert (bench.phases(run)["register"], bench.jobs(run)["register"].message) == ("Running", "waits for something")
    for _ in range(59):
        bench.wait(1)
        await bench.settle()
    assert bench.phases(run)["register"] == "Running"
    bench.wait(1)
    await bench.settle()
    assert bench.phases(run)["register"] == "Failed"
    assert "its timeout of 60 s" in bench.jobs(run)["register"].message


@pytest.mark.usefixtures("slow_hosted")
async def test_what_the_daemon_does_itself_can_be_canceled(bench: Bench) -> None:
    bench.datasets.create("weights")
    run = bench.submit(flow(train=TRAIN, register=HOSTED_JOB))
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"train": "Succeeded", "register": "Canceled"}
    assert bench.run(run).phase == "Canceled"
