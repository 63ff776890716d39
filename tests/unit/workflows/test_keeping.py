"""Which volumes of runs that are over stay, for how long, and what goes first."""

from __future__ import annotations

from contextlib import suppress

import pytest

from appliance.datasets import uses
from appliance.errors import NoSpace, NotFound, StorageError
from appliance.settings import load as load_settings
from appliance.state import capsules, events, runs, step_cache
from appliance.workflows import again
from appliance.workflows.kept import capsule, keeping
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio
DAY = 86_400.0
VOLUME = {"v": {"type": "volume"}}


def writes(size: int) -> object:
    def body(inside: Inside) -> int:
        inside.path("/outputs/v/file").write_bytes(b"x" * size)
        return 0

    return body


async def done(bench: Bench, name: str, *, size: int = 1, **more: object) -> runs.Run:
    document = flow(job=script(outputs=VOLUME, env={"NAME": name}, **more))
    run = bench.submit(document, name=name, body={"job": writes(size)})  # type: ignore[dict-item]
    await bench.settle()
    assert bench.run(run).phase == "Succeeded"
    return run


def volume(bench: Bench, run: runs.Run, job: str = "job") -> str:
    return bench.scratch.volume(run.id, job, "v")


async def test_only_outputs_that_the_cache_knows_outlive_their_run(bench: Bench) -> None:
    kept = await done(bench, "one")
    await done(bench, "two", cache=False)
    assert bench.store.volumes("runs") == [volume(bench, kept)]
    assert keeping.kept_runs(bench.db.read) == [kept.id]


async def test_what_was_made_a_week_ago_goes_however_often_it_was_used(bench: Bench, clock: Clock) -> None:
    used = await done(bench, "used")
    clock.now += 4 * DAY
    newer = await done(bench, "newer")
    await done(bench, "used")
    assert bench.engine.starts == ["job", "job"]
    clock.now += 4 * DAY
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == [volume(bench, newer)]
    clock.now += 4 * DAY
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []
    assert newer.id != used.id


@pytest.mark.parametrize("tended", [True, False])
async def test_a_job_that_comes_every_day_runs_once_a_week(bench: Bench, clock: Clock, tended: bool) -> None:
    """Whether the old entry was let go already or not: the daemon may have been off."""
    days = []
    for day in range(30):
        before = len(bench.engine.starts)
        await done(bench, "daily")
        if len(bench.engine.starts) > before:
            days.append(day)
        clock.now += DAY
        if tended:
            await bench.controller.tend(clock.now)
    assert days == [0, 8, 16, 24]


async def test_the_least_recently_used_goes_first_when_it_is_too_much(bench: Bench, clock: Clock) -> None:
    bench.settings = load_settings({"APPLIANCE_CACHE_MAX_GB": "0.000045"}, home=bench.settings.home)
    bench.kill()
    found = []
    for name in ("a", "b", "c", "d"):
        found.append(await done(bench, name, size=12_000))
        clock.now += 1
    await done(bench, "a")  # a hit, so `b` is the oldest now
    await bench.controller.tend(clock.now)
    kept = {volume(bench, found[number]) for number in (0, 3)}
    assert set(bench.store.volumes("runs")) == kept
    told = [event.message for event in events.newest(bench.db.read, kind="appliance")]
    assert told == ["2 entries of the step cache: it holds more than 4.5e-05 GB"]
    assert all(12_000 <= (entry.bytes or 0) < 22_500 for entry in step_cache.every(bench.db.read))
    await bench.controller.tend(clock.now)
    assert set(bench.store.volumes("runs")) == kept


async def test_the_cache_gives_way_while_disk_space_is_low(bench: Bench, clock: Clock) -> None:
    for name in ("a", "b", "c", "d"):
        await done(bench, name, size=12_000)
        clock.now += 1
    bench.submit(flow(bad=script(outputs=VOLUME)), body={"bad": lambda inside: 1})
    await bench.settle()
    bench.no_room = "waits for disk space"
    left = []
    for _ in range(3):
        await bench.controller.tend(clock.now)
        left.append(len(step_cache.every(bench.db.read)))
    assert left == [2, 1, 0]
    assert len(capsules.every(bench.db.read)) == 1


