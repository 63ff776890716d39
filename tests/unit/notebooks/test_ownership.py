"""Whose a notebook's files are, through all that a session may do to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import Conflict
from appliance.notebooks import ownership
from appliance.notebooks.beside import Beside
from appliance.notebooks.ownership import Ownership
from appliance.spec.models import Notebook
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as house
from tests.unit.notebooks.test_executing import Room

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")]


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


async def database(house: House) -> Path:
    """In the workspace: a folder that its session has given to a user of its own, and the top to another."""
    path = await house.workspaces.open(house.row.uid)
    (path / "pg").mkdir()
    (path / "pg" / "data").write_text("x")
    for one in (path / "pg", path / "pg" / "data"):
        os.chown(one, 999, 999)
    os.chown(path, 1000, 1000)
    return path


async def restart(house: House, **spec: str) -> None:
    house.ask("stopped")
    await house.run("Stopped")
    if spec:
        house.declare(spec)
    house.ask("running")
    await house.run("Running")


async def test_what_a_root_session_gave_to_its_own_users_stays_theirs(house: House) -> None:
    house.declare()
    await house.run("Running")
    path = await database(house)
    await restart(house)
    assert (owner(path / "pg" / "data"), owner(path)) == ((999, 999), (1000, 1000))


async def test_files_from_before_are_left_to_root_and_given_to_another_user(house: House) -> None:
    house.declare()
    await house.run("Running")
    path = await database(house)
    (Beside(house.settings).path(house.row.uid) / ownership.NOTE).unlink()
    await restart(house)
    assert owner(path / "pg" / "data") == (999, 999)
    await restart(house, user="1000:1000")
    assert owner(path / "pg" / "data") == (1000, 1000), "the top was that user's already"
    await restart(house, user="0:0")
    assert owner(path / "pg" / "data") == owner(path) == (0, 0)


async def test_files_that_a_rollback_has_brought_are_given_too(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    await database(house)
    os.chown(await house.workspaces.open(row.uid), 0, 0)
    before = await house.notebooks.history.snapshot("nb")
    await restart(house, user="4711:4712")
    await house.notebooks.history.rollback("nb", before.id)
    await house.run("Running")
    path = await house.workspaces.open(row.uid)
    assert owner(path / "pg" / "data") == owner(path) == (4711, 4712)


async def test_what_a_kill_has_left_half_given_is_given_whole(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.declare()
    row = await house.run("Running")
    path = await database(house)
    beside = Beside(house.settings)
    mine = Ownership(house.workspaces, beside)
    assert mine.of(row) == (0, 0)

    def dies(*arguments: object, **more: object) -> None:
        os.chown(path, 4711, 4712)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ownership, "give", dies)
        with pytest.raises(KeyboardInterrupt):
            mine._settle(row.uid, house.workspaces.head(row.uid), path, (4711, 4712))
    assert mine.of(row) is None
    await mine.settle(row, Notebook(name="nb", user="4711:4712"))
    assert owner(path / "pg" / "data") == owner(path) == (4711, 4712)
    assert mine.of(row) == (4711, 4712)


async def test_a_run_takes_the_files_from_no_session_that_goes_on(house: House) -> None:
    room = Room(house)
    await room.begin(user="1000:1000")
    house.ask("running")
    await house.run("Running")
    house.images.gate.clear()
    house.declare({"image": "two", "user": "2000:2000"})
    row = await house.run("Running")
    assert row.message.startswith("the session of the spec before goes on")
    with pytest.raises(Conflict, match="the session that goes on works on the files as user 1000:1000"):
        await room.start()
    house.images.gate.set()
    house.ask("stopped")
    await house.run("Stopped")
    one = await room.settle((await room.start()).id)
    path = await house.workspaces.open(row.uid)
    assert (one.phase, owner(path / "a.ipynb")) == ("Running", (2000, 2000))
