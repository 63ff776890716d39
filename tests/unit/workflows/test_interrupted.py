"""Jobs that ended with the appliance, the engine or the machine, and not by themselves."""

from __future__ import annotations

from typing import cast

import pytest

from appliance.engine.docker import Engine
from appliance.engine.interrupted import BEFORE_S, BY_MACHINE, BY_STOP, boot_time
from appliance.errors import EngineDown
from appliance.shutdown import stop_containers
from appliance.state import runs
from appliance.workflows.interrupted import MOST_UNCOUNTED
from tests.unit.workflows.bodies import forever
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio

RETRIED = {"limit": 1, "delay": 10}


async def stop_all(bench: Bench) -> None:
    """`appliance stop --all`, then the daemon again."""
    bench.engine.notice = lambda owner, action: None  # nobody listens
    bench.queue.clear()
    await stop_containers(bench.db, cast(Engine, bench.engine), grace_s=1.0, clock=bench.clock)
    bench.wait(60)
    bench.kill()
    await bench.settle()


async def test_stop_all_is_no_failure_of_the_program(bench: Bench) -> None:
    run = bench.submit(flow(job=script(), after=script("job")), body={"job": forever})
    await bench.settle()
    await stop_all(bench)
    job = bench.jobs(run)["job"]
    assert (job.phase, job.exit_code) == ("Error", 143)
    assert job.message == f"{BY_STOP} (next: `appliance workflow resume flow.1`)"
    assert bench.engine.starts == ["job"], "it is not run again by itself"
    assert bench.run(run).phase == "Failed"
    assert bench.run(run).message == f"job: {BY_STOP}"
    assert bench.leftovers() == []


async def test_an_end_in_good_order_that_was_asked_for_is_none_of_its_own(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.stop_code = 0
    await stop_all(bench)
    assert bench.jobs(run)["job"].phase == "Error"


@pytest.mark.parametrize(
    ("code", "later", "phase"),
    [(0, 3600, "Succeeded"), (1, 3600, "Failed"), (0, 15, "Error"), (1, 15, "Error"), (143, 3600, "Error")],
)
async def test_a_stop_that_was_killed_before_it_came_to_the_job(
    bench: Bench, code: int, later: float, phase: str
) -> None:
    """Far beyond the time that a stop takes, what the program says of its end is true."""
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.queue.clear()
    with bench.db.write() as db:
        runs.mark_stopped(db, bench.jobs(run)["job"].container, bench.clock())
    bench.wait(later)
    bench.engine.exit("job", code)
    bench.kill()
    await bench.settle()
    assert bench.phases(run) == {"job": phase}


async def test_with_retry_it_is_run_again_and_does_not_count(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry=RETRIED)), body={"job": forever})
    await bench.settle()
    for stops in (1, 2, 3, 4, 5):
        await stop_all(bench)
        job = bench.jobs(run)["job"]
        assert (job.phase, job.attempt, job.interrupted, job.stopped) == ("Running", 1 + stops, stops, None)
    bench.engine.exit("job", 1)
    await bench.settle()
    assert bench.jobs(run)["job"].message == "attempt 1 of 2: exit code 1; the next begins 10 s later"
    bench.wait(10)
    await bench.settle()
    bench.engine.exit("job", 1)
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.message) == ("Failed", "exit code 1")


async def test_what_ended_before_the_stop_ended_by_itself(bench: Bench) -> None:
    run = bench.submit(flow(done=script(), bad=script(), lives=script()), body=dict.fromkeys(("done", "bad"), forever))
    bench.engine.body["lives"] = forever  # type: ignore[index]
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.engine.exit("done", 0)
    bench.engine.exit("bad", 143)
    bench.wait(5)
    await stop_all(bench)
    assert bench.phases(run) == {"done": "Succeeded", "bad": "Failed", "lives": "Error"}


