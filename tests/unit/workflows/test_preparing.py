"""What is done at the same time before a job starts, and what comes of it where one of both fails."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from appliance.errors import NoSuchImage, StorageError
from tests.unit.workflows.fakes import Bench, flow, script

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0
VOLUME = {"v": {"type": "volume"}}


@pytest.mark.parametrize("job", [script(), script(cache=False, outputs=VOLUME)])
async def test_the_volumes_are_made_while_the_image_is_looked_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any]
) -> None:
    ensure, made, loop = bench.engine.ensure, asyncio.Event(), asyncio.get_running_loop()

    async def waits_for_a_volume(ref: str, progress: Any, **_: Any) -> str:
        async with asyncio.timeout(PATIENCE_S):
            await made.wait()
        return await ensure(ref, progress)

    def before(call: str) -> None:
        if call == "create volume done":
            loop.call_soon_threadsafe(made.set)

    monkeypatch.setattr(bench.engine, "ensure", waits_for_a_volume)
    bench.store.before = before
    run = bench.submit(flow(job=job))
    await bench.settle()
    assert bench.phases(run) == {"job": "Succeeded"}


@pytest.mark.parametrize(("registries", "phase"), [(["mine"], "Succeeded"), (["other"], "Error"), ([], "Error")])
async def test_an_image_comes_with_the_login_that_the_file_names(
    bench: Bench, registries: list[str], phase: str
) -> None:
    bench.engine.private = {"busybox": "mine"}
    run = bench.submit({"defaults": {"resources": {"container-registries": registries}}, **flow(job=script())})
    await bench.settle()
    assert bench.phases(run) == {"job": phase}


async def test_a_job_that_may_be_given_earlier_outputs_makes_its_volumes_once_that_is_known(bench: Bench) -> None:
    calls: list[str] = []
    bench.watch(calls.append)
    bench.submit(flow(job=script(outputs=VOLUME)))
    await bench.settle()
    assert calls.index("ensure") < calls.index("create volume")
    first = len(bench.store.volumes("runs"))
    again = bench.submit(flow(job=script(outputs=VOLUME)))
    await bench.settle()
    assert bench.jobs(again)["job"].reused == "flow.1/job"
    assert len(bench.store.volumes("runs")) == first


async def test_without_an_image_the_volumes_go_once_they_are_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, order = threading.Event(), list[str]()

    async def ensure(ref: str, progress: Any, **_: Any) -> str:
        order.append("no image")
        missing.set()
        raise NoSuchImage("no such image")

    def before(call: str) -> None:
        if call == "create volume":
            assert missing.wait(PATIENCE_S)
        if call in ("create volume done", "destroy"):
            order.append(call)

    monkeypatch.setattr(bench.engine, "ensure", ensure)
    bench.store.before = before
    run = bench.submit(flow(job=script(outputs=VOLUME, cache=False)))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert order[0] == "no image"
    created = [place for place, call in enumerate(order) if call == "create volume done"]
    assert max(created) < order.index("destroy")
    assert bench.leftovers() == []


async def test_what_the_store_refuses_is_said_as_ever(bench: Bench) -> None:
    def before(call: str) -> None:
        if call == "create volume":
            raise StorageError("the pool is gone", hint="look at it")

    bench.store.before = before
    run = bench.submit(flow(job=script()))
    await bench.settle()
    assert bench.phases(run) == {"job": "Error"}
    assert bench.jobs(run)["job"].message == "the pool is gone (next: look at it)"
