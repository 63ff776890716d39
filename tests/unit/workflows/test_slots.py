"""Who may begin: slots of the machine, disk space, and runs of one workflow one after the other."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.settings import load as load_settings
from appliance.state import runs
from appliance.state.runs import reading, records
from appliance.workflows.submit import cancel_run
from tests.conftest import Clock
from tests.unit.workflows.bodies import forever
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio


async def test_jobs_of_all_runs_share_the_slots_oldest_run_first(bench: Bench, clock: Clock) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "2"}, home=bench.settings.home)
    bench.kill()
    body = {f"{name}{number}": forever for name in "ab" for number in range(3)}
    first = bench.submit(flow(a0=script(), a1=script(), a2=script()), name="first", body=body)
    clock.now += 1
    second = bench.submit(flow(b0=script(), b1=script(), b2=script()), name="second")
    await bench.settle()
    assert bench.engine.running() == ["a0", "a1"]
    assert bench.run(second).phase == "Pending"
    assert "free slot" in bench.run(second).message
    for expected in (["a1", "a2"], ["a2", "b0"], ["b0", "b1"], ["b1", "b2"], ["b2"], []):
        bench.engine.exit(bench.engine.running()[0], 0)
        await bench.settle()
        assert bench.engine.running() == expected
    assert bench.engine.most_running == 2
    assert bench.run(first).phase == bench.run(second).phase == "Succeeded"


async def test_without_disk_space_no_job_begins_and_what_runs_goes_on(bench: Bench) -> None:
    run = bench.submit(flow(a=script(), b=script("a")), body={"a": forever})
    await bench.settle()
    bench.no_room = "waits for disk space"
    waiting = bench.submit(flow(c=script()), name="other")
    bench.engine.exit("a", 0)
    await bench.settle()
    assert bench.phases(run) == {"a": "Succeeded", "b": "Pending"}
    assert bench.jobs(run)["b"].message == bench.run(run).message == "waits for disk space"
    assert (bench.run(waiting).phase, bench.run(waiting).message) == ("Pending", "waits for disk space")
    bench.no_room = ""
    bench.wake_all()
    await bench.settle()
    assert bench.run(run).phase == bench.run(waiting).phase == "Succeeded"
    assert bench.run(run).message == bench.jobs(run)["b"].message == ""


def _one_slot(bench: Bench) -> None:
    bench.settings = load_settings({"APPLIANCE_MAX_PARALLEL_JOBS": "1"}, home=bench.settings.home)
    bench.kill()


async def test_a_newer_run_does_not_take_the_slot_an_older_one_waits_for(bench: Bench, clock: Clock) -> None:
    _one_slot(bench)
    older = bench.submit(flow(a=script()), name="older", body={"a": forever, "b0": forever, "b1": forever})
    bench.queue.clear()
    clock.now += 1
    bench.submit(flow(b0=script(), b1=script()), name="newer")
    await bench.settle()
    bench.hint(older.id)
    await bench.settle()
    assert bench.engine.running() == ["b0"]
    bench.engine.exit("b0", 0)
    await bench.settle()
    assert bench.engine.running() == ["a"]


async def test_a_waiting_run_that_gives_up_lets_the_next_one_in(bench: Bench, clock: Clock) -> None:
    _one_slot(bench)
    body = {"first": forever, "second": forever, "third": forever}
    found = []
    for name in body:
        found.append(bench.submit(flow(**{name: script()}), name=name, body=body))
        clock.now += 1
    await bench.settle()
    cancel_run(bench.db, found[1].id, now=clock())
    bench.engine.exit("first", 0)
    await bench.settle()
    assert bench.run(found[1]).phase == "Canceled"
    assert bench.engine.running() == ["third"]


async def test_a_hundred_waiting_runs_never_ask_the_engine(bench: Bench) -> None:
    bench.submit(flow(**{f"job{number}": script() for number in range(4)}), body={f"job{n}": forever for n in range(4)})
    await bench.settle()
    calls: list[str] = []
    bench.engine.before = calls.append
    for number in range(100):
        bench.submit(flow(waiting=script()), name=f"flow{number}")
    await bench.settle()
    assert calls == []


async def test_a_queued_run_waits_for_the_older_one_and_says_so(bench: Bench) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    first = bench.submit(document, body={"job": forever})
    await bench.settle()
    second = bench.submit(document)
    other = bench.submit(flow(other=script()), name="other")
    await bench.settle()
    assert bench.run(second).phase == "Pending"
    assert bench.run(second).message == "waits for flow.1: one run at a time (concurrency: queue)"
    assert bench.run(other).phase == "Succeeded", "a held run holds up nobody else"
    bench.kill()
    await bench.settle()
    assert bench.run(second).phase == "Pending"
    bench.engine.body = {}
    bench.engine.exit("job", 0)
    await bench.settle()
    assert (bench.run(first).phase, bench.run(second).phase) == ("Succeeded", "Succeeded")
    assert bench.run(second).message == ""


async def test_a_long_queue_costs_each_look_no_spec_but_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    bench.submit(document, body={"job": forever})
    held = [bench.submit(document) for _ in range(12)]
    await bench.settle()
    read: list[str] = []
    made = records.run_of

    def counted(row: Any) -> runs.Run:
        read.append(row["spec"])
        return made(row)

    monkeypatch.setattr(reading, "run_of", counted)
    for run in held:
        bench.hint(run.id)
    await bench.settle()
    assert set(read) == {"{}"}
    assert len(read) <= 2 * len(held)


async def test_the_end_of_a_run_wakes_the_oldest_held_one_of_its_workflow_only(bench: Bench) -> None:
    document = {"concurrency": "queue", **flow(job=script())}
    first, foreign = bench.submit(document, body={"job": forever}), bench.submit(document, name="other")
    await bench.settle()
    held = [bench.submit(document, name=name) for name in ("flow", "flow", "flow", "other")]
    await bench.settle()
    cancel_run(bench.db, held[0].id, now=bench.clock())
    bench.hint(held[0].id)
    await bench.settle()
    hinted: list[str] = []
    hint = bench.controller._hint

    def noted(kind: str, key: str) -> None:
        hinted.append(key)
        hint(kind, key)

    bench.controller._hint = noted
    bench.engine.body = {}
    bench.engine.exit("job", 0)  # of both workflows
    while bench.run(first).finished is None:
        await bench.settle_some(1)
    assert not set(hinted) & {held[2].id}, "it waits for the one that waits already"
    await bench.settle()
    assert hinted.index(held[1].id) < hinted.index(held[2].id)
    assert {bench.run(run).phase for run in (first, foreign, *held[1:])} == {"Succeeded"}


async def test_a_run_whose_place_was_taken_says_so(bench: Bench) -> None:
    document = {**flow(a=script()), "concurrency": "cancel"}
    old = bench.submit(document, body={"a": forever})
    await bench.settle()
    new = bench.submit(document)
    bench.hint(old.id)
    await bench.settle()
    ended = bench.run(old)
    assert (ended.phase, ended.message) == ("Canceled", "a newer run takes its place (concurrency: cancel)")
    cancel_run(bench.db, new.id, now=bench.clock())
    bench.hint(new.id)
    await bench.settle()
    assert (bench.run(new).phase, bench.run(new).message) == ("Canceled", "canceled")


async def test_a_job_that_fails_where_space_is_low_says_so(bench: Bench) -> None:
    run = bench.submit(flow(bad=script(), good=script()), body={"bad": forever, "good": forever})
    await bench.settle()
    bench.no_room = "waits for disk space"
    bench.engine.exit("bad", 1)
    bench.engine.exit("good", 0)
    await bench.settle()
    told = "exit code 1; disk space was low when it ended (next: `appliance space` names what holds the space)"
    assert bench.jobs(run)["bad"].message == told
    assert bench.jobs(run)["good"].message == ""
    assert bench.run(run).message == "bad: exit code 1; disk space was low when it ended"