async def fails(bench: Bench, name: str) -> runs.Run:
    """`make` leaves a volume that the run keeps; the capsule of `bad` needs it too, that of `other` does not."""
    document = flow(
        make=script(outputs=VOLUME, cache=False),
        more=script(outputs=VOLUME, cache=False),
        bad=script("make", "more", inputs={"v": "make.outputs.v"}),
    )
    body = {"make": writes(1), "more": writes(1), "bad": lambda inside: 1}
    run = bench.submit(document, name=name, body=body)  # type: ignore[arg-type]
    await bench.settle()
    assert bench.run(run).kept
    return run


async def test_failed_runs_then_capsules_give_way_after_the_cache_oldest_first(bench: Bench, clock: Clock) -> None:
    await done(bench, "cached")
    failed = []
    for name in ("one", "two", "three"):
        clock.now += 1
        failed.append(await fails(bench, name))
    nothing = bench.submit(flow(bad=script()), name="empty", body={"bad": lambda inside: 1})
    await bench.settle()
    clock.now += 1
    await bench.controller.tend(clock.now)
    assert [bench.run(run).kept for run in failed] == [True, True, True]
    bench.no_room = "waits for disk space"
    left = []
    for _ in range(7):
        clock.now += 60
        await bench.controller.tend(clock.now)
        left.append(
            (
                len(step_cache.every(bench.db.read)),
                "".join(str(int(bench.run(run).kept)) for run in failed),
                "".join(str(int(capsules.find(bench.db.read, run.id, "bad") is not None)) for run in failed),
            )
        )
    assert left == [
        (0, "111", "111"),
        (0, "011", "111"),
        (0, "001", "111"),
        (0, "000", "111"),
        (0, "000", "011"),
        (0, "000", "001"),
        (0, "000", "000"),
    ]
    assert bench.run(nothing).kept
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []
    assert capsules.every(bench.db.read) == []
    assert bench.run(nothing).kept  # it holds nothing
    told = [event for event in events.newest(bench.db.read, kind="run", name="one.1") if event.reason == "Dropped"]
    assert [event.message for event in told] == [
        "its volumes go, so it cannot be resumed: disk space is low",
        "what is kept of job bad goes: disk space is low",
    ]
    assert {event.level for event in told} == {"warning"}


async def test_nothing_goes_while_a_notebook_is_being_filled(bench: Bench, clock: Clock) -> None:
    """Half a volume, copied while it is destroyed, would look whole."""
    failed = await fails(bench, "one")
    there = bench.store.volumes("runs")
    bench.no_room = "waits for disk space"
    bench.controller.rooms.opening.append("a notebook")
    clock.now += 90 * DAY
    await bench.controller.tend(clock.now)
    assert there
    assert bench.store.volumes("runs") == there
    assert bench.run(failed).kept
    bench.controller.rooms.opening.clear()
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []


async def test_a_failed_run_stays_as_long_as_a_capsule_needs_all_of_it(bench: Bench, clock: Clock) -> None:
    """Else all of them were lost before a byte is free."""
    document = flow(
        make=script(outputs=VOLUME, cache=False), bad=script("make", inputs={"v": "make.outputs.v"}, cache=False)
    )
    failed = []
    for name in ("one", "two"):
        body = {"make": writes(1), "bad": lambda inside: 1}
        failed.append(bench.submit(document, name=name, body=body))  # type: ignore[arg-type]
        await bench.settle()
        clock.now += 1
    bench.no_room = "waits for disk space"
    left = []
    for _ in range(4):
        await bench.controller.tend(clock.now)
        kept = [volume(bench, run, "make") in bench.store.volumes("runs") for run in failed]
        left.append((len(capsules.every(bench.db.read)), kept, bench.run(failed[1]).kept))
    assert left == [
        (1, [True, True], True),
        (1, [False, True], True),
        (0, [False, True], True),
        (0, [False, False], False),
    ]


