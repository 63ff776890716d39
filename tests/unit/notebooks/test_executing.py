"""Executions over an engine in memory, with real state, files and history."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets import uses
from appliance.engine.labels import EXECUTION, PREFIX
from appliance.engine.types import ContainerSpec
from appliance.errors import Conflict, EngineError, NoSpace, NotFound, UsageError
from appliance.notebooks.executing import orders as ordering
from appliance.notebooks.executing.asked import Asked
from appliance.reconcile import Again
from appliance.state import events, executions, resources
from appliance.state.executions import FINAL, Execution
from tests.unit.notebooks.rooms import Killed, Mortality
from tests.unit.notebooks.test_controller import House
from tests.unit.notebooks.test_controller import house as notebooks

__all__ = ["notebooks"]
pytestmark = pytest.mark.anyio
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
CELLS = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


class Room:
    """A notebook that never ran, with one file."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def begin(self, **spec: Any) -> None:
        row = self.house.declare({"kind": "notebook", "name": "nb", "image": "one", **spec})
        self.house.ask("stopped")
        path = await self.house.workspaces.open(row.uid)
        (path / "a.ipynb").write_text(CELLS)
        self.house.engine.log = "appliance: 3 cells in 2 s\n"

    @property
    def orders(self) -> ordering.Orders:
        return self.house.notebooks.orders

    async def start(self, file: str = "a.ipynb", **more: Any) -> Execution:
        return await self.orders.start("nb", Asked(file, **more), author="me")

    async def settle(self, key: str) -> Execution:
        """Until nothing is to be done at once."""
        async with asyncio.timeout(60):
            again: Again | None = Again(0.0)
            while again and again.after < 0.5:
                again = await self.house.notebooks.executing.reconcile(key)
        found = executions.find(self.house.db.read, key)
        assert found
        return found

    @property
    def spec(self) -> ContainerSpec:
        (found,) = (one for one in self.house.engine.specs.values() if one.labels[PREFIX + "kind"] == EXECUTION)
        return found

    def end(self, code: int) -> None:
        (found,) = (one for one in self.house.engine.containers.values() if one.state == "running")
        self.house.engine.end(found.id, code)


@pytest.fixture
async def room(notebooks: House) -> Room:
    return Room(notebooks)


@needs_root
async def test_from_the_first_cell_to_the_last(room: Room) -> None:
    house = room.house
    house.vault.set("KEY", "hush-hush")
    await room.begin(user="1000:1000", env={"A": "secret:KEY"}, secrets=["KEY"], shm="1G")
    asked = await room.start(parameters={"x": [1, None]}, kernel="ir")
    assert (asked.number, asked.phase, asked.file) == (1, "Preparing", "a.ipynb")
    one = await room.settle(asked.id)
    assert (one.phase, one.started) == ("Running", house.clock())
    spec = room.spec
    assert (spec.image, spec.user, spec.env["A"], spec.env["HOME"]) == (
        "one",
        "1000:1000",
        "hush-hush",
        "/home/notebook",
    )
    assert spec.shm_bytes == 1 << 30
    assert spec.publish == ()
    mounts = {mount.target: mount for mount in spec.mounts}
    assert {"/notebooks", "/storage", "/run/secrets", "/home/notebook", "/run/appliance"} == mounts.keys()
    request = json.loads((mounts["/run/appliance"].source / "request.json").read_text())
    assert request == {
        "notebook": "/notebooks/a.ipynb",
        "output": f"/notebooks/{one.output}",
        "parameters": {"x": [1, None]},
        "kernel": "ir",
    }
    assert "JUPYTER_TOKEN" not in spec.env
    assert house.causes == ["run"]
    assert house.notebooks.elsewhere(house.row) == "run 1 of a.ipynb goes on"
    ((container, _),) = house.engine.containers.items()
    assert house.telemetry.attached == {container}

    (await house.workspaces.open(house.row.uid) / one.output).write_text(CELLS)
    house.clock.now += 5
    room.end(0)
    one = await room.settle(one.id)
    assert (one.phase, one.message, one.exit_code, one.finished) == ("Succeeded", "3 cells in 2 s", 0, house.clock())
    assert house.telemetry.drained == [container]
    assert not house.engine.containers
    assert not mounts["/run/appliance"].source.exists()
    assert not mounts["/run/secrets"].source.exists()
    moments = house.workspaces.timeline(house.row.uid)
    assert [(row.message, row.subject, row.author) for row in moments] == [
        ("after run 1 of a.ipynb", "run 1", "me"),
        ("before run 1 of a.ipynb", "run 1", "me"),
    ]
    assert room.orders.elsewhere(house.row) == ""
    assert not list(house.notebooks.executing.keys())
    assert house.reasons[-2:] == ["Run", "RunSucceeded"]


