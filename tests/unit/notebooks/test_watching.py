"""The idle matrix and the moments after saves, through the controller, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest

from appliance.engine import cgroups, inside
from appliance.engine.cgroups import Usage
from appliance.engine.inside import Inside
from appliance.errors import StorageError
from appliance.notebooks.idle import LOOK_EVERY_S
from appliance.settings import Settings
from appliance.state import events
from appliance.state.resources import Resource
from tests.conftest import Clock
from tests.unit.notebooks.test_controller import House

pytestmark = pytest.mark.anyio

near = partial(pytest.approx, abs=1)
PID = 4242
SHELL = Inside(pid=4243, parent=PID, session=4243, terminal=True, cpu_s=0.0, began=1, name="bash", argv=("bash",))
JOB = Inside(pid=4244, parent=4243, session=4243, terminal=True, cpu_s=0.0, began=2, name="python", argv=("python",))
KERNEL = {"id": "k", "name": "python3", "execution_state": "idle", "last_activity": "t0", "connections": 1}
POLICY = {"idle": {"after": 300, "warn": 60}}


@dataclass
class Session:
    """What goes on inside, as the test wishes."""

    kernels: list[dict[str, Any]] = field(default_factory=lambda: [dict(KERNEL)])
    terminals: list[dict[str, Any]] = field(default_factory=lambda: [{"name": "1", "last_activity": "t0"}])
    processes: tuple[Inside, ...] = (Inside(PID, 1, PID, False, 0.0, 0, "jupyter-lab"), SHELL)
    cpu_s: float = 1.0
    network: int = 0
    typed: int = 0
    asked_for: str = ""
    """By `/api/status`, where it is not empty: then Jupyter has nothing of the appliance's inside."""
    age_s: float = 0.0
    status: int = 200
    asked: list[tuple[str, Any]] = field(default_factory=list)
    """Requests with a body: path and body."""

    def body(self, path: str) -> Any:
        kinds = {"kernels": self.kernels, "terminals": self.terminals, "status": {"last_activity": self.asked_for}}
        return next((found for kind, found in kinds.items() if f"/api/{kind}" in path), [])