async def test_what_two_failed_runs_need_goes_after_both(bench: Bench, clock: Clock) -> None:
    first = await fails(bench, "flow")
    clock.now += 1
    second = again.resume_run(bench.db, first, now=clock.now)
    bench.hint(second.id)
    await bench.settle()
    assert bench.run(second).kept
    bench.no_room = "waits for disk space"
    left = []
    for _ in range(4):
        await bench.controller.tend(clock.now)
        kept = (bench.run(first).kept, bench.run(second).kept)
        left.append((*kept, volume(bench, first, "more") in bench.store.volumes("runs")))
    assert left == [(False, True, True), (False, False, False), (False, False, False), (False, False, False)]
    assert bench.store.volumes("runs") == []
    assert capsules.every(bench.db.read) == []


async def test_capsules_are_of_the_newest_runs_of_each_workflow_that_have_any(
    bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "CAPSULE_RUNS", 2)
    made = []
    for name in ("flow", "other", "flow", "flow", "other"):
        clock.now += 1
        made.append(await fails(bench, name))
    await done(bench, "flow")
    await bench.controller.tend(clock.now)
    found = {capsule.run for capsule in capsules.every(bench.db.read)}
    assert found == {run.id for run in made[1:]}
    with pytest.raises(NotFound) as caught:
        capsule.find(bench.db.read, made[0], "bad")
    assert "of the newest 20 failed runs of a workflow" in caught.value.hint
    assert bench.leftovers() == []


async def matrix(bench: Bench, jobs: int) -> runs.Run:
    """All of its jobs fail."""
    names = [f"job{number}" for number in range(jobs)]
    body = {name: lambda inside: 1 for name in names}
    run = bench.submit(flow(**{name: script() for name in names}), body=body)
    await bench.settle()
    return run


async def test_a_matrix_that_fails_has_a_capsule_of_each_of_its_jobs(bench: Bench, clock: Clock) -> None:
    run = await matrix(bench, 30)
    await bench.controller.tend(clock.now)
    assert {capsule.job for capsule in capsules.every(bench.db.read, run=run.id)} == set(bench.jobs(run))


async def test_of_many_capsules_whole_runs_go_the_newest_never(
    bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "CAPSULES", 8)
    left = []
    for jobs in (3, 4, 2, 5, 9, 1):
        clock.now += 1
        await matrix(bench, jobs)
        await bench.controller.tend(clock.now)
        held = [capsule.run for capsule in capsules.every(bench.db.read)]
        left.append([held.count(run) for run in dict.fromkeys(held)])
    assert left == [[3], [4, 3], [2, 4], [5, 2], [9], [1]]


async def test_nothing_is_old_by_a_clock_that_is_not_trusted(bench: Bench, clock: Clock) -> None:
    cached = await done(bench, "one")
    failed = await fails(bench, "two")
    there = bench.store.volumes("runs")
    clock.now += 9_000 * DAY
    await bench.controller.tend(clock.now, by_age=False)
    assert bench.store.volumes("runs") == there
    assert bench.run(failed).kept
    assert {entry.run for entry in step_cache.every(bench.db.read)} == {cached.id}
    bench.no_room = "waits for disk space"  # what is too much goes all the same
    await bench.controller.tend(clock.now, by_age=False)
    assert step_cache.every(bench.db.read) == []
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []


async def test_what_stays_is_told_without_reading_a_log(bench: Bench) -> None:
    run = await fails(bench, "flow")
    asked: list[str] = []
    bench.db.read.set_trace_callback(asked.append)
    try:
        assert keeping.needed(bench.db.read)
        assert keeping.kept_runs(bench.db.read) == [run.id]
        uses.of_versions(bench.db.read)
        assert capsule.holds(bench.db.read, run.id, "bad")
    finally:
        bench.db.read.set_trace_callback(None)
    about = [statement for statement in asked if "FROM capsules" in statement]
    assert len(about) == 4
    assert not [statement for statement in about if "*" in statement or "log" in statement]


