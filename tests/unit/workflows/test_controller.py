"""Whole runs on an engine in memory: from the first job to the last, through restarts and lost containers."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.state.db import Connection
from appliance.workflows.controller import RECHECK_S
from appliance.workflows.kept import keeping
from tests.unit.workflows.bodies import forever
from tests.unit.workflows.fakes import Bench, Killed, flow, script

pytestmark = pytest.mark.anyio


async def test_a_failed_job_omits_what_needs_it_and_commits_nothing(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {"data": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(
        flow(bad=script(outputs=outputs), after=script("bad"), deep=script("after"), other=script()),
        body={"bad": lambda inside: 3},
    )
    await bench.settle()
    assert bench.phases(run) == {"bad": "Failed", "after": "Omitted", "deep": "Omitted", "other": "Succeeded"}
    jobs = bench.jobs(run)
    assert (jobs["bad"].message, jobs["bad"].exit_code) == ("exit code 3", 3)
    assert jobs["deep"].message == "bad failed"
    assert (bench.run(run).phase, bench.run(run).message) == ("Failed", "bad: exit code 3")
    assert bench.datasets.versions("digits") == []
    assert bench.leftovers() == []


async def test_a_container_that_cannot_start_is_an_error_in_words(bench: Bench) -> None:
    bench.engine.start_error = "no such device"
    run = bench.submit(flow(job=script()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "no such device" in bench.jobs(run)["job"].message


async def test_a_container_that_vanished_is_never_run_again(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    (container,) = bench.engine.containers.values()
    await bench.engine.remove(container.id)
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "disappeared" in bench.jobs(run)["job"].message
    assert bench.engine.starts == ["job"]
    assert bench.leftovers() == []


async def test_a_start_that_nobody_saw_the_end_of_is_not_repeated(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})

    def kill_after_start(call: str) -> None:
        if call == "start done":
            bench.engine.containers.clear()
            raise Killed

    bench.engine.before = kill_after_start
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert bench.engine.starts == ["job"]


async def test_a_new_daemon_adopts_what_runs_and_reads_its_log_again(bench: Bench) -> None:
    run = bench.submit(flow(job=script(), after=script("job")), body={"job": forever})
    await bench.settle()
    bench.kill()
    await bench.settle()
    assert bench.telemetry.attached == ["job", "job"]
    bench.engine.exit("job", 0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Succeeded"}
    assert bench.engine.starts == ["job", "after"]


async def test_a_container_of_the_same_name_that_is_not_ours_is_left_alone(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    await bench.controller.reconcile(run.id)
    name = bench.jobs(run)["job"].container
    created = await bench.engine.create(
        _foreign(name),
    )
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert "not this job's" in bench.jobs(run)["job"].message
    assert created.id in bench.engine.containers
    assert bench.engine.starts == []


def _foreign(name: str) -> Any:
    from appliance.engine.labels import Owner
    from appliance.engine.types import ContainerSpec

    owner = Owner(instance="ffffffff", kind="run", name="x.1", uid="someone", part="job")
    return ContainerSpec(name=name, image="busybox", labels=owner.to_labels())


async def test_sweep_removes_what_no_run_knows(bench: Bench) -> None:
    run = bench.submit(flow(job=script(outputs={"v": {"type": "volume"}})), body={"job": forever})
    await bench.settle()
    await bench.controller.sweep()
    assert len(bench.leftovers()) > 1
    with bench.db.write() as db:
        runs.set_phase(db, run.id, "Canceled", finished=bench.clock())
    await bench.controller.sweep()
    assert bench.leftovers() == []


async def test_the_sweep_reads_what_stays_once_where_nothing_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_runs, asked = keeping.kept_runs, 0

    def counted(db: Connection) -> list[str]:
        nonlocal asked
        asked += 1
        return kept_runs(db)

    made = [bench.submit(flow(job=script(outputs={"o": {"type": "volume"}})), name=f"w{n}") for n in range(6)]
    await bench.settle()
    assert len({volume.split("/")[1] for volume in bench.store.volumes("runs")}) == len(made)
    monkeypatch.setattr(keeping, "kept_runs", counted)
    await bench.controller.sweep()
    assert asked == 1
    bench.store.create("runs/unknown/job/o")
    await bench.controller.sweep()
    assert "runs/unknown/job/o" not in bench.store.volumes("runs")


async def test_a_missed_event_is_made_up_for(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.engine.exit("job", 0)
    bench.wait(RECHECK_S)
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"


async def test_the_engine_is_asked_only_about_the_job_concerned(bench: Bench) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "9"}, home=bench.settings.home)
    bench.kill()
    names = [f"job{number}" for number in range(8)]
    bench.submit(flow(**{name: script() for name in names}), body=dict.fromkeys(names, forever))
    await bench.settle()
    calls: list[str] = []
    bench.engine.before = calls.append
    bench.engine.exit("job3", 0)
    await bench.settle()
    assert calls == ["inspect", "remove", "remove done"]


async def test_a_job_costs_these_calls_of_the_engine(bench: Bench) -> None:
    calls: list[str] = []
    bench.engine.before = calls.append
    bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.exit("job", 0)
    await bench.settle()
    assert [call for call in calls if not call.endswith(" done")] == [
        "ensure", "create", "start", "inspect", "inspect", "remove", "list",
    ]  # fmt: skip