async def test_a_stop_that_did_not_come_to_pass_is_forgotten(bench: Bench) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.unreachable = True
    with pytest.raises(EngineDown):
        await stop_containers(bench.db, cast(Engine, bench.engine), grace_s=1.0, clock=bench.clock)
    assert bench.jobs(run)["job"].stopped is None
    with bench.db.write() as db:  # killed between the word and the deed
        runs.mark_stopped(db, bench.jobs(run)["job"].container, bench.clock())
    bench.kill()
    await bench.settle()
    assert bench.jobs(run)["job"].stopped is None
    bench.engine.exit("job", 143)
    await bench.settle()
    assert bench.jobs(run)["job"].phase == "Failed"


@pytest.mark.parametrize("code", [137, 143, 255])
async def test_an_engine_that_ended_takes_its_jobs_along(bench: Bench, code: int) -> None:
    run = bench.submit(flow(job=script(), later=script("job")), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.controller.engine_lost(bench.clock())
    bench.wait(3)
    bench.engine.exit("job", code)
    bench.wait(10)
    bench.controller.engine_back(bench.clock())
    bench.wake_all()
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.message) == ("Error", f"{BY_MACHINE} (next: `appliance workflow resume flow.1`)")


@pytest.mark.parametrize(("before", "phase"), [(BEFORE_S - 1, "Error"), (BEFORE_S + 1, "Failed")])
async def test_an_engine_is_missed_a_little_after_it_began_to_stop(bench: Bench, before: float, phase: str) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.engine.exit("job", 143)
    bench.wait(before)
    bench.controller.engine_lost(bench.clock())
    bench.wait(10)
    bench.controller.engine_back(bench.clock())
    bench.wake_all()
    await bench.settle()
    assert bench.phases(run) == {"job": phase}


@pytest.mark.parametrize(("code", "oom", "late"), [(1, False, False), (137, True, False), (137, False, True)])
async def test_an_engine_that_was_away_does_not_excuse_what_it_did_not_do(
    bench: Bench, code: int, oom: bool, late: bool
) -> None:
    run = bench.submit(flow(job=script()), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.controller.engine_lost(bench.clock())
    bench.wait(3)
    if late:
        bench.controller.engine_back(bench.clock())
        bench.wait(60)
    bench.engine.exit("job", code, oom=oom)
    bench.wake_all()
    await bench.settle()
    assert bench.phases(run) == {"job": "Failed"}


@pytest.mark.parametrize("told_after_the_boot", [False, True])
async def test_a_reboot_is_no_failure_of_the_program(bench: Bench, told_after_the_boot: bool) -> None:
    run = bench.submit(flow(job=script(timeout=30)), body={"job": forever})
    await bench.settle()
    bench.engine.notice = lambda owner, action: None
    bench.queue.clear()
    if not told_after_the_boot:  # an orderly one: the engine has stopped it
        bench.wait(5)
        bench.engine.exit("job", 143)
    bench.wait(100)
    bench.booted = bench.clock()
    bench.wait(10)
    if told_after_the_boot:  # power was cut: the engine finds it dead
        bench.engine.exit("job", 137)
    bench.kill()
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.message.partition(" (")[0]) == ("Error", BY_MACHINE)


async def test_a_job_that_takes_the_machine_down_each_time_does_not_go_on_for_ever(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 0})), body={"job": forever})
    await bench.settle()
    boots = 0
    while bench.phases(run)["job"] == "Running":
        bench.engine.notice = lambda owner, action: None
        bench.queue.clear()
        bench.wait(100)
        bench.booted = bench.clock()
        bench.wait(1)
        bench.engine.exit("job", 137)
        bench.kill()
        await bench.settle()
        bench.wait(0)
        await bench.settle()
        boots += 1
    assert boots == MOST_UNCOUNTED + 2
    assert bench.jobs(run)["job"].phase == "Error"


def test_the_boot_time_is_read_from_the_kernel() -> None:
    assert boot_time("cpu  1 2\nbtime 1700000000\nprocesses 3\n") == 1700000000.0
    assert boot_time("nothing of the kind") == 0.0