@pytest.mark.parametrize(
    ("log", "code", "words"),
    [
        ("appliance: cell 2 (f()): ValueError: 1\n", 1, "cell 2 (f()): ValueError: 1"),
        ("whatever\n", 137, "it was killed (exit code 137)"),
        ("", 2, "it failed (exit code 2)"),
        ("appliance: key is hush-hush\n", 1, "key is ***"),
    ],
)
async def test_a_failure_says_why(room: Room, log: str, code: int, words: str) -> None:
    room.house.vault.set("KEY", "hush-hush")
    await room.begin()
    one = await room.settle((await room.start()).id)
    room.house.engine.log = log
    room.end(code)
    one = await room.settle(one.id)
    assert (one.phase, one.message, one.exit_code) == ("Failed", words, code)
    newest = events.newest(room.house.db.read, kind="notebook", name="nb")[-1]
    assert (newest.reason, newest.level) == ("RunFailed", "error")


async def test_what_the_engine_refuses_is_a_failure(room: Room) -> None:
    await room.begin()

    async def start(container_id: str) -> None:
        room.house.engine._change(container_id, error="exec: python3: not found")
        raise EngineError("exec: python3: not found")

    room.house.engine.start = start  # type: ignore[method-assign]
    room.house.engine.log = ""
    one = await room.settle((await room.start()).id)
    assert (one.phase, one.message) == ("Failed", "it could not be started: exec: python3: not found")
    assert not room.house.engine.containers


async def test_an_image_that_cannot_be_had_is_a_failure(room: Room) -> None:
    await room.begin()
    room.house.images.missing.add("one")
    one = await room.settle((await room.start()).id)
    assert one.phase == "Failed"
    assert "no image one" in one.message
    assert not room.house.engine.specs
    assert room.house.causes == []


async def test_canceled_before_it_began_and_while_it_runs(room: Room) -> None:
    house = room.house
    await room.begin()
    house.images.gate.clear()
    first = await room.settle((await room.start()).id)
    assert (first.phase, first.message) == ("Preparing", "pulling one")
    room.orders.check_still(house.row)  # no file is in use yet
    room.orders.cancel("nb", author="me")
    first = await room.settle(first.id)
    assert (first.phase, first.message) == ("Canceled", "canceled by me, before it began")
    house.images.gate.set()
    second = await room.settle((await room.start()).id)
    room.orders.cancel("nb", 2, author="me")
    second = await room.settle(second.id)
    assert (second.phase, second.message, second.exit_code) == ("Canceled", "canceled by me", 143)
    assert len(house.engine.specs) == 1
    assert not house.engine.containers
    assert room.orders.cancel("nb", 2).phase == "Canceled"  # of what is over nothing changes


