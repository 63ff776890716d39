"""Another image or name for a notebook, and another session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Conflict, NotFound, RouterError, SpecError, UsageError
from appliance.notebooks.changing import Change, changed, variables
from appliance.spec.load import parse
from appliance.state import events, resources
from appliance.state.resources import Resource
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as house

pytestmark = pytest.mark.anyio
NAMES = st.sampled_from(["A", "B", "C", "D"])
ENVS = st.dictionaries(NAMES, st.text(max_size=5))


async def begun(house: House) -> Resource:
    house.declare({"kind": "notebook", "name": "nb", "image": "one", "env": {"A": "1", "B": "2"}})
    row = await house.run("Running")
    (await house.workspaces.open(row.uid) / "a.txt").write_text("precious")
    return row


def watched(house: House) -> None:
    with house.db.write() as db:
        resources.set_source(db, house.row.uid, "file:nb.yaml")


@given(before=ENVS, more=ENVS, listed=st.booleans())
async def test_variables_are_set_and_unset_and_the_others_stay(
    before: dict[str, str], more: dict[str, str], listed: bool
) -> None:
    env = [{"name": name, "value": value} for name, value in before.items()] if listed else before
    document = {"image": "i", "env": env}
    taken = sorted(before)[:1]
    after = changed(document, Change({}, more, taken))
    expected = {name: value for name, value in {**before, **more}.items() if name not in taken}
    assert variables(after.get("env")) == expected
    assert after["image"] == "i"


def test_a_change_of_nothing_is_none_and_empty_takes_a_key_out() -> None:
    document = {"image": "i", "gpus": 1, "env": {"A": "1"}}
    assert changed(document, Change()) == document
    assert changed(document, Change({"image": "", "gpus": 0})) == {"gpus": 0, "env": {"A": "1"}}
    idle = {"idle": {"after": "1h", "gpu": False}}
    assert changed(idle, Change({"idle": "30m"})) == {"idle": {"after": "30m", "gpu": False}}
    assert document["image"] == "i", "what was given stays as it is"
    with pytest.raises(UsageError, match="'command' cannot be set so"):
        changed(document, Change({"command": "x"}))
    with pytest.raises(UsageError, match="no variable 'Z'"):
        changed(document, Change(unset_env=["Z"]))


async def test_who_pays_and_who_comes_first_may_change_while_the_session_goes_on(house: House) -> None:
    await begun(house)
    (container,) = house.engine.containers
    change = Change({"owner": "anna", "priority": 20, "preemptible": True})
    after, session = await house.notebooks.changing.set("nb", change)
    assert not session
    assert {key: after.spec[key] for key in change.values} == change.values
    await house.run("Running")
    assert list(house.engine.containers) == [container]
    after, _ = await house.notebooks.changing.set("nb", Change({"owner": ""}))
    assert "owner" not in after.spec


async def test_a_change_declares_it_and_another_session_follows(house: House) -> None:
    row = await begun(house)
    after, session = await house.notebooks.changing.set(
        "nb", Change({"image": "two", "idle": "30m"}, {"C": "3"}, ["A"]), generation=row.generation
    )
    assert session
    assert (after.generation, after.uid, after.source) == (row.generation + 1, row.uid, "cli")
    assert after.spec["env"] == {"B": "2", "C": "3"}
    spec = parse("notebook", "nb", after.spec)
    assert spec.idle.after_s == 1800  # type: ignore[union-attr]
    now = await house.run("Running")
    while now.status["session"] == row.status["session"]:
        await house.controller.reconcile(row.uid)
        now = house.row
    assert house.engine.specs[now.status["container"] or house.row.status["container"]].image == "two"
    assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"


async def test_what_a_session_is_not_made_of_leaves_it_alone(house: House) -> None:
    row = await begun(house)
    _, session = await house.notebooks.changing.set("nb", Change({"idle": "1h"}))
    assert not session
    await house.controller.reconcile(row.uid)
    assert house.row.status["container"] == row.status["container"]


async def test_without_a_start_its_session_ends(house: House) -> None:
    await begun(house)
    after, _ = await house.notebooks.changing.set("nb", Change({"image": "two"}), start=False)
    assert after.desired == "stopped"
    await house.run("Stopped")
    assert house.engine.containers == {}


async def test_what_cannot_be_changes_nothing(house: House) -> None:
    row = await begun(house)
    changing = house.notebooks.changing
    with pytest.raises(SpecError, match="user"):
        await changing.set("nb", Change({"user": "root"}))
    with pytest.raises(Conflict, match="is at generation 1, not 7"):
        await changing.set("nb", Change({"image": "two"}), generation=7)
    with pytest.raises(NotFound):
        await changing.set("none", Change({"image": "two"}))
    watched(house)
    with pytest.raises(Conflict, match=r"declared by nb.yaml"):
        await changing.set("nb", Change({"image": "two"}))
    assert (house.row.generation, house.row.spec) == (row.generation, row.spec)


async def test_what_a_file_has_given_up_stays_at_rest_and_is_nobodys(house: House) -> None:
    row = await begun(house)
    with house.db.write() as db:
        resources.set_source(db, row.uid, "removed:file:nb.yaml")
    house.ask("stopped")
    await house.run("Stopped")
    after, _ = await house.notebooks.changing.set("nb", Change({"image": "two"}))
    assert (after.desired, after.source) == ("stopped", "cli")
    with house.db.write() as db:
        resources.set_source(db, row.uid, "removed:file:nb.yaml")
    assert (await house.notebooks.renaming.rename("nb", "new")).source == "cli"


async def test_a_restart_keeps_a_snapshot_and_begins_another_session(house: House) -> None:
    row = await begun(house)
    answered = await house.notebooks.changing.restart("nb", author="ada")
    assert (answered.phase, answered.desired) == ("Starting", "running"), "whoever waits does not see the old session"
    now = await house.run("Running")
    assert now.status["session"] == row.status["session"] + 1
    assert "stop" in house.causes
    assert "Restart" in house.reasons
    house.ask("stopped")
    await house.run("Stopped")
    await house.notebooks.changing.restart("nb")
    assert (await house.run("Running")).desired == "running"


async def test_renamed_it_keeps_all_but_its_address(house: House) -> None:
    row = await begun(house)
    await house.notebooks.history.snapshot("nb", "good")
    made = await house.notebooks.renaming.rename("nb", "new", author="ada")
    assert (made.uid, made.name, made.spec["name"], made.desired) == (row.uid, "new", "new", "running")
    assert made.status["token"] == row.status["token"]
    assert made.status["url_path"] == "/notebooks/new/"
    assert house.router.routes == {}, "nothing is left at the old address"
    assert house.hints[-1] == row.uid
    while resources.get(house.db.read, "notebook", "new").phase != "Running":
        await house.controller.reconcile(row.uid)
    assert list(house.router.routes) == ["/notebooks/new"]
    (container,) = house.engine.containers.values()
    assert "-notebook-new-" in container.name
    assert "good" in [moment.message for moment in house.workspaces.timeline(row.uid)]
    assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"
    told = events.newest(house.db.read, kind="notebook", name="new")
    assert "notebook nb" in next(event.message for event in told if event.reason == "Renamed")
    assert events.newest(house.db.read, kind="notebook", name="nb")[-1].message.startswith("it is notebook new")
    revisions = list(resources.revisions(house.db.read, row.uid))
    assert [revision.spec["name"] for revision in revisions] == ["new", "nb"]
    house.declare()  # the old name is free


async def test_its_old_names_lead_to_it(house: House) -> None:
    await begun(house)
    for old, new in [("nb", "two"), ("two", "nb")]:
        await house.notebooks.renaming.rename(old, new)
    made = await house.notebooks.renaming.rename("nb", "three")
    assert made.status["former"] == ["two", "nb"]
    await house.controller.reconcile(made.uid)
    for name, found in [("nb", "three"), ("two", "three"), ("three", None), ("other", None)]:
        row = resources.formerly(house.db.read, "notebook", name)
        assert (row.name if row else None) == found


async def test_renamed_at_rest_it_rests(house: House) -> None:
    await begun(house)
    house.ask("stopped")
    await house.run("Stopped")
    made = await house.notebooks.renaming.rename("nb", "new")
    assert made.desired == "stopped"


@pytest.mark.parametrize("new", ["", "../x", "A B", "nb", "taken", "x" * 200])
async def test_no_name_or_a_taken_one_is_refused_and_the_session_goes_on(house: House, new: str) -> None:
    row = await begun(house)
    house.declare(name="taken")
    with pytest.raises((UsageError, Conflict)):
        await house.notebooks.renaming.rename("nb", new)
    await house.controller.reconcile(row.uid)
    assert house.row.status["container"] == row.status["container"]


async def test_what_a_file_declares_is_renamed_there(house: House) -> None:
    await begun(house)
    watched(house)
    with pytest.raises(Conflict, match=r"declared by nb.yaml") as refused:
        await house.notebooks.renaming.rename("nb", "new")
    assert "change it there" in refused.value.hint


async def test_a_kill_during_a_rename_leaves_the_old_name_or_the_new_one(house: House) -> None:
    rooms = ((house.engine, ("stop", "remove")), (house.router, ("set_route", "drop_route")))
    for instant in range(50):
        row = await begun(house)
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        try:
            await house.notebooks.renaming.rename("nb", "new")
        except Killed:
            await house.notebooks.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        house.notebooks = house.another()
        found = resources.find_uid(house.db.read, row.uid)
        assert found
        while (found := resources.get(house.db.read, "notebook", found.name)).phase != "Running" or (
            f"/notebooks/{found.name}" not in house.router.routes
        ):
            await house.controller.reconcile(row.uid)
        assert list(house.router.routes) == [f"/notebooks/{found.name}"]
        assert (await house.workspaces.open(row.uid) / "a.txt").read_text() == "precious"
        with house.db.write() as db:
            resources.set_deleting(db, row.uid, now=house.clock(), purge=True)
        while resources.find_uid(house.db.read, row.uid):
            await house.controller.reconcile(row.uid)
        if not mortality.dead:
            assert instant > 3
            return
    raise AssertionError("it never ended")


async def test_no_session_ends_that_none_can_follow(house: House) -> None:
    row = await begun(house)
    house.no_room = "the disk is nearly full; free some"
    changing, renaming = house.notebooks.changing, house.notebooks.renaming
    for ends in (changing.restart("nb"), renaming.rename("nb", "new")):
        with pytest.raises(Conflict, match="nothing was changed: the disk is nearly full"):
            await ends
    house.no_room, house.router.down = "", True
    with pytest.raises(RouterError):
        await renaming.rename("nb", "new")
    house.router.down = False
    now = await house.run("Running")
    assert (now.name, now.status["container"]) == ("nb", row.status["container"])
    assert house.targets == [house.engine.port]
    house.no_room = "the disk is nearly full; free some"
    house.ask("stopped")
    await house.run("Stopped")
    assert (await renaming.rename("nb", "new")).name == "new", "nothing ends"
    assert (await changing.restart("new")).desired == "running"


@pytest.mark.parametrize(("first", "then"), [("running", "stopped"), ("stopped", "running")])
async def test_a_stop_or_start_while_the_change_is_read_is_not_undone(
    house: House, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    await begun(house)
    house.ask(first)

    async def slowly(call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        house.ask(then)
        return call(*arguments, **more)

    monkeypatch.setattr(asyncio, "to_thread", slowly)
    after, _ = await house.notebooks.changing.set("nb", Change({"idle": "1h"}))
    assert after.desired == then
