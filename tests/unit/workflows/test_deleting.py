"""A run is deleted by hand: with all that is kept of it, and never from under anything that needs it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import pytest

from appliance.errors import Conflict, NotFound, StorageError
from appliance.state import capsules, events, models, runs, step_cache
from appliance.state.models import Model
from appliance.workflows import again
from appliance.workflows.kept import deleting
from appliance.workflows.kept.deleting import delete_run
from appliance.workflows.rooms import Rooms
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, Body, Inside, Killed, flow, script

pytestmark = pytest.mark.anyio
VOLUME = {"v": {"type": "volume"}}


def writes(inside: Inside) -> int:
    inside.path("/outputs/v/file").write_bytes(b"x" * 20_000)
    return 0


def refuses(inside: Inside) -> int:
    return 1


def never(inside: Inside) -> None:
    return None


async def ran(bench: Bench, document: Mapping[str, object], body: Mapping[str, Body], name: str = "flow") -> runs.Run:
    run = bench.submit(document, body=body, name=name)
    await bench.settle()
    return bench.run(run)


async def deleted(bench: Bench, run: runs.Run) -> int:
    return await delete_run(bench.controller.rooms, run, f"{run.workflow}.{run.number}")


async def test_it_goes_with_its_jobs_capsules_volumes_and_what_the_cache_had_of_it(bench: Bench) -> None:
    document = flow(make=script(outputs=VOLUME), bad=script("make", inputs={"v": "make.outputs.v"}))
    run = await ran(bench, document, {"make": writes, "bad": refuses})
    other = await ran(bench, flow(make=script(outputs=VOLUME, env={"A": "1"})), {"make": writes}, "other")
    assert run.kept
    assert bench.store.volumes(f"runs/{run.id}")
    assert await deleted(bench, run) >= 20_000
    assert bench.store.volumes(f"runs/{run.id}") == []
    assert bench.store.volumes("runs") == [bench.scratch.volume(other.id, "make", "v")]
    assert [entry.run for entry in step_cache.every(bench.db.read)] == [other.id]
    assert capsules.every(bench.db.read) == []
    assert [found.id for found in runs.newest(bench.db.read)] == [other.id]
    assert runs.jobs(bench.db.read, run.id) == []
    told = events.newest(bench.db.read, kind="run", name="flow.1")[-1]
    assert (told.reason, told.message) == ("Deleted", "with what was kept of it")
    with pytest.raises(NotFound):
        await deleted(bench, run)
    assert (await ran(bench, flow(good=script()), {})).number == 2


async def test_nothing_is_deleted_before_the_name_is_repeated(bench: Bench) -> None:
    run = await ran(bench, flow(bad=script()), {"bad": refuses})
    for said in ("", "flow", "flow.2"):
        with pytest.raises(Conflict, match="destroys what is kept of it") as caught:
            await delete_run(bench.controller.rooms, run, said)
        assert caught.value.hint == "confirm with the name: `appliance delete run flow.1 --confirm flow.1`"
    assert bench.run(run).kept


async def test_what_comes_to_need_it_while_its_size_is_counted_keeps_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await ran(bench, flow(good=script(), bad=script("good")), {"bad": refuses})
    count = deleting._size

    async def resumed_meanwhile(rooms: Rooms, counted: runs.Run) -> int:
        again.resume_run(bench.db, counted, now=bench.clock())
        return await count(rooms, counted)

    monkeypatch.setattr(deleting, "_size", resumed_meanwhile)
    with pytest.raises(Conflict, match=r"needed by run flow\.2, which goes on from it"):
        await deleted(bench, run)
    assert bench.run(run).kept


async def test_a_run_that_goes_on_is_not_deleted(bench: Bench) -> None:
    run = await ran(bench, flow(slow=script()), {"slow": never})
    with pytest.raises(Conflict, match=r"run flow\.1 has not ended") as caught:
        await deleted(bench, run)
    assert "appliance workflow cancel flow.1" in caught.value.hint
    assert bench.phases(run) == {"slow": "Running"}


async def test_what_needs_it_is_named(bench: Bench, clock: Clock) -> None:
    """A run that was resumed, one that was given what the cache had, and what came of it."""
    bench.datasets.create("d")
    outputs = {**VOLUME, "d": {"type": "dataset", "with": {"ref": "d"}}}
    document = flow(make=script(outputs=outputs), bad=script("make", inputs={"v": "make.outputs.v"}))
    run = await ran(bench, document, {"make": writes, "bad": refuses})
    resumed = again.resume_run(bench.db, run, now=clock.now)
    bench.hint(resumed.id)
    await bench.settle()
    hit = await ran(bench, document, {"make": writes, "bad": never})
    (version,) = bench.datasets.versions("d")
    with bench.db.write() as db:
        models.add(db, Model("m1", "net", "Custom", version.dataset, version.version, run.id, "make", clock.now))
    with pytest.raises(Conflict) as caught:
        await deleted(bench, run)
    assert caught.value.message == (
        "run flow.1 is needed by run flow.2, which goes on from it or repeats it, run flow.3, which was given its"
        f" volumes, dataset version d:{version.version}, which comes from it and 1 more"
    )
    assert bench.jobs(hit)["make"].reused == "flow.1/make"
    assert bench.run(run).kept


async def test_what_the_cache_gave_away_is_needed_until_that_run_is_over(bench: Bench) -> None:
    document = flow(make=script(outputs=VOLUME), slow=script("make", inputs={"v": "make.outputs.v"}, cache=False))
    run = await ran(bench, document, {"make": writes})
    hit = await ran(bench, document, {"slow": never})
    with pytest.raises(Conflict, match=r"needed by run flow\.2, which was given its volumes"):
        await deleted(bench, run)
    bench.engine.exit("slow", 0)
    await bench.settle()
    assert bench.run(hit).phase == "Succeeded"
    assert await deleted(bench, run) >= 20_000
    assert bench.store.volumes("runs") == []


async def test_a_capsule_of_another_run_needs_what_its_job_was_given(bench: Bench) -> None:
    document = flow(make=script(outputs=VOLUME), bad=script("make", inputs={"v": "make.outputs.v"}, cache=False))
    run = await ran(bench, document, {"make": writes})
    hit = await ran(bench, document, {"bad": refuses})
    with bench.db.write() as db:
        db.execute("UPDATE runs SET kept = 0")  # only the capsule is left
    with pytest.raises(Conflict, match=r"needed by run flow\.2, which was given its volumes"):
        await deleted(bench, run)
    await deleted(bench, hit)
    await deleted(bench, run)
    assert bench.leftovers() == []
    assert runs.newest(bench.db.read) == []


async def test_nothing_is_deleted_while_a_notebook_is_being_filled(bench: Bench) -> None:
    run = await ran(bench, flow(bad=script()), {"bad": refuses})
    bench.controller.rooms.opening.append("a notebook")
    with pytest.raises(Conflict, match="a notebook is being filled"):
        await deleted(bench, run)
    assert bench.run(run).kept


async def test_volumes_that_refuse_go_at_the_next_sweep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await ran(bench, flow(make=script(outputs=VOLUME)), {"make": writes})

    def busy(volume: str) -> None:
        raise StorageError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "destroy", busy)
        await deleted(bench, run)
    assert runs.newest(bench.db.read) == []
    assert bench.store.volumes("runs") == [bench.scratch.volume(run.id, "make", "v")]
    await bench.controller.tend(bench.clock())
    assert bench.store.volumes("runs") == []


@pytest.mark.parametrize("number", range(12))
async def test_a_kill_leaves_the_run_or_nothing_of_it(bench: Bench, number: int) -> None:
    document = flow(make=script(outputs=VOLUME), bad=script("make", inputs={"v": "make.outputs.v"}))
    run = await ran(bench, document, {"make": writes, "bad": refuses})
    count = iter(range(10**6))

    def before(call: str) -> None:
        if next(count) == number:
            raise Killed(call)

    bench.watch(before)
    with suppress(Killed):
        await deleted(bench, run)
    bench.watch(lambda call: None)
    bench.kill()
    await bench.controller.tend(bench.clock())
    assert bench.leftovers() == []
    if runs.newest(bench.db.read):
        resumed = again.resume_run(bench.db, run, now=bench.clock())
        bench.engine.body = {}
        bench.hint(resumed.id)
        await bench.settle()
        assert bench.run(resumed).phase == "Succeeded"
    else:
        assert bench.store.volumes("runs") == []
