"""The notebook controller over an engine in memory, with real state, files and history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance.datasets.datasets import Datasets
from appliance.datasets.models import Models
from appliance.engine.recipes.notebook import NOTEBOOK
from appliance.engine.types import Container, ContainerSpec
from appliance.errors import Conflict, EngineDown, EngineError, NoSpace, NotFound, StorageError
from appliance.history.workspaces import Workspaces
from appliance.notebooks.controller import LOCKED_EVERY_S, NotebookController
from appliance.notebooks.kit.fitting import Layout
from appliance.notebooks.kit.kit import Kit
from appliance.notebooks.notebooks import Notebooks
from appliance.reconcile import Again
from appliance.settings import Settings
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.directory.store import DirectoryStore
from appliance.vault.secrets import Secrets
from tests.conftest import Clock
from tests.unit.notebooks.rooms import FakeEngine, FakeImages, FakeRouter, FakeTelemetry, Killed, Mortality
from tests.unit.scheduler.fakes import FakeLeases

pytestmark = pytest.mark.anyio


class House:
    """One notebook controller with everything around it."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.db = Database(settings.state_file)
        self.store = DirectoryStore(settings.volumes_dir, "a test")
        self.engine = FakeEngine(clock)
        self.images = FakeImages()
        self.router = FakeRouter()
        self.telemetry = FakeTelemetry()
        self.vault = Secrets(self.db, settings.home / "key", clock)
        self.workspaces = Workspaces(self.db, self.store, clock)
        self.datasets = Datasets(self.db, self.store, clock)
        self.models = Models(self.db, self.store, clock)
        self.hints: list[str] = []
        self.no_room = ""
        self.no_moments = ""
        self.set_by = 0.0
        """Seconds by which somebody has set the clock."""
        self.leases = FakeLeases()
        self.waited: set[str] = set()
        """Uids for whose GPUs somebody waits."""
        self.booted = 0.0
        self.notebooks = self.another()

    def another(self) -> Notebooks:
        """A room that knows only what is stored, as after a restart of the daemon."""
        parts: dict[str, Any] = {
            "engine": self.engine,
            "images": self.images,
            "router": self.router,
            "telemetry": self.telemetry,
            "booted": self.booted,
        }
        return Notebooks(
            db=self.db,
            workspaces=self.workspaces,
            datasets=self.datasets,
            models=self.models,
            store=self.store,
            vault=self.vault,
            settings=self.settings,
            instance="cafe0001",
            clock=self.clock,
            hint=lambda kind, key: self.hints.append(key),
            no_room=lambda: self.no_room,
            no_moments=lambda: self.no_moments or self.no_room,
            counter=self.clock,
            age_counter=lambda: self.clock() - self.set_by,
            leases=self.leases,
            never=self.leases.never,
            waited_for=lambda uid: "run other" if uid in self.waited else "",
            **parts,
        )

    @property
    def controller(self) -> NotebookController:
        return self.notebooks.controller

    def declare(self, document: Mapping[str, Any] | None = None, *, name: str = "nb") -> Resource:
        self.clock.now += 0.5
        with self.db.write() as db:
            return resources.put(db, "notebook", name, document or {}, source="cli", now=self.clock())[0]

    def ask(self, desired: str) -> None:
        self.clock.now += 0.5
        with self.db.write() as db:
            resources.set_desired(db, self.row.uid, desired, now=self.clock())

    def delete(self, *, purge: bool = False) -> None:
        with self.db.write() as db:
            resources.set_deleting(db, self.row.uid, now=self.clock(), purge=purge)

    @property
    def row(self) -> Resource:
        return resources.get(self.db.read, "notebook", "nb")

    async def run(self, *phases: str) -> Resource:
        """Reconcile until the phase is one of these."""
        uid = self.row.uid
        async with asyncio.timeout(120):
            while True:
                await self.controller.reconcile(uid)
                if self.row.phase in phases:
                    return self.row
                await asyncio.sleep(0.01)

    async def drop(self) -> None:
        """Reconcile until the row is gone."""
        uid = self.row.uid
        async with asyncio.timeout(120):
            while resources.find_uid(self.db.read, uid):
                await self.controller.reconcile(uid)

    @property
    def targets(self) -> list[int]:
        return [target.port for target in self.router.routes["/notebooks/nb"].targets]

    @property
    def causes(self) -> list[str]:
        """Oldest first."""
        return [snapshot.cause for snapshot in self.workspaces.timeline(self.row.uid)][::-1]

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in events.newest(self.db.read, kind="notebook", name="nb")]


