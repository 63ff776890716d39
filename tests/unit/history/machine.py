"""A model of workspaces kept in memory, and the steps that compare it with the real thing, on any store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store

UIDS = ("00000000000000aa", "00000000000000bb")
NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "odd\nname"])
T = TypeVar("T")
Files = dict[str, bytes]


class Model:
    """One workspace: its files, its moments, and the rollbacks that can still be undone."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.moments: dict[str, Files] = {}
        self.undoable: list[Files] = []


class WorkspaceMachine(RuleBasedStateMachine):
    """Subclasses give the store and a directory for the state file."""

    store: Store
    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.counter = itertools.count()
        self.models = {uid: Model() for uid in UIDS}
        self.db = Database(self.directory / "state.db")

    @initialize()
    def open(self) -> None:
        self.workspaces = Workspaces(self.db, self.store, lambda: 0.0)  # a clock that stands still
        for uid in UIDS:
            self.run(self.workspaces.open(uid))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def root(self, uid: str) -> Path:
        return self.run(self.workspaces.open(uid))

    @rule(uid=st.sampled_from(UIDS), name=NAMES, size=st.sampled_from([0, 1, 5000, 300_000]))
    def write(self, uid: str, name: str, size: int) -> None:
        content = str(next(self.counter)).encode().ljust(size, b"x")
        path = self.root(uid) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        self.models[uid].files[name] = content

    @rule(uid=st.sampled_from(UIDS), name=NAMES)
    def remove(self, uid: str, name: str) -> None:
        (self.root(uid) / name).unlink(missing_ok=True)
        self.models[uid].files.pop(name, None)

    @rule(uid=st.sampled_from(UIDS))
    def snapshot(self, uid: str) -> None:
        taken = self.run(self.workspaces.snapshot(uid, cause="manual"))
        self.remember(uid, taken, self.models[uid].files)

    @rule(uid=st.sampled_from(UIDS), data=st.data())
    def rollback(self, uid: str, data: st.DataObject) -> None:
        model = self.models[uid]
        if not model.moments:
            return
        wanted = data.draw(st.sampled_from(sorted(model.moments)))
        before = self.run(self.workspaces.rollback(uid, wanted))
        self.remember(uid, before, model.files)
        model.undoable.append(model.files)
        model.files = dict(model.moments[wanted])

    @precondition(lambda self: any(model.undoable for model in self.models.values()))
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from([uid for uid in UIDS if self.models[uid].undoable]))
        model = self.models[uid]
        self.run(self.workspaces.undo(uid))
        self.remember(uid, self.workspaces.timeline(uid)[0], model.files)
        model.files = dict(model.undoable.pop())

    @rule()
    def restart(self) -> None:
        self.db.close()
        self.db = Database(self.directory / "state.db")
        self.workspaces = Workspaces(self.db, self.store, lambda: 0.0)
        self.run(self.workspaces.sweep())

    @rule(uid=st.sampled_from(UIDS))
    def destroy(self, uid: str) -> None:
        self.run(self.workspaces.destroy(uid))
        self.models[uid] = Model()

    @invariant()
    def the_files_are_those_of_the_model(self) -> None:
        if not hasattr(self, "workspaces"):
            return
        for uid, model in self.models.items():
            root = self.root(uid)
            found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            assert found == model.files
            assert {moment.id for moment in self.workspaces.timeline(uid)} == set(model.moments)

    def remember(self, uid: str, moment: Snapshot, files: Files) -> None:
        assert moment.id not in self.models[uid].moments
        self.models[uid].moments[moment.id] = dict(files)

    def teardown(self) -> None:
        try:
            for uid in UIDS:
                self.run(self.workspaces.destroy(uid))
            assert self.store.volumes() == []
        finally:
            self.db.close()
            (self.directory / "state.db").unlink()
            self.runner.close()
