"""deploy@v1 of a document that failed before, and what becomes of one whose job is stopped."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from appliance.apply import REMOVED, withdraw
from appliance.deployments.facts import Phase
from appliance.errors import Conflict
from appliance.spec.models import DeployAction, Workflow
from appliance.state import events, resources, rollouts, runs
from appliance.workflows.refusals import Settled
from appliance.workflows.steps import hosted
from appliance.workflows.steps.begun import NOTHING, Before, Begun, read
from appliance.workflows.submit import cancel_run
from tests.unit.workflows.desk import DEPLOY, SPEC, Desk
from tests.unit.workflows.fakes import Bench, Killed, flow

pytestmark = pytest.mark.anyio

Work = tuple[runs.Run, Workflow]
OTHER = DeployAction(name="web", spec={**SPEC, "image": "other"})
READY = hosted.Done({"endpoint": {"type": "string", "value": "/deployments/web/"}})


def stop(desk: Desk, work: Work) -> hosted.Done | str:
    return hosted.stop(desk.rooms, *work, desk.row(work[0]))


def told(desk: Desk, reason: str) -> list[events.Event]:
    found = events.newest(desk.db.read, kind="deployment", name="web")
    return [event for event in found if event.reason == reason]


async def ready(desk: Desk, action: DeployAction) -> Work:
    """A job that has deployed it."""
    work = desk.job(action)
    await desk.act(work)
    desk.observe("Ready", generation_ready=desk.web().generation)
    assert await desk.act(work) == READY
    return work


# the same document again


@pytest.mark.parametrize("phase", ["Failed", "Degraded"])
async def test_what_failed_before_is_started_afresh_and_only_that_counts(desk: Desk, phase: str) -> None:
    await desk.act(desk.job(DEPLOY))
    desk.observe(phase, "crash loop: the model server was down", generation_ready=0)
    again = desk.job(DEPLOY)
    assert await desk.act(again) == "deployment web is started afresh as generation 2"
    assert (desk.web().generation, desk.web().spec) == (2, SPEC)
    afresh = rollouts.find(desk.db.read, desk.web().uid, 2)
    assert afresh
    assert afresh.cause == "restarted"
    assert await desk.act(again) == "generation 2: the controller has not looked at it yet"
    desk.observe("Starting", "0 of 2 replicas ready")
    assert await desk.act(again) == "generation 2: 0 of 2 replicas ready"
    desk.observe("Ready", generation_ready=2)
    assert await desk.act(again) == READY
    (event,) = told(desk, "StartedAfresh")
    assert event.message == "asked by run:flow.2/act, generation 2"


async def test_a_fresh_start_that_fails_too_is_told(desk: Desk) -> None:
    await desk.act(desk.job(DEPLOY))
    desk.observe("Failed", "crash loop", generation_ready=0)
    again = desk.job(DEPLOY)
    await desk.act(again)
    desk.observe("Failed", "crash loop", generation_ready=0)
    with pytest.raises(Conflict, match="generation 2 fails: crash loop") as refused:
        await desk.act(again)
    assert "it stays declared, and takes over once it is ready" in refused.value.hint


async def test_the_last_line_of_the_replica_that_ended_is_told(desk: Desk) -> None:
    def ends(text: str, at: float) -> None:
        with desk.db.write() as db:
            events.record(db, "deployment", "web", "ReplicaEnded", text, now=at, level="warning")

    await desk.act(desk.job(DEPLOY))
    ends("replica 1-0: it failed (exit code 1)\nboot\nan error of yesterday", desk.clock.now - 1)
    work = desk.job(OTHER)
    await desk.act(work)
    desk.observe("Failed", "crash loop")
    with pytest.raises(Conflict) as refused:
        await desk.act(work)
    assert refused.value.message == "generation 2 fails: crash loop"
    ends("replica 2-0: it failed (exit code 1)\nTraceback:\nModuleNotFoundError: torch\n", desk.clock.now)
    with pytest.raises(Conflict) as refused:
        await desk.act(work)
    assert refused.value.message == "generation 2 fails: crash loop; a replica wrote: ModuleNotFoundError: torch"


async def test_a_job_that_comes_back_starts_it_afresh_once(desk: Desk) -> None:
    await desk.act(desk.job(DEPLOY))
    desk.observe("Failed", "crash loop", generation_ready=0)
    again = desk.job(DEPLOY)
    for _ in range(3):
        await desk.act(again)
    assert desk.web().generation == 2


async def test_what_is_under_way_or_serves_is_not_disturbed(desk: Desk) -> None:
    first = desk.job(DEPLOY)
    await desk.act(first)
    desk.observe("Starting", "0 of 2 replicas ready")
    assert await desk.act(desk.job(DEPLOY)) == "deployment web is unchanged"
    desk.observe("Degraded", "1 of 2 replicas ready", generation_ready=1)
    assert await desk.act(desk.job(DEPLOY)) == "deployment web is unchanged"
    desk.observe("Ready", generation_ready=1)
    last = desk.job(DEPLOY)
    assert await desk.act(last) == "deployment web is unchanged"
    assert await desk.act(last) == READY
    assert desk.web().generation == 1


async def test_what_a_file_no_longer_declares_is_not_ready_because_it_was_stopped(desk: Desk) -> None:
    await ready(desk, DEPLOY)
    with desk.db.write() as db:
        withdraw(db, "deployment", "web", source=desk.web().source, now=0.0)
    desk.observe("Disabled", "no replica is declared", generation_ready=1)
    again = desk.job(DEPLOY)
    assert await desk.act(again) == "deployment web is started afresh as generation 2"
    assert await desk.act(again) == "generation 2: the controller has not looked at it yet"
    assert desk.web().desired == "running"


# stopped before it is ready


async def test_a_stopped_job_leaves_what_was_declared_before(desk: Desk) -> None:
    await ready(desk, DEPLOY)
    before = desk.web().source
    work = desk.job(OTHER)
    await desk.act(work)
    desk.observe("Updating", "0 of 2 replicas ready; generation 1 goes on serving")
    desk.hints.clear()
    said = stop(desk, work)
    assert said == "deployment web is as it was in generation 1, and generation 2 is given up"
    assert (desk.web().spec, desk.web().generation, desk.web().source) == (SPEC, 3, before)
    assert desk.hints == [("deployment", desk.web().uid)]
    (event,) = told(desk, "TakenBack")
    assert event.message == f"flow.2/act ended before generation 2 was ready: {said}"


async def test_to_stop_it_twice_changes_nothing_more(desk: Desk) -> None:
    """The daemon is killed between that and the end of the job."""
    await ready(desk, DEPLOY)
    work = desk.job(OTHER)
    await desk.act(work)
    said = stop(desk, work)
    generation = desk.web().generation
    assert stop(desk, work) == said
    assert desk.web().generation == generation
    with pytest.raises(Settled, match="as it was in generation 1"):
        await desk.act(work)  # the clock was set back, and its time is not over any more
    assert desk.web().generation == generation


async def test_a_deployment_that_the_job_made_is_stopped_and_the_next_one_starts_it(desk: Desk) -> None:
    work = desk.job(DEPLOY)
    await desk.act(work)
    assert stop(desk, work) == "deployment web, which this job has made, is stopped"
    assert (desk.web().desired, desk.web().deleting) == ("stopped", False)
    desk.observe("Disabled", generation_ready=1)
    again = desk.job(DEPLOY)
    await desk.act(again)
    assert desk.web().desired == "running"
    assert desk.web().generation == 2


async def test_an_earlier_attempt_counts_as_the_same_job(desk: Desk) -> None:
    await ready(desk, DEPLOY)
    work = desk.job(OTHER)
    await desk.act(work)
    desk.observe("Degraded", "crash loop")
    with desk.db.write() as db:
        runs.try_again(db, work[0].id, "act", "Running", at=0.0, message="")
        runs.move_job(db, work[0].id, "act", "Pending", "Running", started=desk.clock.now)
    await desk.act(work)
    assert desk.web().generation == 3
    stop(desk, work)
    assert desk.web().spec == SPEC


async def test_one_that_was_stopped_before_is_stopped_again(desk: Desk) -> None:
    with desk.db.write() as db:
        web, _ = resources.put(db, "deployment", "web", SPEC, source="file:web.yaml", now=0.0)
        withdraw(db, "deployment", "web", source="file:web.yaml", now=0.0)
    for action in (OTHER, DEPLOY):
        work = desk.job(action)
        await desk.act(work)
        assert desk.web().desired == "running"
        assert stop(desk, work) == "deployment web is stopped again, as it was before"
        assert (desk.web().desired, desk.web().source) == ("stopped", f"{REMOVED}file:web.yaml")
        assert desk.web().spec == SPEC
    assert desk.web().uid == web.uid


async def test_an_unchanged_document_stays(desk: Desk) -> None:
    with desk.db.write() as db:
        resources.put(db, "deployment", "web", SPEC, source="cli", now=0.0)
    work = desk.job(DEPLOY)
    await desk.act(work)
    assert stop(desk, work) == "deployment web stays as it was declared before, and may yet become ready"
    assert (desk.web().generation, desk.web().source, desk.web().desired) == (1, "cli", "running")
    assert told(desk, "TakenBack") == []


async def test_what_somebody_else_did_meanwhile_stays(desk: Desk) -> None:
    await ready(desk, DEPLOY)
    for act in ("another spec", "the same spec", "a stop"):
        work = desk.job(DeployAction(name="web", spec={**SPEC, "image": act.replace(" ", "-")}))
        await desk.act(work)
        with desk.db.write() as db:
            if act == "a stop":
                resources.set_desired(db, desk.web().uid, "stopped", now=0.0)
            else:
                document = desk.web().spec if act == "the same spec" else {**SPEC, "image": "mine"}
                resources.put(db, "deployment", "web", document, source="cli", now=0.0)
        found = desk.web()
        assert stop(desk, work) == "deployment web was changed by somebody else since, and stays as it is"
        assert desk.web() == found


async def test_a_stop_that_comes_after_it_was_ready_comes_too_late(desk: Desk) -> None:
    work = desk.job(DEPLOY)
    await desk.act(work)
    desk.observe("Ready", generation_ready=1)
    assert stop(desk, work) == READY
    assert (desk.web().generation, desk.web().desired) == (1, "running")


async def test_there_may_be_nothing_to_take_back(desk: Desk) -> None:
    work = desk.job(DEPLOY)
    assert stop(desk, work) == ""
    await desk.act(work)
    with desk.db.write() as db:
        resources.set_deleting(db, desk.web().uid, now=0.0)
    assert stop(desk, work) == ""
    with desk.db.write() as db:
        resources.remove(db, desk.web().uid)
    assert stop(desk, work) == ""


@pytest.mark.parametrize(
    "begun",
    [
        Begun("u", 3),
        Begun("u", 3, 2, Before("removed:file:a b.yaml", "stopped", 2)),
        Begun("u", 12, 1, NOTHING, became="it is stopped"),
    ],
)
def test_what_is_remembered_is_read_back(begun: Begun) -> None:
    assert read(str(begun)) == begun


def test_one_of_a_daemon_of_before_is_read_too() -> None:
    assert read("u 3") == Begun("u", 3, attempt=1, before=None)


# through the controller


def deploy_job(**more: Any) -> dict[str, Any]:
    return {"uses": "deploy@v1", "with": {"name": "web", "spec": SPEC}, **more}


def web(bench: Bench) -> resources.Resource:
    return resources.get(bench.db.read, "deployment", "web")


async def test_a_canceled_run_says_what_became_of_its_deployment(bench: Bench) -> None:
    run = bench.submit(flow(deploy=deploy_job()))
    await bench.settle()
    assert bench.phases(run) == {"deploy": "Running"}
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    found = bench.jobs(run)["deploy"]
    assert found.phase == "Canceled"
    assert found.message == "canceled; deployment web, which this job has made, is stopped"
    assert web(bench).desired == "stopped"


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
async def test_a_timeout_takes_it_back_whenever_the_daemon_is_killed(bench: Bench, kill_at: int) -> None:
    with bench.db.write() as db:
        resources.put(db, "deployment", "web", {**SPEC, "image": "before"}, source="cli", now=0.0)
    run = bench.submit(flow(deploy=deploy_job(timeout=60)))
    await bench.settle()
    commits = 0

    def kill(call: str) -> None:
        nonlocal commits
        commits += call == "commit done"
        if commits == kill_at:
            bench.watch(lambda call: None)
            raise Killed

    bench.watch(kill)
    bench.wait(60)
    await bench.settle()
    found = bench.jobs(run)["deploy"]
    assert found.phase == "Failed"
    assert found.message == (
        "stopped: its timeout of 60 s has passed;"
        " deployment web is as it was in generation 1, and generation 2 is given up"
    )
    assert (web(bench).spec["image"], web(bench).generation) == ("before", 3)


async def test_each_attempt_deploys_anew(bench: Bench) -> None:
    run = bench.submit(flow(deploy=deploy_job(timeout=60, retry={"limit": 1, "delay": 5})))
    await bench.settle()
    bench.wait(60)
    await bench.settle()
    assert bench.jobs(run)["deploy"].attempt == 2
    bench.wait(5)
    await bench.settle()
    assert (web(bench).desired, web(bench).generation) == ("running", 2)
    with bench.db.write() as db:
        resources.set_status(db, web(bench).uid, generation=2, phase="Ready", status={"generation_ready": 2})
    bench.wait(1)
    await bench.settle()
    assert bench.phases(run) == {"deploy": "Succeeded"}


async def test_a_generation_that_a_newer_one_replaced_is_not_deployed_again(bench: Bench) -> None:
    """A retry of the older run would take the traffic from the newer model."""
    run = bench.submit(flow(deploy=deploy_job(retry=3)))
    await bench.settle()
    with bench.db.write() as db:
        resources.put(db, "deployment", "web", {**SPEC, "image": "newer"}, source="cli", now=0.0)
    bench.wait(1)
    await bench.settle()
    found = bench.jobs(run)["deploy"]
    assert (found.phase, found.attempt) == ("Error", 1)
    assert "not tried again: deployment web: generation 2 was applied before generation 1 was ready" in found.message
    assert web(bench).spec["image"] == "newer"


# every phase of a deployment


@pytest.mark.parametrize("phase", get_args(Phase))
async def test_a_job_knows_every_phase_of_what_has_been_ready(desk: Desk, phase: str) -> None:
    """Done where it is whole or needs nothing to run; where it sleeps the next request wakes it."""
    work = desk.job(DEPLOY)
    await desk.act(work)
    desk.observe(phase, "no request for 900 s", generation_ready=1)
    done = phase in ("Ready", "Asleep", "Disabled")
    assert await desk.act(work) == (READY if done else "generation 1: no request for 900 s")


async def test_a_sleeping_one_is_not_started_afresh_and_not_taken_back(desk: Desk) -> None:
    await ready(desk, DEPLOY)
    desk.observe("Asleep", "no request for 900 s", generation_ready=1)
    again = desk.job(DEPLOY)
    assert await desk.act(again) == "deployment web is unchanged"
    desk.clock.now += DEPLOY.ready_s + 1
    assert await desk.act(again) == READY