@pytest.fixture
async def house(settings: Settings, clock: Clock) -> AsyncIterator[House]:
    """Its Jupyter answers with 200 to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    settings.home.mkdir(parents=True)
    house = House(settings, clock)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    house.engine.port = server.sockets[0].getsockname()[1]
    try:
        yield house
    finally:
        server.close()
        await house.notebooks.close()
        house.db.close()


OWN = {"A": "1", "APPLIANCE_URL": "mine", "PAPERSPACE_METRIC_WORKLOAD_TYPE": "mine"}


async def test_create_to_running_with_all_that_a_session_needs(house: House) -> None:
    house.declare({"env": {**OWN, "JUPYTER_TOKEN": "weak"}})
    row = await house.run("Running")
    assert row.status["url_path"] == "/notebooks/nb/"
    assert len(row.status["token"]) == 32
    (container,) = house.engine.containers.values()
    assert row.status["container"] == container.id
    assert container.name == "appliance-cafe0001-notebook-nb-1"
    spec = house.engine.specs[container.id]
    assert {mount.target: mount.read_only for mount in spec.mounts} == {
        "/notebooks": False,
        "/storage": False,
        "/etc/appliance/lab": False,
        "/run/appliance": False,
        "/etc/appliance/jupyter": True,
    }
    assert spec.env["JUPYTER_TOKEN"] == row.status["token"]
    assert (spec.env["A"], spec.env["APPLIANCE_URL"]) == ("1", "mine")
    assert spec.env["PAPERSPACE_METRIC_PUSHGATEWAY"] == "http://host.docker.internal:9091"
    assert spec.env["PAPERSPACE_METRIC_WORKLOAD_TYPE"] == "mine"
    assert row.status["token"] not in " ".join(spec.entrypoint or ())
    assert house.targets == [house.engine.port]
    assert house.router.routes["/notebooks/nb"].strip is False
    assert house.telemetry.attached == {container.id}
    assert house.causes == ["start"]
    assert house.reasons[-1] == "Running"


async def test_stop_keeps_the_files_and_start_finds_them_and_the_token(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    token, (first,) = row.status["token"], house.engine.containers
    workspace = await house.workspaces.open(row.uid)
    (workspace / "a.txt").write_text("kept")
    house.ask("stopped")
    await house.run("Stopped")
    assert house.engine.containers == {}
    assert house.engine.stopped == [first]
    assert house.telemetry.drained == [first]
    assert house.targets == []
    assert house.causes == ["start", "stop"]
    house.ask("running")
    row = await house.run("Running")
    assert row.status["token"] == token
    assert ((await house.workspaces.open(row.uid)) / "a.txt").read_text() == "kept"
    (second,) = house.engine.containers.values()
    assert second.name.endswith("-2")
    assert house.causes == ["start", "stop", "start"]


async def test_a_slow_image_shows_its_progress_and_can_be_given_up(house: House) -> None:
    house.images.gate.clear()
    house.declare({"image": "big"})
    row = await house.run("Preparing")
    await house.controller.reconcile(row.uid)
    assert house.row.message == "pulling big"
    house.ask("stopped")
    await house.run("Stopped")


async def test_an_image_that_is_missing_is_told_with_the_next_step(house: House) -> None:
    house.images.missing.add("nope")
    house.declare({"image": "nope"})
    row = await house.run("Failed")
    assert row.message == "image nope: no image nope; check the name"
    house.declare({"image": "there"})
    await house.run("Running")


async def test_a_changed_spec_makes_another_session_with_a_snapshot_between(house: House) -> None:
    house.declare()
    await house.run("Running")
    (first,) = house.engine.containers
    house.declare({"env": {"A": "2"}})
    await house.controller.reconcile(house.row.uid)
    row = await house.run("Running")
    (second,) = house.engine.containers.values()
    assert second.id != first
    assert row.observed == row.generation == 2
    assert house.causes == ["start", "stop", "start"]


async def test_a_session_that_dies_is_restarted_with_a_count_then_stays_down(house: House) -> None:
    house.engine.log = "Traceback\nValueError: bad secret hunter2-long"
    house.vault.set("S", "hunter2-long")
    house.declare()
    for count in range(1, 4):
        row = await house.run("Running")
        house.engine.end(row.status["container"], 1)
        row = await house.run("Failed")
        assert f"it failed (exit code 1); restart {count} of 3" in row.message
        assert "ValueError: bad secret ***" in row.message
        assert house.targets == []
        house.clock.now += 31
    row = await house.run("Running")
    house.engine.end(row.status["container"], 137, oom_killed=True)
    row = await house.run("Failed")
    assert "memory" in row.message
    assert "4 endings in a row" in row.message
    house.clock.now += 1000
    assert await house.controller.reconcile(row.uid) is None
    assert house.row.phase == "Failed"
    house.ask("running")
    await house.run("Running")
    assert len(house.engine.containers) == 1


async def test_no_jupyter_in_the_image_is_said(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    house.engine.end(row.status["container"], 127)
    row = await house.run("Failed")
    assert "its command was not found in the image (exit code 127)" in row.message
    assert "JupyterLab" in row.message


async def test_a_start_that_the_engine_refuses_is_a_failure_in_its_words(house: House) -> None:
    house.engine.refuse_start = "exec: no such file"
    house.declare()
    row = await house.run("Failed")
    assert "it could not be started: exec: no such file" in row.message


async def test_shutting_jupyter_down_from_inside_is_a_stop(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    house.engine.log = "Shutting down on /api/shutdown request."
    house.engine.end(row.status["container"], 0)
    row = await house.run("Stopped")
    assert row.desired == "stopped"
    assert "ShutDown" in house.reasons


async def test_delete_removes_session_route_files_and_row(house: House) -> None:
    house.declare({"command": ["jupyter", "notebook"]})
    row = await house.run("Running")
    house.delete(purge=True)
    await house.drop()
    assert house.engine.containers == {}
    assert house.router.routes == {}
    assert house.store.volumes("workspaces") == []
    assert not (house.settings.run_dir / "jupyter" / row.uid).exists()
    assert house.reasons[-1] == "Deleted"


async def test_a_spec_gone_bad_can_still_be_stopped_and_deleted(house: House) -> None:
    house.declare()
    await house.run("Running")
    house.declare({"image": 7})
    with pytest.raises(Exception, match="image"):
        await house.controller.reconcile(house.row.uid)
    house.delete()
    await house.drop()


async def test_a_restarted_daemon_adopts_the_session_and_keeps_the_route(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    house.router.history.clear()
    house.notebooks = house.another()
    await house.controller.reconcile(row.uid)
    assert house.row.phase == "Running"
    assert house.row.status["container"] == row.status["container"]
    assert house.router.history == [("/notebooks/nb", (row.status["container"][:12],))]


async def test_a_kill_between_create_and_start_is_healed(house: House) -> None:
    house.declare()
    house.engine.refuse_start = "down"
    start = house.engine.start

    async def killed(container_id: str) -> None:
        raise KeyboardInterrupt

    house.engine.start = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        await house.controller.reconcile(house.row.uid)
    house.engine.start, house.engine.refuse_start = start, ""  # type: ignore[method-assign]
    house.notebooks = house.another()
    await house.run("Running")
    assert len(house.engine.containers) == 1
    assert house.causes == ["start"]


async def test_rollback_and_undo_move_the_files_and_begin_a_session(house: House) -> None:
    house.declare()
    row = await house.run("Running")
    workspace = await house.workspaces.open(row.uid)
    (workspace / "a.txt").write_text("good")
    good = await house.notebooks.history.snapshot("nb", "as it should be")
    (workspace / "a.txt").write_text("bad")
    before = await house.notebooks.history.rollback("nb", good.id)
    assert house.hints[-1] == row.uid
    assert house.targets == []
    assert house.engine.containers == {}
    row = await house.run("Running")
    workspace = await house.workspaces.open(row.uid)
    assert (workspace / "a.txt").read_text() == "good"
    (container,) = house.engine.containers.values()
    assert house.engine.specs[container.id].mounts[0].source == workspace
    assert before.id != good.id
    await house.notebooks.history.undo("nb")
    assert ((await house.workspaces.open(row.uid)) / "a.txt").read_text() == "bad"
    await house.run("Running")
    assert {"Snapshot", "RolledBack", "RollbackUndone"} <= set(house.reasons)


async def test_history_calls_that_cannot_be_leave_the_session_alone(house: House) -> None:
    house.declare()
    await house.run("Running")
    with pytest.raises(NotFound, match="no snapshot"):
        await house.notebooks.history.rollback("nb", "nope")
    with pytest.raises(Conflict, match="no rollback"):
        await house.notebooks.history.undo("nb")
    with pytest.raises(NotFound):
        await house.notebooks.history.rollback("other", "nope")
    assert house.engine.stopped == []
    house.delete()
    with pytest.raises(Conflict, match="being deleted"):
        await house.notebooks.history.snapshot("nb")


async def test_a_rollback_that_fails_half_way_starts_the_notebook_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.declare()
    await house.run("Running")
    kept = await house.notebooks.history.snapshot("nb")

    async def fail(uid: str, snapshot_id: str, **_: str) -> None:
        raise StorageError("the disk does not answer")

    monkeypatch.setattr(house.workspaces, "rollback", fail)
    with pytest.raises(StorageError):
        await house.notebooks.history.rollback("nb", kept.id)
    assert house.hints[-1] == house.row.uid
    await house.run("Running")


async def test_a_full_disk_costs_the_snapshot_and_not_the_session(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(uid: str, **_: str) -> None:
        raise NoSpace("the disk is full", hint="free some space")

    monkeypatch.setattr(house.workspaces, "snapshot", fail)
    house.declare()
    await house.run("Running")
    house.ask("stopped")
    await house.run("Stopped")
    assert house.reasons.count("SnapshotFailed") == 2


async def test_a_pass_waits_for_an_operation_on_the_history(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.declare()
    row = await house.run("Running")
    kept = await house.notebooks.history.snapshot("nb")
    entered, leave = asyncio.Event(), asyncio.Event()
    rollback = house.workspaces.rollback

    async def slow(uid: str, snapshot_id: str, **more: str) -> Any:
        entered.set()
        await leave.wait()
        return await rollback(uid, snapshot_id, **more)

    monkeypatch.setattr(house.workspaces, "rollback", slow)
    going = asyncio.create_task(house.notebooks.history.rollback("nb", kept.id))
    await entered.wait()
    async with asyncio.timeout(20):  # it holds up no other work of the reconcile loop meanwhile
        assert await house.controller.reconcile(row.uid) == Again(LOCKED_EVERY_S)
    assert house.engine.containers == {}, "a session began below a rollback"
    leave.set()
    await going
    await house.run("Running")


async def test_datasets_are_bound_read_only_and_what_is_missing_is_told(house: House) -> None:
    house.declare({"datasets": {"digits": {"ref": "digits"}}, "env": {"K": "secret:KEY"}})
    row = await house.run("Pending")
    assert "digits" in row.message
    house.datasets.create("digits")
    version = await house.datasets.begin("digits")
    await house.datasets.commit(version)
    row = await house.run("Pending")
    await house.controller.reconcile(row.uid)
    assert "KEY" in house.row.message
    house.vault.set("KEY", "value")
    row = await house.run("Running")
    spec = house.engine.specs[row.status["container"]]
    (mount,) = [mount for mount in spec.mounts if mount.target == "/datasets/digits"]
    assert mount.read_only
    assert spec.env["K"] == "value"
    assert row.status["datasets"] == {"digits": house.datasets.full_name(version)}


async def test_a_mounted_version_is_held_from_before_the_session_is_made_until_it_has_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.datasets.create("digits")
    version = await house.datasets.commit(await house.datasets.begin("digits"))
    create = house.engine.create
    tried: list[str] = []

    async def removing(spec: Any) -> Any:
        if not tried:
            tried.append(spec.name)
            with pytest.raises(Conflict, match="notebook nb"):
                await house.datasets.remove(version)
        return await create(spec)

    monkeypatch.setattr(house.engine, "create", removing)
    house.declare({"datasets": {"digits": {"ref": "digits"}}})
    await house.run("Running")
    assert tried
    newer = await house.datasets.commit(await house.datasets.begin("digits"))
    with pytest.raises(Conflict, match="notebook nb"):
        await house.datasets.remove(version)
    house.ask("stopped")
    await house.run("Stopped")
    await house.datasets.remove(version)
    house.ask("running")
    row = await house.run("Running")
    assert row.status["datasets"] == {"digits": house.datasets.full_name(newer)}


async def test_a_gpu_that_cannot_be_had_is_not_silently_left_out(house: House) -> None:
    house.declare({"gpus": 2})
    row = await house.run("Pending")
    assert row.message == "it asks for 2 GPUs, this machine has 1"
    assert house.engine.containers == {}


async def test_a_command_of_the_users_gets_jupyters_settings_as_files(house: House) -> None:
    house.declare({"command": ["jupyter", "notebook", "--debug"]})
    row = await house.run("Running")
    spec = house.engine.specs[row.status["container"]]
    assert list(spec.entrypoint or ()) == ["jupyter", "notebook", "--debug"]
    assert spec.env["JUPYTER_CONFIG_PATH"] == "/etc/appliance/jupyter"
    (config,) = [mount for mount in spec.mounts if mount.target == "/etc/appliance/jupyter"]
    assert '"base_url": "/notebooks/nb/"' in (config.source / "jupyter_server_config.json").read_text()


async def test_an_engine_that_is_down_is_told_once_and_nothing_is_lost(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.declare()
    row = await house.run("Running")

    async def down(**_: str) -> None:
        raise EngineDown("the engine is not running", hint="start it")

    with monkeypatch.context() as patch:
        patch.setattr(house.engine, "list", down)
        for _ in range(3):
            with pytest.raises(EngineDown):
                await house.controller.reconcile(row.uid)
    assert house.row.message == "the engine is not running; start it"
    assert house.row.phase == "Running"
    assert house.reasons.count("Problem") == 1
    assert house.targets == [house.engine.port]
    await house.run("Running")
    assert house.row.message == ""


async def test_a_strangers_container_of_the_same_name_is_replaced(house: House) -> None:
    house.declare()
    await house.run("Running")
    (own,) = house.engine.containers.values()
    house.engine.containers[own.id] = replace(own, labels={**own.labels, "dev.appliance.uid": "of a lost row"})
    with house.db.write() as db:
        resources.set_status(db, house.row.uid, generation=1, phase="Pending", status={})
    await house.run("Running")
    (made,) = house.engine.containers.values()
    assert made.id != own.id
    assert made.labels["dev.appliance.uid"] == house.row.uid


async def test_a_front_door_that_is_down_is_told_and_does_not_hold_up_the_session(house: House) -> None:
    house.router.down = True
    house.declare()
    row = await house.run("Starting")
    while not house.row.status.get("ready"):
        await house.controller.reconcile(row.uid)
    await house.controller.reconcile(row.uid)
    assert (house.row.phase, "front door" in house.row.message) == ("Starting", True)
    house.router.down = False
    row = await house.run("Running")
    assert row.message == ""
    house.router.down = True
    house.ask("stopped")
    await house.run("Stopped")


async def test_a_kill_at_any_instant_is_healed_by_the_next_daemon(house: House) -> None:
    """Start, stop and start again; killed once, at every instant in turn."""
    rooms = (
        (house.engine, ("create", "start", "stop", "remove")),
        (house.router, ("set_route",)),
        (house.telemetry, ("drain",)),
        (house.workspaces, ("open", "snapshot")),
    )
    house.declare()
    for instant in range(200):
        mortality = Mortality(instant)
        for room, names in rooms:
            mortality.watch(room, *names)
        survived = False
        try:
            await house.run("Running")
            house.ask("stopped")
            await house.run("Stopped")
            survived = not mortality.dead
        except Killed:
            await house.notebooks.close()
        for room, names in rooms:
            for name in names:
                delattr(room, name)
        if survived:
            assert instant > 20
            return
        house.clock.now += 60
        house.notebooks = house.another()
        house.ask("running")
        row = await house.run("Running")
        (container,) = house.engine.containers.values()
        assert row.status["container"] == container.id
        assert house.targets == [house.engine.port]
        house.ask("stopped")
        await house.run("Stopped")
        assert house.engine.containers == {}
        house.ask("running")
    raise AssertionError("the history never ended")


async def test_an_image_without_jupyter_is_fitted_while_it_is_prepared(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.engine.answers["py"] = (127, "")
    ready, layout = asyncio.Event(), Layout("usr/lib/x/ld-linux.so.2", "usr/bin/python3", ("usr/lib/x",))

    async def root(kit: Kit, progress: Callable[[str], None]) -> tuple[Path, Layout]:
        progress("unpacking the appliance's Jupyter")
        await ready.wait()
        return house.settings.home / "kit" / "root-1", layout

    monkeypatch.setattr(Kit, "_root", root)
    house.declare({"image": "py"})
    row = await house.run("Preparing")
    while house.row.message != "unpacking the appliance's Jupyter":
        house.clock.now += 1
        await house.controller.reconcile(row.uid)
        await asyncio.sleep(0)
    ready.set()
    row = await house.run("Running")
    spec = house.engine.specs[row.status["container"]]
    assert spec.entrypoint
    assert spec.entrypoint[0].endswith("ld-linux.so.2")
    assert spec.env["JUPYTER_CONFIG_PATH"].startswith("/etc/appliance/jupyter:")
    assert "/opt/appliance/jupyter" in [mount.target for mount in spec.mounts]
    (told,) = [event for event in events.newest(house.db.read, kind="notebook", name="nb") if event.reason == "Jupyter"]
    assert told.level == "warning"
    assert told.message.startswith("session 1: the image has no JupyterLab")


async def test_what_a_session_begins_without_is_told_once_it_is_made(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.declare()
    house.ask("stopped")
    row = await house.run("Stopped")
    path = await house.workspaces.open(row.uid)
    (path / ".gradient").mkdir()
    (path / ".gradient" / "settings.yaml").write_text(
        "integrations:\n  none:\n    type: dataset\n    ref: nobody/none\n"
    )
    create = house.engine.create
    refused = iter([True, True, False])

    async def refuses(spec: ContainerSpec) -> Container:
        if next(refused):
            raise EngineError("no space left on device")
        return await create(spec)

    monkeypatch.setattr(house.engine, "create", refuses)
    house.ask("running")
    for _ in range(2):
        with pytest.raises(EngineError):
            await house.run("Running")
    await house.run("Running")
    assert house.reasons.count("SettingsFile") == 1


async def test_jupyter_that_cannot_be_brought_in_is_a_failure_that_is_tried_again(house: House) -> None:
    house.engine.answers["py"] = (127, "")
    house.images.missing.add(NOTEBOOK.ref)
    house.declare({"image": "py"})
    row = await house.run("Failed")
    assert row.message == f"image py: no image {NOTEBOOK.ref}; check the name"
    house.declare({"image": "py", "command": ["my-jupyter"]})
    row = await house.run("Running")
    assert house.engine.specs[row.status["container"]].entrypoint == ("my-jupyter",)
