"""A generation that begins from nothing: other replicas of the same spec, their image and models looked up again."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from appliance.revisions import restart
from appliance.state import resources
from appliance.state.resources import Resource
from tests.unit.deployments.house import House, short, spec

pytestmark = pytest.mark.anyio


def again(house: House) -> Resource:
    house.clock.now += 0.5
    with house.db.write() as db:
        return restart(db, house.row, source="run:flow.2/deploy", now=house.clock())


async def loop(house: House, phase: str) -> Resource:
    """Until the newest generation is a crash loop."""
    return await house.until(lambda: _skip(house) and house.row.phase == phase)


def _skip(house: House) -> bool:
    house.clock.now += 1.0
    for container in house.running("bad"):
        house.engine.end(container.id, 1)
    return house.row.observed == house.row.generation


async def test_a_crash_loop_is_left_behind_with_its_pauses(house: House) -> None:
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    failed = await loop(house, "Failed")
    house.engine.exit_codes["bad"] = 0
    afresh = again(house)
    assert (afresh.generation, afresh.spec) == (2, failed.spec)
    row = await house.settle()
    assert row.status["generation_ready"] == 2
    assert {one.name[-6:] for one in house.running()} == {"-2-0-0", "-2-1-0"}
    assert house.clock.now < afresh.updated + 60, "it did not wait for the pauses of the crash loop"
    kept = [revision.generation for revision in resources.revisions(house.db.read, row.uid)]
    assert kept == [2, 1]


async def test_the_image_is_looked_up_again_and_no_replica_of_the_former_one_counts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    await house.until(lambda: len(house.running("bad")) == 2)

    async def repaired(ref: str, progress: Callable[[str], None], *, registries: Collection[str] = ()) -> str:
        return "repaired"

    monkeypatch.setattr(house.images, "ensure", repaired)
    again(house)
    await house.settle()
    assert len(house.running("repaired")) == 2
    assert house.served == short(house.running("repaired"))
    assert house.running("bad") == []


async def test_what_was_ready_before_serves_until_the_fresh_one_is(house: House) -> None:
    house.declare(spec("one"))
    await house.settle()
    before = house.served
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    await loop(house, "Degraded")
    again(house)
    await house.run("Updating", "Degraded")
    assert house.served == before
    house.engine.exit_codes["bad"] = 0
    await house.settle()
    assert house.served == short(house.running("bad"))


async def test_a_failure_of_the_generation_before_is_not_said_of_the_fresh_one(house: House) -> None:
    house.engine.exit_codes["bad"] = 1
    house.declare(spec("bad"))
    failed = await loop(house, "Failed")
    afresh = again(house)
    assert afresh.observed == failed.generation, "what is shown was observed of the one before"
    with house.db.write() as db:  # the look that was under way when it began
        stale = resources.set_status(db, failed.uid, generation=failed.generation, phase="Failed", message="crash loop")
    assert stale is False
    row = await house.run("Starting", "Preparing")
    assert "crash loop" not in row.message


async def test_to_scale_it_keeps_its_replicas(house: House) -> None:
    house.declare(spec("one", replicas=1))
    await house.settle()
    again(house)
    await house.until(lambda: house.row.status["generation_ready"] == 2)
    await house.settle()
    (first,) = house.running()
    house.declare(spec("one", replicas=2))
    await house.settle()
    assert first in house.running()
