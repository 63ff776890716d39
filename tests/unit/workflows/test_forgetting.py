"""Old runs and events go, but never what anything names; no number is given twice."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import anyio
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from appliance.settings import load as load_settings
from appliance.state import capsules, events, kept, models, resources, runs, step_cache, versions
from appliance.state.capsules import Capsule
from appliance.state.db import Connection, Database
from appliance.state.models import Model
from appliance.workflows import again
from appliance.workflows.kept import forgetting
from appliance.workflows.rooms import Rooms
from tests.conftest import Clock
from tests.unit.workflows.fakes import Bench, flow, script

DAY = 86_400.0
NOW = 1_800_000_000.0
JOBS = ("a", "b")


@contextmanager
def opened(**values: float) -> Iterator[tuple[Database, Rooms]]:
    """A state file, and the little that forgetting asks of the rooms."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {f"APPLIANCE_{name.upper()}": str(value) for name, value in values.items()}
        db = Database(Path(folder) / "state.db")
        db.read.execute("PRAGMA synchronous=OFF")
        try:
            yield db, cast(Rooms, SimpleNamespace(db=db, settings=load_settings(environ, Path(folder))))
        finally:
            db.close()


def make(db: Connection, workflow: str, *, parent: str = "", over: bool = True) -> runs.Run:
    run = runs.create(
        db,
        workflow_uid=f"uid-{workflow}",
        workflow=workflow,
        spec={},
        inputs={},
        jobs=["a", "b"],
        now=NOW,
        parent=parent,
    )
    if over:
        runs.set_phase(db, run.id, "Succeeded", finished=NOW)
    return run


def ids(db: Database) -> set[str]:
    return set(runs.names(db.read))


