"""A program to be killed: it rolls a workspace back and forth and commits dataset versions until the end comes.

`python -m tests.unit.history.victim KIND PLACE HOME`; KIND is `directory` or `zfs`, PLACE the dataset for ZFS. Before
each operation it writes to `HOME/ledger` what will be true before and after it, and afterwards that it is done.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

from appliance.datasets.datasets import Datasets
from appliance.history.undo import undo_target
from appliance.history.workspaces import Workspaces
from appliance.state.db import Database
from appliance.storage.base import Store
from appliance.storage.directory import DirectoryStore
from appliance.storage.zfs import ZfsStore

UID = "0123456789abcdef"
FILES = 12


def open_home(kind: str, place: str, home: Path) -> tuple[Database, Store, Workspaces, Datasets]:
    root = home / "volumes"
    store = ZfsStore(place, root) if kind == "zfs" else DirectoryStore(root, "for tests", durable=False)
    db = Database(home / "state.db")
    return db, store, Workspaces(db, store, time.time), Datasets(db, store, time.time)


def write_state(directory: Path, state: str) -> None:
    for number in range(FILES):
        folder = directory / f"d{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text(state * 100)


def read_state(directory: Path) -> str:
    """The state of all files. Raises where they are of several states, or some are missing."""
    found = {path.read_text() for path in directory.rglob("f*")}
    count = sum(1 for _ in directory.rglob("f*"))
    assert (len(found), count) == (1, FILES), f"{count} files of {len(found)} states"
    return found.pop()[: len("state0")]


class Ledger:
    def __init__(self, home: Path) -> None:
        self._file = home / "ledger"

    def write(self, **entry: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._file.read_text().splitlines()]

    def states(self) -> dict[str, str]:
        """Snapshot id -> the state it froze."""
        return {entry["snapshot"]: entry["state"] for entry in self.read() if "snapshot" in entry}


async def prepare(kind: str, place: str, home: Path) -> None:
    db, _, workspaces, datasets = open_home(kind, place, home)
    ledger = Ledger(home)
    path = await workspaces.open(UID)
    for number in range(3):
        write_state(path, f"state{number}")
        taken = await workspaces.snapshot(UID, cause="manual")
        ledger.write(snapshot=taken.id, state=f"state{number}")
    ledger.write(head="state2")
    datasets.create("d")
    db.close()


async def move(workspaces: Workspaces, ledger: Ledger, head: str) -> str:
    states = ledger.states()
    undo = undo_target(workspaces.timeline(UID)[::-1])
    wanted = undo if undo and random.random() < 0.4 else random.choice(workspaces.timeline(UID))
    ledger.write(intent="move", before=head, after=states[wanted.id])
    if wanted is undo:
        await workspaces.undo(UID)
    else:
        await workspaces.rollback(UID, wanted.id)
    ledger.write(snapshot=workspaces.timeline(UID)[0].id, state=head)
    ledger.write(head=states[wanted.id])
    return states[wanted.id]


async def commit(datasets: Datasets, ledger: Ledger, number: int) -> None:
    state = f"state{number % 10}"
    version = await datasets.begin("d", run=f"run{time.time_ns()}", job="job")
    write_state(await datasets.path(version), state)
    ledger.write(intent="commit", version=version.version, state=state)
    await datasets.commit(version)
    ledger.write(committed=version.version)


async def forever(kind: str, place: str, home: Path) -> None:
    _, _, workspaces, datasets = open_home(kind, place, home)
    ledger = Ledger(home)
    head = [entry["head"] for entry in ledger.read() if "head" in entry][-1]
    print("ready", flush=True)
    number = 0
    while True:
        head = await move(workspaces, ledger, head)
        number += 1
        if number % 3 == 0:
            await commit(datasets, ledger, number)


if __name__ == "__main__":
    asyncio.run(forever(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
