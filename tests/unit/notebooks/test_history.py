"""The history of notebooks: what a user asks for, and what is done every minute."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import Conflict, NoSpace, NotFound, UsageError
from appliance.history.retention import Policy
from appliance.history.workspaces import Workspaces
from appliance.notebooks.documents import Documents
from appliance.notebooks.history import History
from appliance.notebooks.making import digest
from appliance.notebooks.tending import MANY_NEW, Tending, policy
from appliance.settings import Settings
from appliance.spec.models import History as HistorySpec
from appliance.spec.models import Notebook
from appliance.state import events, resources
from appliance.state.db import Database
from appliance.state.resources import Resource
from appliance.storage.directory.store import DirectoryStore
from tests.conftest import Clock

pytestmark = pytest.mark.anyio


class Room:
    """Notebooks without an engine: their rows say whether a session runs."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.db = Database(settings.state_file)
        self.store = DirectoryStore(settings.volumes_dir, "a test", durable=False)
        self.workspaces = Workspaces(self.db, self.store, clock)
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.hints: list[str] = []
        self.ended: list[str] = []
        self.history = History(
            db=self.db,
            workspaces=self.workspaces,
            settings=settings,
            clock=clock,
            hint=self.hints.append,
            locks=self.locks,
            end_sessions=self.end_sessions,
        )
        self.tending = Tending(db=self.db, workspaces=self.workspaces, settings=settings, locks=self.locks)

    async def end_sessions(self, notebook: Resource) -> None:
        self.ended.append(notebook.name)

    def declare(self, name: str = "nb", **spec: Any) -> Resource:
        with self.db.write() as db:
            return resources.put(db, "notebook", name, spec, source="cli", now=self.clock())[0]

    async def running(self, name: str = "nb", **spec: Any) -> Resource:
        notebook = self.declare(name, **spec)
        await self.write("0", name)
        status = {"session": 3, "started": 1.0}
        with self.db.write() as db:
            resources.set_status(db, notebook.uid, generation=notebook.generation, phase="Running", status=status)
        return self.get(name)

    def get(self, name: str = "nb") -> Resource:
        return resources.get(self.db.read, "notebook", name)

    async def write(self, text: str, name: str = "nb") -> None:
        (await self.workspaces.open(self.get(name).uid) / "file").write_text(text)

    async def read(self, name: str = "nb") -> str:
        return (await self.workspaces.open(self.get(name).uid) / "file").read_text()

    def causes(self, name: str = "nb") -> list[str]:
        """Newest first."""
        return [moment.cause for moment in self.workspaces.timeline(self.get(name).uid)]

    def events(self, name: str = "nb") -> list[tuple[str, str]]:
        return [(found.reason, found.message) for found in events.newest(self.db.read, kind="notebook", name=name)]

    async def tend(self, after_s: float, *, by_age: bool = True) -> None:
        self.clock.now += after_s
        await self.tending.tend(self.clock(), by_age=by_age)


@pytest.fixture
def room(settings: Settings, clock: Clock) -> Iterator[Room]:
    settings.home.mkdir(parents=True)
    made = Room(settings, clock)
    yield made
    made.db.close()


# -- what a user asks for


async def test_a_restore_goes_on_beside_a_session(room: Room) -> None:
    await room.running()
    kept = await room.history.snapshot("nb", "good", author="ada")
    assert (kept.author, kept.subject) == ("ada", "session 3")
    await room.write("bad")
    before = await room.history.restore("nb", kept.id, "file", author="ada")
    assert await room.read() == "0"
    assert room.ended == []
    assert room.causes() == ["restore", "manual"]
    assert room.events()[-1] == ("Restored", f"file from snapshot {kept.id}; as it was before: {before.id}")
    with pytest.raises(NotFound, match="no snapshot 'nope'"):
        await room.history.restore("nb", "nope", "file")


async def test_what_may_write_over_a_restore_is_said(room: Room) -> None:
    class Open(Documents):
        @asynccontextmanager
        async def replacing(self, notebook: Resource, path: str) -> AsyncIterator[list[str]]:
            words: list[str] = []
            yield words
            words.append("no answer within 4 s")

    await room.running()
    kept = await room.history.snapshot("nb")
    room.history._documents = Open()
    told: list[str] = []
    await room.history.restore("nb", kept.id, "file", tell=told.append)
    assert told == [
        "where file is open in a page, what the page holds may be written over it: close it there without saving"
        " (no answer within 4 s)"
    ]
    reason, words = room.events()[-1]
    assert (reason, told[0] in words) == ("Restored", True)