class History:
    """Rows as they may come to be, and beside them what must stay, told without the code under test."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.made: list[runs.Run] = []
        self.parents: dict[str, str] = {}
        self.open: set[str] = set()
        self.kept: set[str] = set()
        self.named: set[str] = set()
        self.given: dict[str, set[str]] = {}
        """Run -> runs whose volumes its jobs were given."""
        self.shown: dict[str, str] = {}
        """Run with a capsule -> the run whose volume is in it."""
        with db.write() as transaction:
            self.dataset = resources.put(transaction, "dataset", "d", {}, source="cli", now=NOW)[0].uid

    def act(self, what: str, one: int, other: int) -> None:
        with self.db.write() as db:
            if what in ("run", "open") or not self.made:
                self.make(db, what, one, other)
            else:
                self.name(db, what, self.made[one % len(self.made)], self.made[other % len(self.made)])

    def make(self, db: Connection, what: str, one: int, other: int) -> None:
        workflow = "ab"[one % 2]
        before = [run for run in self.made if run.workflow == workflow]
        parent = before[other % len(before)].id if before and other % 3 == 0 else ""
        run = make(db, workflow, parent=parent, over=what != "open")
        self.made.append(run)
        self.parents[run.id] = parent
        if what == "open":
            self.open.add(run.id)

    def name(self, db: Connection, what: str, run: runs.Run, other: runs.Run) -> None:
        key = f"key-{run.id}"
        volume = {"v": {"type": "volume", "run": other.id, "job": "a", "output": "o"}}
        match what:
            case "kept":
                kept.keep(db, run.id, True)
                self.kept.add(run.id)
            case "cache":
                step_cache.put(db, key, run.id, "a", now=NOW)
            case "capsule":
                capsules.put(db, Capsule(run.id, "a", NOW, "failed", [], volume, {}))
                self.shown[run.id] = other.id
            case "version":
                version = f"v-{run.id}"
                if versions.find(db, self.dataset, version) is None:
                    self.put_version(db, version, run)
            case "model":
                model = Model(f"m{len(self.named)}-{run.id}", "m", "Custom", self.dataset, "v", run.id, "a", NOW)
                if models.find(db, model.id) is None:
                    models.add(db, model)
            case "given":
                many = {"all": {"type": "many", "of": volume}}
                db.execute("UPDATE jobs SET pins = ? WHERE run = ? AND name = 'b'", (json.dumps(many), run.id))
                self.given[run.id] = {other.id}
        if what in ("cache", "capsule", "version", "model"):
            self.named.add(run.id)

    def put_version(self, db: Connection, version: str, run: runs.Run) -> None:
        db.execute(
            "INSERT INTO versions (dataset, version, volume, created, run, job) VALUES (?, ?, ?, ?, ?, 'a')",
            (self.dataset, version, f"datasets/{version}", NOW, run.id),
        )

    def must_stay(self, most: int) -> set[str]:
        stays = self.open | self.kept | self.named | set(self.shown.values())
        for workflow in "ab":
            stays |= {run.id for run in [run for run in self.made if run.workflow == workflow][-most:]}
        for run in self.open | self.kept:
            stays |= self.given.get(run, set())
        while more := {parent for run in stays if (parent := self.parents[run])} - stays:
            stays |= more
        return stays


acts = st.tuples(
    st.sampled_from(("run", "run", "run", "run", "open", "kept", "cache", "capsule", "version", "model", "given")),
    st.integers(0, 40),
    st.integers(0, 40),
)


@pytest.fixture(scope="module")
def state() -> Iterator[Database]:
    with opened() as (db, _):
        yield db


def done(work: Coroutine[None, None, None]) -> None:
    """What only gives others their turn needs no loop."""
    with suppress(StopIteration):
        while True:
            work.send(None)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(acts, min_size=5, max_size=60), most=st.integers(1, 3))
def test_what_anything_names_stays_all_else_goes_and_a_second_look_finds_nothing(
    state: Database, history: list[tuple[str, int, int]], most: int
) -> None:
    with state.write() as db:
        for table in ("runs", "run_numbers", "versions", "models", "resources"):
            db.execute(f"DELETE FROM {table}")
    settings = load_settings({"APPLIANCE_KEEP_RUNS": str(most)}, Path("/nowhere"))
    rooms = cast(Rooms, SimpleNamespace(db=state, settings=settings))
    told = History(state)
    for what, one, other in history:
        told.act(what, one, other)
    stays = told.must_stay(most)
    with mock.patch.object(forgetting, "RUNS", 2), mock.patch.object(forgetting, "LOOKED_AT", 3):
        for _ in range(2):
            done(forgetting.forget(rooms, NOW))
            assert ids(state) == stays
    assert {row["run"] for row in state.read.execute("SELECT run FROM jobs")} == stays
    for workflow in "ab":
        numbers = [run.number for run in told.made if run.workflow == workflow]
        with state.write() as db:
            assert make(db, workflow).number == max(numbers, default=0) + 1


pytestmark = pytest.mark.anyio


async def test_the_newest_runs_of_each_workflow_stay() -> None:
    with opened(keep_runs=3) as (db, rooms):
        with db.write() as transaction:
            made = [make(transaction, workflow) for workflow in "aaaaabb"]
        await forgetting.forget(rooms, NOW)
        assert ids(db) == {run.id for run in made[2:]}


async def test_nothing_goes_where_all_are_to_be_kept() -> None:
    with opened(keep_runs=0, keep_events_days=0) as (db, rooms):
        with db.write() as transaction:
            made = [make(transaction, "a") for _ in range(600)]
            events.record(transaction, "run", "a.1", "Started", "", now=0)
        await forgetting.forget(rooms, NOW)
        assert len(ids(db)) == len(made)
        assert len(events.newest(db.read)) == 1


async def test_a_chain_of_resumed_runs_goes_as_a_whole_once_its_last_one_goes() -> None:
    with opened(keep_runs=1) as (db, rooms):
        with db.write() as transaction:
            chain = [make(transaction, "a")]
            for _ in range(30):
                chain.append(make(transaction, "a", parent=chain[-1].id))
        await forgetting.forget(rooms, NOW)
        assert len(ids(db)) == 31
        with db.write() as transaction:
            last = make(transaction, "a")
        await forgetting.forget(rooms, NOW)
        assert ids(db) == {last.id}


async def test_others_have_their_turn_while_many_go() -> None:
    with opened(keep_runs=1) as (db, rooms):
        with db.write() as transaction:
            for _ in range(301):
                make(transaction, "a")
        lengths: list[int] = []

        async def count() -> None:
            while not lengths or lengths[-1] > 1:
                lengths.append(len(ids(db)))
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            group.start_soon(forgetting.forget, rooms, NOW)
        steps = [before - after for before, after in pairwise(lengths)]
        assert max(steps) <= forgetting.RUNS
        assert len([step for step in steps if step]) >= 300 / forgetting.RUNS


async def test_a_run_that_is_made_meanwhile_keeps_what_it_goes_on_from() -> None:
    with opened(keep_runs=1) as (db, rooms):
        with db.write() as transaction:
            made = [make(transaction, "a") for _ in range(101)]
        late: list[str] = []

        async def resume() -> None:
            await anyio.lowlevel.checkpoint()
            with db.write() as transaction:
                late.append(make(transaction, "a", parent=made[0].id, over=False).id)

        async with anyio.create_task_group() as group:
            group.start_soon(forgetting.forget, rooms, NOW)
            group.start_soon(resume)
        assert ids(db) == {made[0].id, made[-1].id, *late}


async def test_events_go_after_their_time_but_by_a_clock_that_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "EVENTS", 4)
    with opened(keep_events_days=2) as (db, rooms):
        with db.write() as transaction:
            events.record(transaction, "run", "a.1", "Started", "when the clock was wrong", now=NOW + 900 * DAY)
            for day in range(-10, 1):
                events.record(transaction, "run", "a.1", "Started", str(day), now=NOW + day * DAY)
        await forgetting.forget(rooms, NOW, by_age=False)
        assert len(events.newest(db.read)) == 12
        await forgetting.forget(rooms, NOW)
        assert [event.message for event in events.newest(db.read)] == ["when the clock was wrong", "-2", "-1", "0"]
        newest = events.newest(db.read)[-1].id
        await forgetting.forget(rooms, NOW + 2000 * DAY)
        assert events.newest(db.read) == []
        with db.write() as transaction:
            events.record(transaction, "run", "a.1", "Started", "", now=NOW)
        assert events.newest(db.read)[-1].id == newest + 1


async def test_runs_go_as_the_controller_tends_and_what_they_left_goes_too(bench: Bench, clock: Clock) -> None:
    bench.settings = load_settings({"APPLIANCE_KEEP_RUNS": "2"}, home=bench.settings.home)
    bench.kill()
    made = []
    for number in range(4):
        job = script(outputs={"v": {"type": "volume"}}, env={"N": str(number)})
        made.append(bench.submit(flow(job=job), name="flow"))
        await bench.settle()
        clock.now += 1
    await bench.controller.tend(clock.now)
    assert ids(bench.db) == {run.id for run in made}  # the step cache names them
    clock.now += 8 * DAY
    await bench.controller.tend(clock.now, by_age=False)
    assert ids(bench.db) == {run.id for run in made}
    await bench.controller.tend(clock.now)
    assert ids(bench.db) == {run.id for run in made[2:]}
    assert bench.store.volumes("runs") == []
    assert bench.submit(flow(job=script()), name="flow").number == 5
    await bench.settle()


async def test_a_failed_run_goes_only_when_it_is_kept_no_longer(bench: Bench, clock: Clock) -> None:
    bench.settings = load_settings({"APPLIANCE_KEEP_RUNS": "1"}, home=bench.settings.home)
    bench.kill()
    failed = bench.submit(flow(bad=script()), body={"bad": lambda inside: 1})
    await bench.settle()
    clock.now += 1
    bench.submit(flow(good=script()))
    await bench.settle()
    await bench.controller.tend(clock.now)
    assert bench.run(failed).kept
    resumed = again.resume_run(bench.db, failed, now=clock.now)
    bench.engine.body = {}
    bench.hint(resumed.id)
    await bench.settle()
    clock.now += 8 * DAY
    await bench.controller.tend(clock.now)
    assert ids(bench.db) == {failed.id, resumed.id}  # the newest one names it
    last = bench.submit(flow(good=script()))
    assert last.number == 4
    await bench.settle()
    await bench.controller.tend(clock.now)
    assert ids(bench.db) == {last.id}
    assert capsules.every(bench.db.read) == []


def test_what_a_run_is_given_between_two_batches_stays() -> None:
    with opened() as (db, _):
        with db.write() as transaction:
            first, second, reader = (make(transaction, "a", over=name != "reader") for name in ("1", "2", "reader"))
        spared = forgetting._Spared(db)
        assert spared.remove([first.id]) == 1
        with db.write() as transaction:
            volume = {"v": {"type": "volume", "run": second.id, "job": "a", "output": "o"}}
            runs.move_job(transaction, reader.id, "a", "Pending", "Starting", inputs=volume)
        assert spared.remove([second.id]) == 0
        assert ids(db) == {second.id, reader.id}