async def test_the_notebook_is_deleted_meanwhile(room: Room) -> None:
    house = room.house
    await room.begin()
    one = await room.settle((await room.start()).id)
    uid = house.row.uid
    house.delete()
    await house.controller.reconcile(uid)
    assert resources.find_uid(house.db.read, uid), "it waits for what works on its files"
    assert one.id in house.hints
    one = await room.settle(one.id)
    assert (one.phase, one.message) == ("Canceled", "the notebook was deleted")
    assert not house.engine.containers
    await house.drop()
    await house.notebooks.trash.undelete("nb")
    assert [row.number for row in room.orders.rows("nb")] == [1]
    house.delete(purge=True)
    await house.drop()
    assert executions.find(house.db.read, one.id) is None


async def test_its_files_are_not_swapped_below_it(room: Room) -> None:
    house = room.house
    await room.begin()
    kept = await house.notebooks.history.snapshot("nb")
    one = await room.settle((await room.start()).id)
    with pytest.raises(Conflict, match="run 1 of"):
        await house.notebooks.history.rollback("nb", kept.id)
    room.end(0)
    await room.settle(one.id)
    await house.notebooks.history.rollback("nb", kept.id)
    one = await room.settle((await room.start()).id)
    with pytest.raises(Conflict, match="run 2 of"):
        await house.notebooks.history.undo("nb")


async def test_a_session_and_an_execution_leave_each_other_alone(room: Room) -> None:
    house = room.house
    await room.begin()
    house.ask("running")
    await house.run("Running")
    one = await room.settle((await room.start()).id)
    assert one.phase == "Running"
    assert len(house.engine.containers) == 2
    house.ask("stopped")
    await house.run("Stopped")
    assert [found.labels[PREFIX + "kind"] for found in house.engine.containers.values()] == [EXECUTION]
    room.end(0)
    assert (await room.settle(one.id)).phase == "Succeeded"


async def test_what_it_reads_cannot_be_removed_meanwhile(room: Room, tmp_path: Path) -> None:
    house = room.house
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "weights.bin").write_text("numbers")
    for name in ("data", "weights"):
        house.datasets.create(name)
    data, weights = [await house.datasets.put(name, folder) for name in ("data", "weights")]
    model = house.models.register("bert", "Custom", weights)
    await room.begin(datasets={"d": {"ref": "data"}}, models={"m": "bert"})
    one = await room.settle((await room.start()).id)
    assert (dict(one.datasets), dict(one.models)) == ({"d": house.datasets.full_name(data)}, {"m": model.id})
    used = uses.of_versions(house.db.read)
    assert used[data.dataset, data.version] == ["run 1 of notebook nb"]
    assert "run 1 of notebook nb" in used[weights.dataset, weights.version]
    assert uses.of_model(house.db.read, model.id) == ["run 1 of notebook nb"]
    targets = {mount.target: mount.read_only for mount in room.spec.mounts}
    assert targets["/datasets/d"]
    assert targets["/models/m"]
    room.end(0)
    await room.settle(one.id)
    assert (data.dataset, data.version) not in uses.of_versions(house.db.read)
    assert uses.of_model(house.db.read, model.id) == []


@needs_root
async def test_nobody_takes_the_files_from_under_it(room: Room) -> None:
    """Another user of the notebook gets its files when the run is over."""
    house = room.house
    await room.begin(user="1000:1000")
    one = await room.settle((await room.start()).id)
    house.declare({"kind": "notebook", "name": "nb", "image": "one", "user": "2000:2000"})
    house.ask("running")
    row = await house.run("Pending")
    assert row.message.startswith("run 1 of a.ipynb works on the files as user 1000:1000: wait for it")
    with pytest.raises(Conflict, match="as user 1000:1000"):
        await room.start()
    path = await house.workspaces.open(row.uid)
    assert path.stat().st_uid == 1000
    room.end(0)
    await room.settle(one.id)
    await house.run("Running")
    assert path.stat().st_uid == 2000