async def test_a_failed_run_and_its_capsule_go_after_their_time(bench: Bench, clock: Clock) -> None:
    document = flow(
        make=script(outputs=VOLUME, cache=False),
        bad=script("make", inputs={"v": "make.outputs.v"}, outputs=VOLUME),
    )
    run = bench.submit(document, body={"make": writes(1), "bad": lambda inside: 1})  # type: ignore[dict-item]
    await bench.settle()
    assert {volume(bench, run, "make"), volume(bench, run, "bad")} < set(bench.store.volumes("runs"))
    clock.now += 6 * DAY
    await bench.controller.tend(clock.now)
    assert volume(bench, run, "make") in bench.store.volumes("runs")
    clock.now += 2 * DAY
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []
    assert capsules.every(bench.db.read) == []
    assert not bench.run(run).kept


async def test_what_an_unfinished_run_was_given_stays_whatever_becomes_of_the_rest(bench: Bench, clock: Clock) -> None:
    document = flow(
        make=script(outputs=VOLUME),
        bad=script("make", inputs={"v": "make.outputs.v"}),
        late=script("bad", inputs={"v": "make.outputs.v"}),
    )
    run = bench.submit(document, body={"make": writes(1), "bad": lambda inside: 1})  # type: ignore[dict-item]
    await bench.settle()
    bench.engine.body = {"bad": lambda inside: None}
    resumed = again.resume_run(bench.db, run, now=clock.now)
    bench.hint(resumed.id)
    await bench.settle()
    assert bench.phases(resumed) == {"make": "Succeeded", "bad": "Running", "late": "Pending"}
    clock.now += 30 * DAY
    await bench.controller.tend(clock.now)
    assert step_cache.every(bench.db.read) == []
    assert not bench.run(run).kept
    assert volume(bench, run, "make") in bench.store.volumes("runs")
    bench.engine.exit("bad", 0)
    await bench.settle()
    assert bench.run(resumed).phase == "Succeeded"
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []


async def test_a_canceled_run_keeps_nothing(bench: Bench) -> None:
    from appliance.workflows.submit import cancel_run

    document = flow(make=script(outputs=VOLUME, cache=False), slow=script("make"))
    run = bench.submit(document, body={"make": writes(1), "slow": lambda inside: None})  # type: ignore[dict-item]
    await bench.settle()
    cancel_run(bench.db, run.id, now=bench.clock())
    bench.hint(run.id)
    await bench.settle()
    assert bench.store.volumes("runs") == []


@pytest.mark.parametrize("number", range(0, 24, 2))
async def test_a_sweep_that_is_killed_is_finished_by_the_next_one(bench: Bench, clock: Clock, number: int) -> None:
    for name in ("a", "b", "c"):
        await done(bench, name, size=5_000)
    running = bench.submit(flow(job=script(outputs=VOLUME)), name="on", body={"job": lambda inside: None})
    await bench.settle()
    mine = {name for name in bench.store.volumes("runs") if running.id in name}
    clock.now += 8 * DAY
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    bench.watch(before)
    with suppress(Killed):
        await bench.controller.tend(clock.now)
    bench.watch(lambda call: None)
    bench.kill()
    await bench.controller.tend(clock.now)
    assert set(bench.store.volumes("runs")) == mine


async def test_what_refuses_to_go_is_tried_again(bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await done(bench, "a")
    clock.now += 8 * DAY

    def refuse(volume: str) -> None:
        raise StorageError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "destroy", refuse)
        await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == [volume(bench, run)]
    await bench.controller.tend(clock.now)
    assert bench.store.volumes("runs") == []


