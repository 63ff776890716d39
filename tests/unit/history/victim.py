"""A program to be killed: it does one operation on workspaces and datasets again and again until the end comes.

`python -m tests.unit.history.victim KIND PLACE HOME` imports everything once; for each line it reads, the name of an
operation, it forks a victim, tells its process id, and `ended` when the victim and all programs that it had started are
gone. KIND is `directory` or `zfs`, PLACE the dataset for ZFS. Before each operation a victim writes to `HOME/ledger`
what will be true before and after it, and afterwards that it is done.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import secrets
import stat
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.history.retention import Policy
from appliance.history.undo import undo_target
from appliance.history.workspaces import NOW, Workspaces
from appliance.state import snapshots
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.zfs.store import ZfsStore

UID = "0123456789abcdef"
OPERATIONS = ("rollback", "undo", "restore", "fork", "commit", "prune")
FORKS = 3
"""Forks that are kept; older ones are destroyed."""
BESIDE = ("beside-a", "beside-b")
_LENGTH = 400
_PR_SET_CHILD_SUBREAPER = 36
_KEEP_LITTLE = Policy(recent_s=0, hourly=0, daily=0, weekly=0, monthly=0)

State = dict[str, str]
"""Path of each file -> the one letter that it is full of."""


@dataclass(frozen=True, slots=True)
class Home:
    directory: Path
    db: Database
    store: Store
    workspaces: Workspaces
    datasets: Datasets


def open_home(kind: str, place: str, directory: Path) -> Home:
    root = directory / "volumes"
    store = ZfsStore(place, root) if kind == "zfs" else DirectoryStore(root, "for tests", durable=False)
    db = Database(directory / "state.db")
    return Home(directory, db, store, Workspaces(db, store, time.time), Datasets(db, store, time.time))


def first_state(letter: str) -> State:
    return {f"d{number % 3}/f{number}": letter for number in range(9)}


def write_state(directory: Path, state: State) -> None:
    for path, letter in state.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(letter * _LENGTH)


def read_state(directory: Path) -> State:
    """Raises where a file is not of one piece, or where there is anything that no operation has made."""
    found = {}
    for path in directory.rglob("*"):
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind == stat.S_IFREG:
            text = path.read_text()
            assert text == text[:1] * _LENGTH, f"{path} is of several pieces"
            found[str(path.relative_to(directory))] = text[0]
        assert kind in (stat.S_IFREG, stat.S_IFDIR), f"{path} is something else"
        assert not path.name.startswith("."), f"{path} is a leftover"
    return found


class Ledger:
    """What was begun, and what was done, in order."""

    def __init__(self, home: Path) -> None:
        self._file = home / "ledger"

    def write(self, **entry: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def mend(self) -> None:
        """Take off what a kill has left of a line: it can come between two pages of one write."""
        with self._file.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def moments(self) -> dict[str, State]:
        """Snapshot id -> the state it froze, without those that were pruned."""
        found: dict[str, State] = {}
        for entry in self.read():
            if "moment" in entry:
                found[entry["moment"]] = entry["state"]
            for gone in entry.get("pruned", ()):
                found.pop(gone, None)
        return found

    def forks(self) -> dict[str, State]:
        """Uid -> the state it began with, oldest first."""
        found = {entry["forked"]: entry["state"] for entry in self.read() if "forked" in entry}
        for entry in self.read():
            found.pop(entry.get("destroyed", ""), None)
        return found

    def head(self) -> State:
        """Raises where an operation has begun that says not that it has ended."""
        last = [entry for entry in self.read() if "head" in entry or "before" in entry][-1]
        assert "head" in last
        return dict(last["head"])


class Victim:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._workspaces = home.workspaces
        self._ledger = Ledger(home.directory)

    async def run(self, operation: str) -> None:
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "rollback": self.rollback,
            "undo": self.undo,
            "restore": self.restore,
            "fork": self.fork,
            "commit": self.commit,
            "prune": self.prune,
        }
        print("ready", flush=True)
        while True:
            await steps[operation]()

    async def rollback(self) -> None:
        wanted = random.choice(self._workspaces.timeline(UID))
        head, states = self._ledger.head(), self._ledger.moments()
        self._ledger.write(begun="rollback", before=head, after=states[wanted.id])
        before = await self._workspaces.rollback(UID, wanted.id)
        self._moved(before.id, head, states[wanted.id])

    async def undo(self) -> None:
        target = undo_target(self._workspaces.timeline(UID)[::-1])
        if target is None:
            await self.rollback()
            return
        head, states = self._ledger.head(), self._ledger.moments()
        self._ledger.write(begun="undo", before=head, after=states[target.id])
        before = await self._workspaces.undo(UID)
        self._moved(before.id, head, states[target.id])

    async def restore(self) -> None:
        wanted = random.choice(self._workspaces.timeline(UID))
        head, state = self._ledger.head(), self._ledger.moments()[wanted.id]
        path = random.choice(sorted({*state, *(path.split("/")[0] for path in state)}))
        free = [name for name in BESIDE if not any(_is_below(held, name) for held in head)]
        to = random.choice(free) if free and random.random() < 0.3 else ""
        after = {held: letter for held, letter in head.items() if not _is_below(held, to or path)}
        for held, letter in state.items():
            if _is_below(held, path):
                after[(to or path) + held[len(path) :]] = letter
        self._ledger.write(begun="restore", before=head, after=after)
        before = await self._workspaces.restore(UID, wanted.id, path, to)
        self._moved(before.id, head, after)

    async def fork(self) -> None:
        forks = self._ledger.forks()
        if len(forks) >= FORKS:
            oldest = next(iter(forks))
            self._ledger.write(begun="destroy", uid=oldest)
            await self._workspaces.destroy(oldest)
            self._ledger.write(destroyed=oldest)
        wanted = random.choice([NOW, *(moment.id for moment in self._workspaces.timeline(UID))])
        head = self._ledger.head()
        state = head if wanted == NOW else self._ledger.moments()[wanted]
        uid = secrets.token_hex(8)
        self._ledger.write(begun="fork", uid=uid, state=state, head_then=head)
        origin = await self._workspaces.fork(UID, uid, wanted)
        if wanted == NOW:
            self._ledger.write(moment=origin.id, state=state)
        self._ledger.write(forked=uid, state=state)

    async def commit(self) -> None:
        state = first_state(random.choice("pqrst"))
        self._ledger.write(begun="commit")
        version = await self._home.datasets.begin("d", run=f"run{time.time_ns()}", job="job")
        write_state(await self._home.datasets.path(version), state)
        self._ledger.write(begun="commit", version=version.version, state=state)
        await self._home.datasets.commit(version)
        self._ledger.write(committed=version.version, state=state)

    async def prune(self) -> None:
        preview = await self._workspaces.prune(UID, _KEEP_LITTLE, time.time(), dry_run=True, measure=False)
        going = [moment.id for moment in preview.going]
        self._ledger.write(begun="prune", going=going)
        await self._workspaces.prune(UID, _KEEP_LITTLE, time.time(), measure=False)
        self._ledger.write(pruned=going)
        for message in ("", "kept")[: random.randint(1, 2)]:
            await self.snapshot(message)

    async def snapshot(self, message: str) -> None:
        head = self._ledger.head()
        self._ledger.write(begun="snapshot", before=head, after=head)
        taken = await self._workspaces.snapshot(UID, cause="manual", message=message)
        self._moved(taken.id, head, head)

    def _moved(self, moment: str, before: State, after: State) -> None:
        self._ledger.write(moment=moment, state=before)
        self._ledger.write(head=after)


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


async def prepare(kind: str, place: str, directory: Path) -> None:
    home = open_home(kind, place, directory)
    ledger = Ledger(directory)
    path = await home.workspaces.open(UID)
    for letter in "abc":
        write_state(path, first_state(letter))
        taken = await home.workspaces.snapshot(UID, cause="manual", message="the first ones stay")
        ledger.write(moment=taken.id, state=first_state(letter))
    ledger.write(head=first_state("c"))
    home.datasets.create("d")
    home.db.close()


def known_uids(db: Database) -> set[str]:
    return snapshots.uids(db.read)


async def _one(kind: str, place: str, directory: Path, operation: str) -> None:
    await Victim(open_home(kind, place, directory)).run(operation)


def serve(kind: str, place: str, directory: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what a victim leaves comes to us to be waited for
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            print(os.getpid(), flush=True)
            asyncio.run(_one(kind, place, directory, line.strip()))
        _wait_for_all()
        print("ended", flush=True)


def _wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