@needs_root
async def test_one_that_waits_does_not_give_the_files_back_to_the_user_before(room: Room) -> None:
    house = room.house
    await room.begin(user="1000:1000")
    house.images.gate.clear()
    one = await room.settle((await room.start()).id)
    house.declare({"kind": "notebook", "name": "nb", "image": "one", "user": "2000:2000"})
    house.images.gate.set()
    one = await room.settle(one.id)
    assert (one.phase, one.message) == (
        "Failed",
        "the notebook's user was changed to 2000:2000 meanwhile; run it again",
    )
    assert not house.engine.specs


async def test_what_cannot_be_asked_for(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    house = room.house
    await room.begin()
    (await house.workspaces.open(house.row.uid) / "link.ipynb").symlink_to("/etc/passwd")
    for file, error in (("none.ipynb", NotFound), ("../a.ipynb", UsageError), ("a.py", UsageError)):
        with pytest.raises(error):
            await room.start(file)
    house.no_room = "the disk is full"
    with pytest.raises(NoSpace):
        await room.start()
    house.no_room = ""
    monkeypatch.setattr(ordering, "MOST_OPEN", 1)
    await room.start()
    with pytest.raises(Conflict, match="go on already"):
        await room.start()
    house.declare({"kind": "notebook", "name": "nb", "image": "one", "secrets": ["NONE"]})
    monkeypatch.setattr(ordering, "MOST_OPEN", 2)
    with pytest.raises(Conflict, match="NONE"):
        await room.start()
    with pytest.raises(NotFound):
        room.orders.find("nb", 7)


async def test_old_ones_are_let_go_and_numbers_are_not_used_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "KEPT", 2)
    await room.begin()
    for _ in range(4):
        one = await room.settle((await room.start()).id)
        room.end(0)
        await room.settle(one.id)
    assert [row.number for row in room.orders.rows("nb")] == [4, 3, 2]
    assert (await room.start()).number == 5


@pytest.mark.parametrize("cancel", [False, True])
async def test_a_daemon_killed_at_any_instant(room: Room, cancel: bool) -> None:
    """One container, started once, and an end that is told: whenever the daemon dies."""
    house = room.house
    await room.begin()
    instants = 0
    while True:
        house.engine.specs.clear()
        mortality = Mortality(instants)
        before = dict(vars(house.engine)), dict(vars(house.workspaces))
        mortality.watch(house.engine, "create", "start", "stop", "remove")
        mortality.watch(house.workspaces, "snapshot")
        starts: list[str] = []
        started = house.engine.start

        async def start(container_id: str, started: Any = started, starts: list[str] = starts) -> None:
            await started(container_id)
            starts.append(container_id)

        house.engine.start = start  # type: ignore[method-assign]
        key = (await room.start()).id
        died = False
        for _ in range(3):
            try:
                one = await room.settle(key)
                if one.phase in FINAL:
                    break
                if cancel:
                    room.orders.cancel("nb")
                else:
                    room.end(0)
            except Killed:
                died = True
                mortality.revive()
                await house.notebooks.close()
                house.notebooks = house.another()
        one = await room.settle(key)
        assert one.phase == ("Canceled" if cancel else "Succeeded")
        assert one.cleared
        assert not house.engine.containers
        assert not list((house.settings.run_dir / "executions").iterdir())
        assert len(house.engine.specs) <= 1
        assert len(set(starts)) <= 1
        for target, old in zip((house.engine, house.workspaces), before, strict=True):
            vars(target).clear()
            vars(target).update(old)
        if not died:
            break
        instants += 1
    assert instants > 4


async def test_what_works_on_the_files_holds_up_no_other_work(room: Room) -> None:
    await room.begin()
    asked = await room.start()
    async with room.house.notebooks.locks[asked.notebook], asyncio.timeout(20):
        assert (await room.settle(asked.id)).phase == "Starting"
        assert not room.house.engine.containers
    assert (await room.settle(asked.id)).phase == "Running"
    room.end(0)
    async with room.house.notebooks.locks[asked.notebook], asyncio.timeout(20):
        assert (await room.settle(asked.id)).finished is None
    assert (await room.settle(asked.id)).phase == "Succeeded"
