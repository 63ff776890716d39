"""A job that fails is tried again, with nothing that the attempt before has left."""

from __future__ import annotations

from contextlib import suppress

import pytest

from appliance.errors import Conflict, StorageError
from appliance.state import runs
from appliance.workflows.submit import cancel_run
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio


RETRIED = {"limit": 2, "delay": 10}


async def test_a_job_that_fails_is_tried_again_with_back_off(bench: Bench) -> None:
    codes = iter([1, 2, 0])
    run = bench.submit(flow(job=script(retry=RETRIED), after=script("job")), body={"job": lambda inside: next(codes)})
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt) == ("Pending", 2)
    assert job.message == "attempt 1 of 3: exit code 1; the next begins 10 s later"
    bench.wait(9)
    await bench.settle()
    assert bench.engine.starts == ["job"]
    bench.wait(1)
    await bench.settle()
    assert bench.jobs(run)["job"].message == "attempt 2 of 3: exit code 2; the next begins 20 s later"
    assert bench.engine.containers == {}
    bench.wait(20)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded", "after": "Succeeded"}
    assert bench.engine.starts == ["job", "job", "job", "after"]
    names = [spec.name for spec in bench.engine.specs.values()]
    assert len(set(names)) == 4, "each attempt has a container of its own"


async def test_the_last_attempt_says_why_it_failed(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 0})), body={"job": lambda inside: 3})
    await bench.settle()
    bench.wait(0)
    await bench.settle()
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt, job.message, job.exit_code) == ("Failed", 2, "exit code 3", 3)


async def test_an_attempt_begins_with_empty_folders(bench: Bench) -> None:
    found: list[list[str]] = []

    def body(inside: Inside) -> int:
        found.append(sorted(path.name for path in inside.path("/outputs/v").iterdir()))
        inside.path("/outputs/v/left").write_text("by the first")
        return int(len(found) == 1)

    document = flow(job=script(retry={"limit": 1, "delay": 0}, outputs={"v": {"type": "volume"}}))
    run = bench.submit(document, body={"job": body})
    await bench.settle()
    bench.wait(0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert found == [[], []]


@pytest.mark.parametrize("why", ["a backup", "the store"])
async def test_an_attempt_waits_until_the_one_before_can_be_cleared_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    run, found = await _stuck_attempt(bench, monkeypatch, why)
    job = bench.jobs(run)["job"]
    assert (job.phase, job.attempt, bench.engine.starts) == ("Starting", 2, ["job"])
    words = "a backup reads volume" if why == "a backup" else "busy"
    assert job.message.startswith(f"what attempt 1 has left cannot be removed yet: {words}")
    assert job.message.endswith("; trying again")
    bench.store.gate.unpin("point")
    monkeypatch.undo()
    bench.hint(f"{run.id}/job")
    await bench.settle()
    assert (bench.phases(run), found) == ({"job": "Succeeded"}, [[], []])
    assert bench.leftovers() == []


async def test_a_cancel_ends_an_attempt_that_waits_for_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = await _stuck_attempt(bench, monkeypatch, "a backup")
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    with suppress(Conflict):
        await bench.settle()
    assert bench.phases(run) == {"job": "Canceled"}


async def _stuck_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch, why: str) -> tuple[runs.Run, list[list[str]]]:
    """The second attempt, while the volume of the first one cannot be destroyed; what each attempt found in it."""
    found: list[list[str]] = []
    destroy = bench.store.destroy

    def refuse(volume: str) -> None:
        if "/out-" in volume:
            raise StorageError("busy")
        destroy(volume)

    def body(inside: Inside) -> int:
        found.append(sorted(path.name for path in inside.path("/outputs/v").iterdir()))
        inside.path("/outputs/v/left").write_text("by the first")
        if len(found) == 1 and why == "a backup":
            bench.store.gate.pin("point", bench.store.volumes("runs"))
        elif len(found) == 1:
            monkeypatch.setattr(bench.store, "destroy", refuse)
        return int(len(found) == 1)

    document = flow(job=script(retry={"limit": 1, "delay": 0}, outputs={"v": {"type": "volume"}}))
    run = bench.submit(document, body={"job": body})
    for _ in range(4):
        with suppress(Conflict, StorageError):
            await bench.settle()
        bench.wait(0)
        bench.hint(f"{run.id}/job")
    return run, found


async def test_a_cancel_ends_the_wait_for_the_next_attempt_at_once(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 2, "delay": 3000})), body={"job": lambda inside: 1})
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert (bench.run(run).phase, bench.phases(run)) == ("Canceled", {"job": "Canceled"})
    assert bench.jobs(run)["job"].message == "canceled before attempt 2"
    assert bench.leftovers() == []


async def test_what_a_killed_attempt_has_left_is_not_taken_for_the_next(bench: Bench) -> None:
    """The daemon dies after it wrote that there will be another attempt, and before it removed the container."""
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 5})), body={"job": lambda inside: 1})

    def kill(call: str) -> None:
        if call == "remove" and bench.jobs(run)["job"].attempt == 2:
            bench.watch(lambda call: None)
            raise Killed

    bench.watch(kill)
    await bench.settle()
    (left,) = bench.engine.containers.values()
    assert left.state == "exited"
    bench.engine.body = {"job": lambda inside: 0}
    bench.wait(5)
    bench.hint(run.id)
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}
    assert bench.engine.starts == ["job", "job"]
    assert bench.leftovers() == []


async def test_a_sweep_removes_what_a_killed_attempt_has_left(bench: Bench) -> None:
    run = bench.submit(flow(job=script(retry={"limit": 1, "delay": 500})), body={"job": lambda inside: 1})

    def kill(call: str) -> None:
        if call == "remove":
            bench.watch(lambda call: None)
            raise Killed

    bench.watch(kill)
    await bench.settle()
    assert len(bench.engine.containers) == 1
    await bench.controller.sweep()
    assert bench.engine.containers == {}
    assert bench.phases(run) == {"job": "Pending"}