async def test_the_sweep_at_the_start_spares_what_is_kept(bench: Bench) -> None:
    run = await done(bench, "a")
    bench.store.create("runs/" + "f" * 32 + "/job/out-x")
    await bench.controller.sweep()
    assert bench.store.volumes("runs") == [volume(bench, run)]


async def test_a_store_that_refuses_ends_a_job_in_words_with_nothing_committed(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {**VOLUME, "d": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(flow(job=script(outputs=outputs)), body={"job": writes(1)})  # type: ignore[dict-item]
    original = bench.store.snapshot

    def refuse(volume: str, snapshot: str) -> None:
        raise StorageError("out of space", hint="free some")

    bench.store.snapshot = refuse  # type: ignore[method-assign]
    for _ in range(40):
        try:
            await bench.settle()
        except StorageError:
            assert "trying again" in bench.jobs(run)["job"].message
            bench.hint(f"{run.id}/job")
            continue
        break
    bench.store.snapshot = original  # type: ignore[method-assign]
    await bench.settle()
    assert bench.phases(run) == {"job": "Failed"}
    assert bench.jobs(run)["job"].message == "its outputs cannot be stored: out of space (next: free some)"
    assert bench.datasets.versions("digits") == []
    assert bench.engine.starts == ["job"]
    assert bench.leftovers() == []


@pytest.mark.parametrize("call", ["create", "clone"])
async def test_a_full_disk_before_a_job_ends_it_in_words(
    bench: Bench, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = flow(
        make=script(outputs=VOLUME),
        read=script("make", inputs={"v": "make.outputs.v"}, outputs={"w": {"type": "volume"}}),
    )
    original = getattr(bench.store, call)

    def full(volume: str, *rest: object, **more: object) -> object:
        if any("/read/" in str(name) for name in (volume, *rest)):
            raise NoSpace("the disk is full", hint="free some space")
        return original(volume, *rest, **more)

    monkeypatch.setattr(bench.store, call, full)
    run = bench.submit(document, body={"make": writes(1)})  # type: ignore[dict-item]
    await bench.settle()
    assert bench.phases(run) == {"make": "Succeeded", "read": "Error"}
    assert bench.jobs(run)["read"].message == "the disk is full (next: free some space)"
    assert bench.engine.starts == ["make"]
    assert bench.leftovers() == []
    monkeypatch.undo()
    resumed = again.resume_run(bench.db, run, now=bench.clock())
    bench.hint(resumed.id)
    await bench.settle()
    assert bench.run(resumed).phase == "Succeeded"
    assert bench.engine.starts == ["make", "read"]


async def test_a_volume_that_vanished_ends_its_reader_in_words(bench: Bench) -> None:
    document = flow(
        make=script(outputs=VOLUME), slow=script("make"), read=script("slow", inputs={"v": "make.outputs.v"})
    )
    body = {"make": writes(1), "slow": lambda inside: None}
    run = bench.submit(document, body=body)  # type: ignore[arg-type]
    await bench.settle()
    bench.store.destroy(volume(bench, run, "make"))
    bench.engine.exit("slow", 0)
    await bench.settle()
    assert bench.phases(run)["read"] == "Error"
    assert "input 'v': the volume 'v' that job 'make' made is gone" in bench.jobs(run)["read"].message


async def test_a_dataset_that_is_deleted_while_a_job_writes_it_fails_the_job(bench: Bench) -> None:
    bench.datasets.create("digits")
    outputs = {**VOLUME, "d": {"type": "dataset", "with": {"ref": "digits"}}}
    run = bench.submit(flow(job=script(outputs=outputs)), body={"job": lambda inside: None})
    await bench.settle()
    with bench.db.write() as db:
        db.execute("DELETE FROM resources")
    bench.engine.exit("job", 0)
    await bench.settle()
    assert bench.phases(run) == {"job": "Failed"}
    assert "no dataset 'digits'" in bench.jobs(run)["job"].message
    assert step_cache.every(bench.db.read) == []
    assert bench.leftovers() == []
