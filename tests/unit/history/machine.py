"""A model of workspaces kept in memory, and the steps that compare it with the real thing, on any store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.errors import Conflict
from appliance.history.retention import Policy
from appliance.history.workspaces import NOW, Workspaces
from appliance.state.db import Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store

UIDS = ("00000000000000aa", "00000000000000bb")
FORKS = ("00000000000000f0", "00000000000000f1", "00000000000000f2")
NAMES = ["a", "b", "d/a", "d/b", "odd\nname"]
STEP_S = 1200.0
T = TypeVar("T")
Files = dict[str, bytes]
Undoable = tuple[str, Files]
"""The moment before a rollback, and its files."""

policies = st.builds(
    Policy, st.sampled_from([0.0, 2 * STEP_S]), *[st.integers(0, 3) for _ in ("hourly", "daily", "weekly", "monthly")]
)


class Model:
    """One workspace: its files, its moments, those that are held, and the rollbacks that can still be undone."""

    def __init__(self, files: Files | None = None) -> None:
        self.files: Files = dict(files or {})
        self.moments: dict[str, Files] = {}
        self.held: set[str] = set()
        self.undoable: list[Undoable] = []


class WorkspaceMachine(RuleBasedStateMachine):
    """Subclasses give the store and a directory for the state file."""

    store: Store
    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.counter = itertools.count()
        self.now = 1.8e9
        self.models = {uid: Model() for uid in UIDS}
        self.db = Database(self.directory / "state.db")

    @initialize()
    def open(self) -> None:
        self.workspaces = self.begin()
        for uid in UIDS:
            self.run(self.workspaces.open(uid))

    def begin(self) -> Workspaces:
        return Workspaces(self.db, self.store, lambda: self.now)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def root(self, uid: str) -> Path:
        return self.run(self.workspaces.open(uid))

    def one(self, data: st.DataObject) -> tuple[str, Model]:
        uid = data.draw(st.sampled_from(sorted(self.models)))
        return uid, self.models[uid]

    # -- what a user does in the workspace

    @rule(data=st.data(), name=st.sampled_from(NAMES), size=st.sampled_from([0, 1, 5000, 300_000]))
    def write(self, data: st.DataObject, name: str, size: int) -> None:
        uid, model = self.one(data)
        content = str(next(self.counter)).encode().ljust(size, b"x")
        path = self.root(uid) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        model.files[name] = content

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def remove(self, data: st.DataObject, name: str) -> None:
        uid, model = self.one(data)
        (self.root(uid) / name).unlink(missing_ok=True)
        model.files.pop(name, None)

    # -- what a user does with its history

    @rule(data=st.data(), cause=st.sampled_from(["manual", "interval"]))
    def snapshot(self, data: st.DataObject, cause: Any) -> None:
        uid, model = self.one(data)
        self.now += STEP_S
        taken = self.run(self.workspaces.snapshot(uid, cause=cause))
        self.remember(model, taken)

    @precondition(lambda self: self.has_moments())
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        uid, model, wanted = self.moment(data)
        before = self.run(self.workspaces.rollback(uid, wanted))
        self.remember(model, before)
        model.undoable.append((before.id, model.files))
        model.files = dict(model.moments[wanted])

    @precondition(lambda self: any(model.undoable for model in self.models.values()))
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from(sorted(uid for uid, model in self.models.items() if model.undoable)))
        model = self.models[uid]
        self.remember(model, self.run(self.workspaces.undo(uid)))
        model.files = dict(model.undoable.pop()[1])

    @precondition(lambda self: self.has_moments())
    @rule(data=st.data(), aside=st.booleans())
    def restore(self, data: st.DataObject, aside: bool) -> None:
        uid, model, wanted = self.moment(data)
        then = model.moments[wanted]
        places = sorted({*then, *(name.split("/")[0] for name in then)})
        if not places:
            return
        path = data.draw(st.sampled_from(places))
        to = f"aside/{next(self.counter)}" if aside else ""
        before = self.run(self.workspaces.restore(uid, wanted, path, to))
        self.remember(model, before)
        target = to or path
        kept = {name: content for name, content in model.files.items() if not _within(name, target)}
        model.files = kept | {
            target + name.removeprefix(path): content for name, content in then.items() if _within(name, path)
        }

    @precondition(lambda self: len(self.models) < len(UIDS) + len(FORKS))
    @rule(data=st.data(), from_now=st.booleans())
    def fork(self, data: st.DataObject, from_now: bool) -> None:
        new = next(uid for uid in FORKS if uid not in self.models)
        if from_now or not self.has_moments():
            uid, model = self.one(data)
            origin = self.run(self.workspaces.fork(uid, new, NOW))
            self.remember(model, origin)
        else:
            uid, model, wanted = self.moment(data)
            origin = self.run(self.workspaces.fork(uid, new, wanted))
            assert origin.id == wanted
        self.models[new] = Model(model.moments[origin.id])

    @precondition(lambda self: self.has_moments())
    @rule(data=st.data())
    def hold_or_release(self, data: st.DataObject) -> None:
        uid, model, wanted = self.moment(data)
        self.run((self.workspaces.release if wanted in model.held else self.workspaces.hold)(uid, wanted))
        model.held ^= {wanted}

    @rule(data=st.data(), policy=policies)
    def prune(self, data: st.DataObject, policy: Policy) -> None:
        uid, model = self.one(data)
        told = {moment.id for moment in self.run(self.workspaces.prune(uid, policy, self.now, dry_run=True)).going}
        done = {moment.id for moment in self.run(self.workspaces.prune(uid, policy, self.now)).going}
        assert told == done
        assert done <= set(model.moments) - model.held
        assert not model.undoable or model.undoable[-1][0] not in done
        model.moments = {moment: files for moment, files in model.moments.items() if moment not in done}
        model.undoable = [entry for entry in model.undoable if entry[0] not in done]

    @precondition(lambda self: self.has_moments())
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        uid, model, wanted = self.moment(data)

        async def read() -> Files:
            async with self.workspaces.view(uid, wanted) as path:
                return _files(path)

        assert self.run(read()) == model.moments[wanted]

    # -- what happens to the daemon

    @rule()
    def restart(self) -> None:
        self.db.close()
        self.db = Database(self.directory / "state.db")
        self.workspaces = self.begin()
        self.run(self.workspaces.sweep())

    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        uid, _ = self.one(data)
        self.run(self.workspaces.destroy(uid))
        if uid in UIDS:
            self.models[uid] = Model()
        else:
            del self.models[uid]

    @rule()
    def nothing_to_undo(self) -> None:
        for uid, model in self.models.items():
            if not model.undoable:
                try:
                    self.run(self.workspaces.undo(uid))
                except Conflict:
                    continue
                raise AssertionError("an undo that takes nothing back")

    @invariant()
    def the_files_are_those_of_the_model(self) -> None:
        if not hasattr(self, "workspaces"):
            return
        for uid, model in self.models.items():
            assert _files(self.root(uid)) == model.files
            assert {moment.id for moment in self.workspaces.timeline(uid)} == set(model.moments)
            assert set(self.workspaces.held(uid)) == model.held

    # -- parts

    def has_moments(self) -> bool:
        return any(model.moments for model in self.models.values())

    def moment(self, data: st.DataObject) -> tuple[str, Model, str]:
        uid = data.draw(st.sampled_from(sorted(uid for uid, model in self.models.items() if model.moments)))
        return uid, self.models[uid], data.draw(st.sampled_from(sorted(self.models[uid].moments)))

    def remember(self, model: Model, moment: Snapshot) -> None:
        assert moment.id not in model.moments
        model.moments[moment.id] = dict(model.files)

    def teardown(self) -> None:
        try:
            for uid in self.models:
                self.run(self.workspaces.destroy(uid))
            assert self.store.volumes() == []
        finally:
            self.db.close()
            (self.directory / "state.db").unlink()
            self.runner.close()


def _within(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")


def _files(root: Path) -> Files:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