@pytest.mark.parametrize("bad", [{"user": "4711:4712"}, {"user": "gone bad"}])
async def test_a_restore_whose_files_cannot_be_given_is_done_and_says_so(
    room: Room, monkeypatch: pytest.MonkeyPatch, bad: dict[str, str]
) -> None:
    def refused(*arguments: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr("appliance.notebooks.history.give_below", refused)
    await room.running(**bad)
    kept = await room.history.snapshot("nb")
    await room.write("bad")
    told: list[str] = []
    before = await room.history.restore("nb", kept.id, "file", tell=told.append)
    assert await room.read() == "0"
    assert (before.cause, len(told)) == ("restore", 1)
    assert "the notebook's user may not be able to write it" in told[0]
    assert room.events()[-1][0] == "Restored"


async def test_a_fork_has_the_spec_and_the_files_and_stays_stopped(room: Room) -> None:
    source = await room.running(name="nb", image="mine", env={"A": "1"})
    made = await room.history.fork("nb", "other", author="ada")
    assert (made.desired, made.spec["image"], made.spec["env"]) == ("stopped", "mine", {"A": "1"})
    assert made.uid != source.uid
    assert await room.read("other") == "0"
    assert room.causes() == ["fork"]
    assert room.causes("other") == []
    assert room.hints == [made.uid]
    assert room.ended == []
    assert room.get().status == source.status
    assert [reason for reason, _ in room.events("other")] == ["Created", "Forked"]


async def test_a_fork_may_begin_anywhere_and_start_at_once(room: Room) -> None:
    await room.running()
    kept = await room.history.snapshot("nb")
    await room.write("1")
    made = await room.history.fork("nb", "other", kept.id, start=True)
    assert (made.desired, await room.read("other")) == ("running", "0")
    assert room.causes() == ["manual"]


async def test_a_fork_carries_its_own_name(room: Room) -> None:
    room.declare(name="nb")
    with room.db.write() as db:
        resources.put(db, "notebook", "nb", {"kind": "notebook", "name": "nb"}, source="cli", now=1.0)
    await room.workspaces.open(room.get().uid)
    assert (await room.history.fork("nb", "other")).spec == {"kind": "notebook", "name": "other"}


async def test_a_fork_that_cannot_be_leaves_nothing(room: Room) -> None:
    await room.running()
    room.declare("taken")
    volumes = room.store.volumes()
    with pytest.raises(Conflict, match="'taken' already"):
        await room.history.fork("nb", "taken")
    with pytest.raises(UsageError):
        await room.history.fork("nb", "../x")
    with pytest.raises(NotFound, match="no snapshot"):
        await room.history.fork("nb", "other", "nope")
    with pytest.raises(NotFound):
        await room.history.fork("nobody", "other")
    with pytest.raises(NotFound, match="no files yet"):
        await room.history.fork("taken", "other")
    assert room.store.volumes() == volumes
    assert room.causes() == []
    assert resources.find(room.db.read, "notebook", "other") is None


async def test_a_name_that_is_taken_while_the_files_are_forked(room: Room) -> None:
    await room.running()
    both = await asyncio.gather(
        room.history.fork("nb", "other"), room.history.fork("nb", "other"), return_exceptions=True
    )
    assert sorted(type(found).__name__ for found in both) == ["Conflict", "Resource"]
    assert len(room.store.volumes()) == 2
    assert room.causes() == ["fork"]


async def test_holds_and_pruning_by_hand(room: Room) -> None:
    nothing = dict.fromkeys(("hourly", "daily", "weekly", "monthly"), 0)
    await room.running(history=nothing)
    first = await room.history.snapshot("nb")
    second = await room.history.snapshot("nb")
    last = await room.history.snapshot("nb")
    await room.history.hold("nb", first.id, "the paper")
    room.clock.now += 3 * 86_400
    told = await room.history.prune("nb", dry_run=True)
    assert told.going == [second]
    assert room.causes() == ["manual"] * 3
    await room.history.prune("nb")
    assert [moment.id for moment in room.workspaces.timeline(room.get().uid)] == [last.id, first.id]
    assert room.events()[-1] == ("Pruned", "1 of 3 snapshots")
    await room.history.release("nb", first.id)
    with pytest.raises(NotFound):
        await room.history.release("nb", first.id)


# -- what is done every minute


async def test_what_changes_is_kept_at_intervals(room: Room) -> None:
    await room.running()
    await room.tend(60)
    assert room.causes() == ["interval"], "the first one at once"
    (first,) = room.workspaces.timeline(room.get().uid)
    assert (first.author, first.subject) == ("appliance", "session 3")
    await room.write("1")
    await room.tend(300)
    assert room.causes() == ["interval"]
    await room.tend(300)
    assert room.causes() == ["interval"] * 2
    await room.tend(3000)
    assert room.causes() == ["interval"] * 2, "nothing has changed"


async def test_any_moment_counts_for_the_interval(room: Room) -> None:
    await room.running()
    await room.history.snapshot("nb")
    await room.write("1")
    await room.tend(599)
    assert room.causes() == ["manual"]
    await room.tend(1)
    assert room.causes() == ["interval", "manual"]


async def test_a_clock_that_was_set_back_stops_no_snapshots(room: Room) -> None:
    await room.running()
    await room.tend(0)
    await room.write("1")
    await room.tend(-365 * 86_400)
    assert room.causes() == ["interval"] * 2


@pytest.mark.parametrize(("interval", "count"), [("5m", 2), (0, 0)])
async def test_a_notebook_may_have_its_own_interval(room: Room, interval: str | int, count: int) -> None:
    await room.running(history={"interval": interval})
    await room.tend(60)
    await room.write("1")
    await room.tend(300)
    assert len(room.causes()) == count


async def test_a_notebook_that_rests_is_only_pruned(room: Room, settings: Settings) -> None:
    notebook = await room.running()
    with room.db.write() as db:
        resources.set_status(db, notebook.uid, generation=notebook.generation, phase="Stopped")
    for _ in range(3):
        await room.workspaces.snapshot(notebook.uid, cause="stop")
    await room.tend(60)
    assert len(room.causes()) == 3
    await room.tend(25 * 3600)
    assert len(room.causes()) == 1


async def test_pruning_comes_once_an_hour(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.running(history={"interval": 0})
    await room.history.snapshot("nb")
    asked: list[float] = []
    prune = room.workspaces.prune

    async def count(uid: str, policy: Policy, now: float, **more: Any) -> Any:
        asked.append(now)
        return await prune(uid, policy, now, **more)

    monkeypatch.setattr(room.workspaces, "prune", count)
    for _ in range(130):
        await room.tend(60)
    assert len(asked) == 3


async def test_nothing_is_pruned_while_the_clock_is_not_believed(room: Room) -> None:
    notebook = await room.running(history={"interval": 0})
    for _ in range(3):
        await room.workspaces.snapshot(notebook.uid, cause="stop")
        room.clock.now += 60
    await room.tend(365 * 86_400, by_age=False)
    assert len(room.causes()) == 3
    await room.tend(0)
    assert len(room.causes()) == 1


async def test_many_new_moments_are_pruned_before_the_hour_is_over(room: Room) -> None:
    notebook = await room.running(history={"interval": 0})
    for _ in range(MANY_NEW):
        await room.workspaces.snapshot(notebook.uid, cause="save")
    await room.tend(1200)
    assert len(room.causes()) == MANY_NEW
    room.clock.now += 2340
    for number in range(MANY_NEW):
        assert len(room.causes()) == MANY_NEW + number
        await room.workspaces.snapshot(notebook.uid, cause="save")
    await room.tend(61)
    assert len(room.causes()) == MANY_NEW + 1


async def test_what_fails_for_one_is_told_once_and_holds_up_no_other(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = await room.running("bad"), await room.running("good")
    snapshot = room.workspaces.snapshot

    async def full(uid: str, **more: Any) -> Any:
        if uid == bad.uid:
            raise NoSpace("the disk is full", hint="free some space")
        return await snapshot(uid, **more)

    monkeypatch.setattr(room.workspaces, "snapshot", full)
    for _ in range(3):
        await room.tend(700)
    assert room.events("bad").count(("HistoryProblem", "the disk is full; free some space")) == 1
    assert room.causes("good") == ["interval"]
    assert good.uid != bad.uid


async def test_a_surprise_with_one_holds_up_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await room.running("one")
    await room.running("other")
    asked: list[str] = []

    async def broken(uid: str) -> bool:
        asked.append(uid)
        raise RecursionError("a tree that is too deep")

    monkeypatch.setattr(room.workspaces, "changed", broken)
    await room.tend(700)
    assert len(set(asked)) == 2


async def test_a_notebook_that_is_busy_is_left_for_the_next_round(room: Room) -> None:
    notebook = await room.running()
    async with room.locks[notebook.uid]:
        async with asyncio.timeout(60):
            await room.tend(60)
        assert room.causes() == []
    await room.tend(60)
    assert room.causes() == ["interval"]


# -- pure


def test_the_spec_wins_over_the_settings(settings: Settings) -> None:
    settings = replace(settings, keep_recent_h=2, keep_hourly=5, keep_daily=6, keep_weekly=7, keep_monthly=8)
    assert policy(settings, HistorySpec()) == Policy(7200, 5, 6, 7, 8)
    own = HistorySpec(hourly=0, monthly=1)
    assert policy(settings, own) == Policy(7200, 0, 6, 7, 1)


def test_another_history_asks_for_no_other_session() -> None:
    spec = Notebook(name="nb")
    assert digest(spec) == digest(spec.model_copy(update={"history": HistorySpec(daily=1)}))
    assert digest(spec) != digest(spec.model_copy(update={"image": "other"}))


def test_sessions_that_run_while_the_appliance_is_upgraded_go_on() -> None:
    assert digest(Notebook(name="lab", image="x", gpus=1, env={"A": "b"})) == "2330d0847843be48", "as of version 0.5"
    assert digest(Notebook(name="lab", user="1000:1000")) != digest(Notebook(name="lab"))
