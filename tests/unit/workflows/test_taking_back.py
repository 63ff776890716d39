"""A deploy@v1 job takes back only what it has changed itself: to the document, source and switch that it found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.apply import REMOVED, apply, switch, withdraw
from appliance.settings import load
from appliance.spec.load import load_text
from appliance.spec.models import DeployAction, Workflow
from appliance.state import resources, runs
from appliance.workflows.refusals import Settled
from appliance.workflows.steps import begun, hosted
from tests.conftest import Clock
from tests.unit.workflows.desk import DEPLOY, SPEC, Desk

pytestmark = pytest.mark.anyio

Work = tuple[runs.Run, Workflow]
FILE = "file:web.yaml"
NEW, NEWER = (DeployAction(name="web", spec={**SPEC, "image": image}) for image in ("model-a", "model-b"))


def declare(desk: Desk, spec: Mapping[str, Any] = SPEC, *, source: str = "cli") -> None:
    loaded = load_text(json.dumps(spec), file="web.yaml", name="web", kind="deployment")
    apply(desk.db, loaded, source=source, now=0.0)


def take_away(desk: Desk) -> None:
    """Its file goes."""
    with desk.db.write() as db:
        withdraw(db, "deployment", "web", source=FILE, now=0.0)


def turn(desk: Desk, desired: str) -> None:
    with desk.db.write() as db:
        switch(db, desk.web(), desired, source="cli", now=0.0)


def serves(desk: Desk) -> None:
    desk.observe("Ready", generation_ready=desk.web().generation)


def stop(desk: Desk, work: Work) -> hosted.Done | str:
    return hosted.stop(desk.rooms, *work, desk.row(work[0]))


def again(desk: Desk, work: Work) -> None:
    """Its next attempt."""
    with desk.db.write() as db:
        assert runs.try_again(db, work[0].id, "act", "Running", at=0.0, message="")
        assert runs.move_job(db, work[0].id, "act", "Pending", "Running", started=desk.clock.now)


def declared(desk: Desk) -> tuple[str, str, dict[str, Any]]:
    return desk.web().source, desk.web().desired, desk.web().spec


async def test_one_that_moved_from_a_file_to_the_command_line_goes_on_serving(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    declare(desk)
    serves(desk)
    work = desk.job(NEW)
    await desk.act(work)
    assert stop(desk, work) == "deployment web is as it was in generation 1, and generation 2 is given up"
    assert declared(desk) == ("cli", "running", SPEC)


async def test_one_that_was_adopted_between_two_attempts_is_its_users(desk: Desk) -> None:
    work = desk.job(DEPLOY)
    await desk.act(work)
    desk.observe("Failed", "crash loop", generation_ready=0)
    again(desk, work)
    declare(desk)
    serves(desk)
    assert await desk.act(work) == "deployment web is unchanged"
    desk.observe("Degraded", "1 of 2 replicas ready", generation_ready=0)
    assert stop(desk, work) == "deployment web stays as it was declared before, and may yet become ready"
    assert declared(desk) == ("cli", "running", SPEC)


async def test_one_that_was_started_by_hand_goes_on_serving(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    turn(desk, "running")
    assert desk.web().source == "cli"
    serves(desk)
    work = desk.job(NEW)
    await desk.act(work)
    stop(desk, work)
    assert declared(desk) == ("cli", "running", SPEC)


async def test_one_that_an_earlier_run_took_over_goes_on_serving(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    declare(desk)
    serves(desk)
    earlier = desk.job(DEPLOY)
    await desk.act(earlier)
    assert isinstance(await desk.act(earlier), hosted.Done)
    before = declared(desk)
    assert before == ("run:flow.1/act", "running", SPEC)
    work = desk.job(NEW)
    await desk.act(work)
    stop(desk, work)
    assert declared(desk) == before


async def test_one_that_serves_is_not_made_anew_for_a_file_that_is_gone(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    with desk.db.write() as db:  # the source alone says nothing
        resources.set_desired(db, desk.web().uid, "running", now=0.0)
    serves(desk)
    work = desk.job(DEPLOY)
    assert await desk.act(work) == "deployment web is unchanged"
    desk.observe("Degraded", "1 of 2 replicas ready", generation_ready=0)
    stop(desk, work)
    assert declared(desk) == (f"{REMOVED}{FILE}", "running", SPEC)


async def test_one_that_was_stopped_by_hand_after_its_file_went_is_not_started(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    turn(desk, "stopped")
    with pytest.raises(Settled, match="it was stopped by hand"):
        await desk.act(desk.job(NEW))
    assert desk.web().desired == "stopped"


async def test_what_was_there_before_the_first_attempt_is_known_at_the_last(desk: Desk) -> None:
    declare(desk, source=FILE)
    take_away(desk)
    before = declared(desk)
    work = desk.job(NEW)
    for attempt in (1, 2, 3):
        await desk.act(work)
        desk.observe("Failed", "crash loop", generation_ready=0)
        assert begun.read(desk.row(work[0]).begun).attempt == attempt
        if attempt < 3:
            again(desk, work)
            assert stop(desk, work) == "", "this attempt has declared nothing yet"
    assert stop(desk, work) == "deployment web is stopped again, as it was before"
    assert declared(desk) == before


async def test_of_what_was_there_before_nothing_may_be_known(desk: Desk) -> None:
    """The daemon that began it did not write it down."""
    work = desk.job(DEPLOY)
    await desk.act(work)
    with desk.db.write() as db:
        runs.move_job(db, work[0].id, "act", "Running", "Running", begun=f"{desk.web().uid} 1")
    assert stop(desk, work) == "deployment web stays as it is: what was declared before is not known"
    assert desk.web().desired == "running"


# two runs that deploy the same one


@pytest.mark.parametrize("order", ["first, then second", "second, then first", "the first was told"])
async def test_a_model_that_was_given_up_does_not_come_back(desk: Desk, order: str) -> None:
    declare(desk)
    serves(desk)
    first, second = desk.job(NEW), desk.job(NEWER)
    await desk.act(first)
    await desk.act(second)
    if order == "the first was told":
        with pytest.raises(Settled, match="generation 3 was applied before generation 2 was ready"):
            await desk.act(first)
        stop(desk, second)
    else:
        for work in (first, second) if order.startswith("first") else (second, first):
            stop(desk, work)
    assert declared(desk) == ("cli", "running", SPEC)


async def test_two_that_deploy_the_same_document_are_both_given_up(desk: Desk) -> None:
    declare(desk)
    serves(desk)
    first, second = desk.job(NEW), desk.job(NEW)
    await desk.act(first)
    await desk.act(second)
    stop(desk, first)
    stop(desk, second)
    assert declared(desk) == ("cli", "running", SPEC)


async def test_what_failed_stays_the_place_to_go_back_to(desk: Desk) -> None:
    """It waits to be repaired."""
    declare(desk)
    serves(desk)
    await desk.act(desk.job(NEW))
    desk.observe("Failed", "crash loop")
    before = declared(desk)
    work = desk.job(NEWER)
    await desk.act(work)
    stop(desk, work)
    assert declared(desk) == before


# the law

OTHERS = ("apply", "apply another", "adopt", "start", "stop", "scale", "file", "file goes", "ready", "fails")


def somebody(desk: Desk, act: str) -> None:
    there = resources.find(desk.db.read, "deployment", "web")
    match act:
        case "file":
            declare(desk, source=FILE)
        case "apply" | "apply another":
            declare(desk, SPEC if act == "apply" else {**SPEC, "image": "another"})
        case "adopt":
            declare(desk, NEW.spec)
        case _ if there is None:
            pass
        case "start" | "stop":
            turn(desk, "running" if act == "start" else "stopped")
        case "scale":
            more = {**SPEC["resources"], "replicas": 2 + there.generation}  # type: ignore[dict-item]
            with desk.db.write() as db:
                resources.put(db, "deployment", "web", {**there.spec, "resources": more}, source=there.source, now=0.0)
        case "file goes":
            take_away(desk)
        case "ready":
            serves(desk)
        case _:
            desk.observe("Failed", "crash loop")


@given(before=st.lists(st.sampled_from(OTHERS), max_size=5), acts=st.lists(st.sampled_from((*OTHERS, "retry"))))
def test_whatever_came_before_only_its_own_change_is_taken_back(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], acts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("desk")
    desk = Desk(load({}, home=folder / "home"), Clock(), folder)
    try:
        asyncio.run(one_history(desk, before, acts))
    finally:
        desk.db.close()


async def one_history(desk: Desk, before: list[str], acts: list[str]) -> None:
    def state() -> tuple[Any, ...] | None:
        there = resources.find(desk.db.read, "deployment", "web")
        return (there.source, there.desired, there.spec, there.generation) if there else None

    for act in before:
        somebody(desk, act)
    work = desk.job(NEW)
    found: tuple[Any, ...] | None = None
    left: tuple[Any, ...] | None = ()
    for act in ("begin", *acts):
        if act not in ("begin", "retry"):
            somebody(desk, act)
            continue
        if act == "retry":
            again(desk, work)
        at_first = state()
        with suppress(Settled):
            await desk.act(work)
            found, left = found if at_first == left else at_first, state()
    last = state()
    said = stop(desk, work)
    mine = begun.of(desk.row(work[0]))
    if mine is None or isinstance(said, hosted.Done) or last is None or left is None or last[:3] != left[:3]:
        assert state() == last
    elif found is None:
        assert desk.web().desired == "stopped"
    else:
        assert declared(desk) == found[:3]