class Watched(House):
    session: Session

    async def begin(self, document: Mapping[str, Any] = POLICY) -> Resource:
        self.declare(document)
        row = await self.run("Running")
        self.engine.containers[row.status["container"]] = replace(
            self.engine.containers[row.status["container"]], pid=PID
        )
        return row

    async def look(self, seconds: float = LOOK_EVERY_S) -> None:
        """One round after that time, with all that comes of it."""
        self.clock.now += seconds
        await self.notebooks.watch()
        await self.notebooks.watching.settled()
        if self.hints and not self.notebooks.locks[self.row.uid].locked():
            self.hints.clear()
            await self.controller.reconcile(self.row.uid)

    async def pass_time(self, seconds: float, **work: Any) -> None:
        """`work`: what happens before each look, as attributes of the session, or functions of the round."""
        for number in range(int(seconds // LOOK_EVERY_S)):
            typed = self.session.typed
            for name, value in work.items():
                setattr(self.session, name, value(number) if callable(value) else value)
            if self.session.typed != typed:
                self.notebooks.terminals.use(self.row.status["container"])
            await self.look()
            if self.row.desired == "stopped":
                return

    def save(self, number: int) -> None:
        """As the hook in Jupyter does; the file itself changes as well."""
        signals = self.settings.home / "notebooks" / self.row.uid / "signals"
        (signals / "saved").touch()
        os.utime(signals / "saved", ns=(number, number))
        (self.files / "a.ipynb").write_text(f"content {number}")

    @property
    def files(self) -> Any:
        return self.store.path(self.workspaces.head(self.row.uid))

    def told(self, reason: str) -> list[events.Event]:
        every = events.newest(self.db.read, kind="notebook", name="nb", limit=500)
        return [event for event in every if event.reason == reason]


@pytest.fixture
async def house(settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    session = Session()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ")[1].decode()
                if length := re.search(rb"content-length: (\d+)", request.lower()):
                    session.asked.append((path, json.loads(await reader.readexactly(int(length[1])))))
                body = json.dumps(session.body(path)).encode()
                status = 404 if session.asked_for and "/appliance/state" in path else session.status
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    def usage(pid: int, container: str) -> Usage:
        assert pid == PID
        return Usage(session.cpu_s, 1)

    monkeypatch.setattr(inside, "look", lambda pid, container: {one.pid: one for one in session.processes})
    monkeypatch.setattr(inside, "network", lambda pid: session.network)
    monkeypatch.setattr(inside, "age_s", lambda one: session.age_s)
    monkeypatch.setattr(cgroups, "read", usage)
    settings.home.mkdir(parents=True)
    house = Watched(settings, clock)
    house.session = session
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    house.engine.port = server.sockets[0].getsockname()[1]
    try:
        yield house
    finally:
        server.close()
        await house.notebooks.close()
        house.db.close()


async def test_nothing_goes_on_in_an_open_page_so_it_ends_with_a_warning_and_a_snapshot(house: Watched) -> None:
    row = await house.begin()
    container = row.status["container"]
    await house.look()
    assert house.row.status["idle"]["since"] is None
    await house.look()
    since = house.clock()
    shown = house.row.status["idle"]
    assert (shown["since"], shown["ends"], shown["why"]) == (near(since), near(since + 300), "")
    await house.pass_time(230)
    assert not house.told("IdleWarning")
    assert house.row.message == ""
    await house.pass_time(10)
    (warning,) = house.told("IdleWarning")
    assert "1 connection to its kernels is open" in warning.message
    assert "`appliance notebook start nb`" in warning.message
    assert (house.row.phase, house.row.message) == ("Running", warning.message), "`get notebooks` shows it"
    await house.pass_time(50)
    assert house.row.desired == "running"
    (house.files / "last.txt").write_text("written just before")
    await house.pass_time(20)
    assert (house.row.desired, house.row.phase) == ("stopped", "Stopped")
    assert container not in house.engine.containers
    (ended,) = house.told("Idle")
    assert house.row.message == ended.message, "why it is down, and how to start it"
    assert "`appliance notebook start nb`" in ended.message
    assert house.causes == ["start", "idle"]
    assert house.row.status["idle"] is None

    house.ask("running")
    row = await house.run("Running")
    assert row.message == ""
    assert not row.status["rested"]
    house.ask("stopped")
    row = await house.run("Stopped")
    assert (row.message, house.causes[-1]) == ("", "stop"), "the user has stopped this one"


CPU = {"cpu_s": lambda number: 1.0 + 10.0 * number}
MATRIX: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    # what happens before each look, what is beside it, whether the session goes on
    "a busy kernel": ({"kernels": [{**KERNEL, "execution_state": "busy"}]}, {}, True),
    "a kernel that is used now and then": (
        {"kernels": lambda number: [{**KERNEL, "last_activity": f"t{number // 20}"}]},
        {},
        True,
    ),
    "a busy terminal": ({"processes": (*Session().processes, JOB)}, {}, True),
    "a terminal that is used now and then": (
        {"terminals": lambda number: [{"name": "1", "last_activity": f"t{number // 20}"}]},
        {},
        True,
    ),
    "an open page, its kernel idle": ({"kernels": [{**KERNEL, "connections": 3}]}, {}, False),
    "no page, no kernel, no terminal": ({"kernels": [], "terminals": []}, {}, False),
    "processors only": (CPU, {}, True),
    "Jupyter does not answer": ({"status": 500}, {}, True),
    "Jupyter answers somebody else's token": ({"status": 403}, {}, True),
    "a GPU in use without a word of a kernel": ({}, {"gpus": True}, True),
    "a GPU of which nothing is known": ({}, {"gpus": None}, True),
    "a GPU that nobody uses": ({}, {"gpus": False}, False),
    "a GPU whose use does not count": ({}, {"gpus": True, "gpu": False}, False),
    "a run of one of its files": ({}, {"elsewhere": "a.ipynb is run"}, True),
    "somebody types in a terminal of the appliance": ({"typed": lambda number: number // 20}, {}, True),
    "a slow download, or an app that is looked at": ({"network": lambda number: 300_000 * number}, {}, True),
    "what an open page asks for by itself": ({"network": lambda number: 40_000 * number}, {}, False),
    "its saves cannot be seen and its user saves": ({"asked_for": lambda number: f"t{number // 20}"}, {}, True),
    "its saves cannot be seen and nobody asks for anything": ({"asked_for": "t"}, {}, False),
}


@pytest.mark.parametrize("case", MATRIX)
async def test_the_matrix(house: Watched, case: str) -> None:
    work, beside, goes_on = MATRIX[case]
    document: dict[str, Any] = {"idle": {**POLICY["idle"], "gpu": beside.get("gpu", True)}}
    if "gpus" in beside:
        house.leases.busy = beside["gpus"]
        document["gpus"] = 1
    house.notebooks.elsewhere = lambda notebook: beside.get("elsewhere", "")
    await house.begin(document)
    await house.pass_time(600, **work)
    assert house.row.desired == ("running" if goes_on else "stopped"), house.row.status["idle"]
    assert len(house.told("Idle")) == (not goes_on)
    assert len(house.told("IdleWarning")) == (not goes_on)
    blind = "status" in work or beside.get("gpus", False) is None
    assert len(house.told("IdleUnknown")) == blind, "said once, where nobody can see"
    assert ("not stopped when nobody uses it" in house.row.message) == blind
    if goes_on:
        assert house.causes == ["start"]
    else:
        # the first look knows nothing, the last one is the first after 300 s of nothing
        assert house.told("Idle")[0].at - house.told("IdleWarning")[0].at == near(60)


async def test_what_keeps_it_is_shown(house: Watched) -> None:
    await house.begin()
    await house.look()
    await house.pass_time(30, status=500)
    why = "Jupyter does not say what it does: asked for its sessions it answers with status 500"
    assert house.row.status["idle"] == {"since": None, "why": why, "ends": None}


async def test_any_activity_takes_the_warning_back(house: Watched) -> None:
    await house.begin()
    await house.pass_time(290)
    assert house.row.message
    told = house.row.message
    await house.pass_time(10, kernels=[{**KERNEL, "last_activity": "t1"}])
    assert (house.row.message, house.row.desired) == ("", "running")
    pages = [body["text"] for path, body in house.session.asked if "/appliance/warn" in path]
    assert pages[0] == told, "open pages are told too"
    assert pages.index("") == len(pages) - 1, "again and again until it is taken back"
    await house.pass_time(220)
    assert len(house.told("IdleWarning")) == 1
    await house.pass_time(60)
    assert len(house.told("IdleWarning")) == 2


async def test_asking_for_it_again_or_saving_is_activity(house: Watched) -> None:
    await house.begin()
    await house.pass_time(290)
    house.ask("running")
    await house.controller.reconcile(house.row.uid)
    await house.look()
    assert house.row.status["idle"]["why"] == "its user asked for it"
    assert house.row.message == ""
    await house.pass_time(290)
    assert house.row.message
    house.save(1)
    await house.look()
    assert house.row.status["idle"]["why"] == "a file was saved"


async def test_a_daemon_or_a_machine_that_was_away_begins_to_count_anew(house: Watched) -> None:
    await house.begin()
    await house.pass_time(290)
    await house.look(86_400)
    assert house.row.desired == "running"
    assert house.row.status["idle"]["ends"] == near(house.clock() + 300)
    await house.pass_time(290)
    await house.notebooks.close()
    house.notebooks = house.another()
    await house.pass_time(300)
    assert house.row.desired == "running", "the next daemon has to see it for itself"
    await house.pass_time(60)
    assert house.row.desired == "stopped"


async def test_without_a_policy_nobody_asks(house: Watched) -> None:
    await house.begin({})
    house.session.kernels = []
    await house.pass_time(600)
    assert house.row.desired == "running"
    assert house.row.status["idle"] is None


async def test_the_settings_policy_and_never(house: Watched) -> None:
    house.settings = replace(house.settings, idle_after_s=300.0, idle_warn_s=0.0)
    await house.notebooks.close()
    house.notebooks = house.another()
    await house.begin({"idle": {"after": 0}})
    await house.pass_time(600)
    assert house.row.desired == "running"
    house.declare({})
    await house.run("Running")
    await house.pass_time(600)
    assert house.row.desired == "stopped"


async def test_its_time_ends_a_busy_session_too_with_a_warning(house: Watched) -> None:
    await house.begin({"shutdown": 600, "idle": {"warn": 60}})
    house.session.kernels = [{**KERNEL, "execution_state": "busy"}]
    await house.pass_time(520)
    assert not house.told("ShutDownWarning")
    await house.pass_time(30)
    (warning,) = house.told("ShutDownWarning")
    assert house.row.message == warning.message
    await house.pass_time(100)
    (ended,) = house.told("ShutDown")
    assert ended.at - warning.at == near(60)
    assert house.row.message == ended.message
    assert house.row.phase == "Stopped"
    assert house.causes == ["start", "stop"]


async def test_its_time_is_counted_by_the_age_of_its_container_whatever_the_clock_said_at_its_start(
    house: Watched,
) -> None:
    """Begun while the clock was years behind; the daemon begins anew after it was put right."""
    await house.begin({"shutdown": 600, "idle": {"warn": 60}})
    await house.notebooks.close()
    house.clock.now += 10 * 365 * 86_400
    house.notebooks = house.another()
    house.session.age_s = 100.0
    await house.pass_time(400)
    assert not house.told("ShutDownWarning")
    await house.pass_time(60)
    assert house.told("ShutDownWarning")


async def test_an_open_terminal_is_told_once_that_its_session_ends(house: Watched) -> None:
    row = await house.begin()
    said: list[str] = []
    with house.notebooks.terminals.open(row.status["container"], said.append):
        await house.pass_time(300)
    assert said == [house.told("IdleWarning")[0].message]


async def test_a_key_pressed_during_the_last_look_wins(house: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    row = await house.begin()
    activity = house.notebooks.watching._activity
    plain = activity.look

    async def look(*args: Any, **more: Any) -> Any:
        found = await plain(*args, **more)
        warned = house.told("IdleWarning")
        if warned and house.clock() > warned[0].at + 55:
            house.notebooks.terminals.use(row.status["container"])
        return found

    monkeypatch.setattr(activity, "look", look)
    await house.pass_time(500)
    assert house.row.desired == "running"
    assert not house.told("Idle")


async def test_a_start_just_before_the_end_wins(house: Watched) -> None:
    """The user asks between the look and its verdict."""
    await house.begin()
    await house.pass_time(300)
    house.clock.now += 3 * LOOK_EVERY_S
    await house.notebooks.watch()
    house.ask("running")
    await house.notebooks.watching.settled()
    assert house.row.desired == "running"
    assert not house.told("Idle")


async def test_what_is_seen_while_something_else_is_under_way_counts(house: Watched) -> None:
    """A snapshot holds the lock at the one look that sees the activity."""
    await house.begin()
    await house.pass_time(200)
    house.session.kernels = [{**KERNEL, "last_activity": "t1"}]
    async with house.notebooks.locks[house.row.uid]:
        house.clock.now += LOOK_EVERY_S
        await house.notebooks.watch()
        await house.notebooks.watching.settled()
    await house.pass_time(290)
    assert house.row.desired == "running"
    assert len(house.told("IdleWarning")) == 1
    await house.pass_time(30)
    assert house.row.desired == "stopped"


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happened_lies_longer_ago_than_that_when_it_ends(house: Watched, seed: int) -> None:
    """Short bursts of any kind at any time, and looks that come late or meet something under way."""
    chance = random.Random(seed)
    await house.begin()
    active, marks = house.clock(), 0
    work: list[Callable[[], None]] = [
        lambda: house.session.kernels[0].update(last_activity=f"t{marks}"),
        lambda: house.session.terminals[0].update(last_activity=f"t{marks}"),
        lambda: setattr(house.session, "cpu_s", house.session.cpu_s + 60),
        lambda: house.save(marks),
    ]
    for _ in range(300):
        if chance.random() < 0.02:
            marks += 1
            active = house.clock()
            chance.choice(work)()
        seconds = chance.choice([LOOK_EVERY_S] * 8 + [1.0, 25.0, 55.0])
        if chance.random() < 0.1:
            async with house.notebooks.locks[house.row.uid]:
                await house.look(seconds)
        else:
            await house.look(seconds)
        if house.row.desired == "stopped":
            break
    assert house.row.desired == "stopped"
    warned = house.told("IdleWarning")[-1].at
    ended = house.told("Idle")[0].at
    assert active <= ended - 300
    assert active < warned <= ended - 60


# -- saves


async def test_a_save_becomes_a_moment_after_some_quiet(house: Watched) -> None:
    await house.begin({})
    house.save(1)
    await house.look(1)
    await house.look(3)
    assert house.causes == ["start"]
    await house.look(2)
    assert house.causes == ["start", "save"]
    await house.look(60)
    assert house.causes == ["start", "save"]
    assert house.workspaces.timeline(house.row.uid)[0].subject == "session 1"


async def test_saves_are_put_together_and_none_waits_for_ever(house: Watched) -> None:
    await house.begin({})
    for number in range(1, 61):
        house.save(number)
        await house.look(2)
    assert house.causes == ["start", "save"]
    await house.look(10)
    assert house.causes == ["start", "save", "save"]


async def test_a_save_that_changed_nothing_is_no_moment(house: Watched) -> None:
    await house.begin({})
    house.save(1)
    await house.look(10)
    await house.look(10)
    assert house.causes == ["start", "save"]
    signals = house.settings.home / "notebooks" / house.row.uid / "signals"
    os.utime(signals / "saved", ns=(2, 2))
    await house.look(1)
    await house.look(10)
    assert house.causes == ["start", "save"]


async def test_no_moment_while_the_disk_is_low_and_one_afterwards(house: Watched) -> None:
    await house.begin({})
    house.save(1)
    house.no_room = "waits for disk space"
    for _ in range(3):
        await house.look(30)
    assert house.causes == ["start"]
    house.no_room = ""
    await house.look(1)
    assert house.causes == ["start", "save"]


async def test_a_snapshot_that_fails_is_told_once(house: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.begin({})

    async def fail(uid: str, **more: Any) -> None:
        raise StorageError("the pool is gone", hint="bring it back")

    monkeypatch.setattr(house.workspaces, "snapshot", fail)
    for number in range(1, 6):
        house.save(number)
        await house.look(1)
        await house.look(30)
    (told,) = house.told("SnapshotFailed")
    assert "the pool is gone; bring it back" in told.message


async def test_a_save_whose_snapshot_failed_is_tried_again(house: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.begin({})
    house.save(1)
    with monkeypatch.context() as broken:

        async def fail(uid: str, **more: Any) -> None:
            raise StorageError("the pool is busy")

        broken.setattr(house.workspaces, "snapshot", fail)
        for _ in range(5):
            await house.look(2)
        assert house.told("SnapshotFailed")
    assert house.causes == ["start"]
    await house.look(house.settings.save_every_s)
    assert house.causes == ["start", "save"]


async def test_no_moment_of_its_own_where_the_disk_is_filling(house: Watched) -> None:
    house.no_moments = "less than 5.0 GB are free"
    await house.begin({})
    house.save(1)
    for _ in range(3):
        await house.look(300)
        await house.notebooks.tend(house.clock())
    assert house.causes == ["start"]
    house.no_moments = ""
    await house.look(1)
    assert house.causes == ["start", "save"]


async def test_a_save_while_the_daemon_was_away(house: Watched) -> None:
    await house.begin({})
    await house.notebooks.close()
    house.save(1)
    house.notebooks = house.another()
    await house.look(1)
    await house.look(10)
    assert house.causes == ["start", "save"]


# -- sessions that end by themselves


async def test_what_was_written_before_a_kill_is_in_the_history_at_once(house: Watched) -> None:
    row = await house.begin({})
    (house.files / "a.txt").write_text("one second before")
    house.engine.end(row.status["container"], 137)
    await house.controller.reconcile(row.uid)
    assert house.row.phase == "Failed", "nothing has begun yet"
    newest = house.workspaces.timeline(row.uid)[0]
    assert (newest.cause, newest.message, newest.subject) == ("stop", "after session 1", "session 1")
    async with house.workspaces.reading(row.uid, newest.id, "a.txt") as file:
        assert file.read() == b"one second before"
    house.clock.now += 1
    await house.controller.reconcile(row.uid)
    assert house.causes == ["start", "stop"], "once"
    await house.notebooks.close()
    house.notebooks = house.another()
    await house.controller.reconcile(row.uid)
    assert house.causes == ["start", "stop"], "also for the next daemon"


async def test_a_kill_after_which_nothing_is_new_adds_nothing(house: Watched) -> None:
    row = await house.begin({})
    house.engine.end(row.status["container"], 137)
    await house.controller.reconcile(row.uid)
    assert house.causes == ["start"]


async def test_a_snapshot_after_a_kill_that_fails_is_told_once_and_holds_up_nothing(
    house: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await house.begin({})
    (house.files / "a.txt").write_text("one second before")
    house.engine.end(row.status["container"], 137)
    tried = []

    async def fail(uid: str, **more: Any) -> None:
        tried.append(more["message"])
        raise StorageError("the disk is full", hint="free some space")

    with monkeypatch.context() as patch:
        patch.setattr(house.workspaces, "snapshot", fail)
        for _ in range(3):
            await house.controller.reconcile(row.uid)
    assert tried == ["after session 1"]
    assert len(house.told("SnapshotFailed")) == 1
    house.clock.now += 60
    assert (await house.run("Running")).status["session"] == 2
