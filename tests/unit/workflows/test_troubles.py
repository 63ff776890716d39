"""What refuses, fails or surprises the daemon itself: it is said, and tried again."""

from __future__ import annotations

from contextlib import suppress

import pytest

from appliance.errors import EngineDown, EngineError, TelemetryError
from appliance.state import events
from appliance.telemetry.draining import TRIES
from appliance.workflows import plan, preparing
from appliance.workflows.kept import keeping
from tests.unit.workflows.bodies import events_of, forever
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio


async def test_a_run_whose_spec_became_unreadable_ends(bench: Bench) -> None:
    run = bench.submit(flow(job=script(outputs={"v": {"type": "volume"}})), body={"job": forever})
    await bench.settle()
    with bench.db.write() as db:
        db.execute("UPDATE runs SET spec = '{}'")
    bench.kill()
    await bench.settle()
    assert (bench.run(run).phase, bench.phases(run)) == ("Error", {"job": "Error"})
    assert "cannot be read any more" in bench.run(run).message
    assert bench.leftovers() == []


async def test_an_engine_that_is_down_is_waited_for(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))

    def down(call: str) -> None:
        raise EngineDown("is not running", where="docker engine", hint="start it")

    bench.engine.before = down
    with pytest.raises(EngineDown):
        await bench.settle()
    assert bench.jobs(run)["job"].message == "is not running; trying again"
    bench.engine.before = lambda call: None
    bench.kill()
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"


async def test_a_log_that_cannot_be_stored_holds_the_job_up_for_a_while_only(bench: Bench) -> None:
    run = bench.submit(flow(job=script()))
    bench.telemetry.error = TelemetryError("the disk is full")
    for _ in range(TRIES - 1):
        with pytest.raises(TelemetryError):
            await bench.settle()
        assert bench.jobs(run)["job"].message == "the disk is full; trying again"
        bench.hint(f"{run.id}/job")
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    reasons = [event.reason for event in events.newest(bench.db.read, kind="run")]
    assert "LogsIncomplete" in reasons


@pytest.mark.parametrize("error", [NameError("no `kept`"), EngineDown("no engine", hint="start it")])
async def test_a_run_whose_end_fails_says_so_and_one_event_tells_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settle = keeping.settle

    async def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(keeping, "settle", broken)
    run = bench.submit(flow(job=script()))
    for _ in range(4):
        bench.hint(run.id)
        with suppress(type(error)):
            await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    shown = bench.run(run)
    assert shown.phase == "Running"
    assert shown.message.startswith("all jobs are over; ending it fails: ")
    assert str(error.args[0]) in shown.message
    assert shown.message.endswith("; tried again")
    bench.kill()
    with suppress(type(error)):
        await bench.settle()
    (told,) = events_of(bench, "EndingFailed")
    assert (told.level, told.message) == ("error", shown.message)
    monkeypatch.setattr(keeping, "settle", settle)
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Succeeded", "")


async def test_what_nobody_expected_is_shown_by_the_run_until_it_passes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.vault.set("WORD", "s3cr3t-word")
    make = preparing.prepare

    async def broken(*_: object, **__: object) -> None:
        raise KeyError("s3cr3t-word of the vault")

    monkeypatch.setattr(preparing, "prepare", broken)
    run = bench.submit(flow(job=script()))
    for _ in range(3):
        with suppress(KeyError):
            await bench.settle()
    await bench.settle()
    said = bench.run(run).message
    assert said.startswith("job job: unexpected KeyError: ")
    assert said.endswith("; tried again")
    assert "s3cr3t-word" not in said
    assert bench.jobs(run)["job"].message.startswith("unexpected KeyError")
    monkeypatch.setattr(preparing, "prepare", make)
    bench.wake_all()
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Succeeded", "")


async def test_a_run_that_cannot_be_looked_at_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(plan, "plan", broken)
        run = bench.submit(flow(job=script()), body={"job": forever})
        with pytest.raises(ZeroDivisionError):
            await bench.settle()
        assert (bench.run(run).phase, bench.run(run).message) == (
            "Pending",
            "unexpected ZeroDivisionError; tried again",
        )
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.run(run).message) == ("Running", "")


async def test_a_container_that_does_not_go_is_asked_about_now_and_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = bench.engine.remove

    async def stays(container_id: str) -> None:
        """Docker calls a removal done that is under way already."""

    monkeypatch.setattr(bench.engine, "remove", stays)
    run = bench.submit(flow(job=script()))
    await bench.settle(most=100)
    assert bench.run(run).phase == "Running"
    assert bench.wakes[run.id] - bench.clock() == plan.REMOVAL_S
    monkeypatch.setattr(bench.engine, "remove", remove)
    for _ in range(2):  # one look removes it, the next one sees it gone
        bench.wait(plan.REMOVAL_S)
        await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    assert bench.engine.containers == {}


async def test_a_clean_up_that_fails_is_done_again_and_the_run_goes_on(bench: Bench) -> None:
    run = bench.submit(flow(job=script(), after=script("job")), body={"after": forever})

    def refuse(call: str) -> None:
        if call == "remove":
            raise EngineError("busy")

    bench.engine.before = refuse
    for _ in range(3):
        with suppress(EngineError):
            await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Running"}
    bench.engine.before = lambda call: None
    bench.hint(f"{run.id}/job")
    await bench.settle()
    assert [container.state for container in bench.engine.containers.values()] == ["running"]
