"""Kill the victim at random instants, look at what it has left, and count what was found.

`python -m tests.unit.history.kills directory 100` does it in a temporary directory; `zfs POOL/DATASET 100` on ZFS.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import Conflict
from appliance.history.volumes import ROOM
from appliance.state import snapshots, versions
from appliance.storage.directory.store import DirectoryStore
from tests.support.zfs import call, destroy_dataset
from tests.unit.history.victim import (
    OPERATIONS,
    UID,
    Home,
    Ledger,
    State,
    known_uids,
    open_home,
    prepare,
    read_state,
    write_state,
)

SPAN_S = 0.3
"""At first a kill comes within so many seconds; it then follows how long each operation takes."""
_REPOSITORY = Path(__file__).parents[3]

Counts = Counter[tuple[str, str]]
"""(operation that was under way, what was found) -> how often; found is `before`, `after`, or `idle` between two."""


async def kill_again_and_again(kind: str, place: str, home: Path, *, kills: int) -> Counts:
    """Each operation gets its share of the kills. Raises on any state that is neither before nor after."""
    home.mkdir(exist_ok=True)
    await prepare(kind, place, home)
    counts: Counts = Counter()
    spans = dict.fromkeys(OPERATIONS, SPAN_S)
    wanted = OPERATIONS[0]
    with _server(kind, place, home) as server:
        for number in range(kills):
            # Every other time only the daemon's process, so that the programs it has started go on for a moment.
            _kill_one(server, wanted, spans[wanted], whole_group=number // len(OPERATIONS) % 2 == 0)
            following = OPERATIONS[(number + 1) % len(OPERATIONS)]
            found = await _look(kind, place, home, following)
            counts[found] += 1
            spans[wanted] *= 1.15 if found[0] == wanted and found[1] != "idle" else 0.8
            wanted = following
    await _look_at_all(kind, place, home)
    return counts


def _server(kind: str, place: str, home: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.unit.history.victim", kind, place, str(home)]
    return subprocess.Popen(argv, cwd=_REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def table(counts: Mapping[tuple[str, str], int]) -> str:
    """A line for each operation, and the sum. There is no column for what would have ended the run with an error."""
    found = ("before", "after", "idle")
    names = sorted({operation for operation, _ in counts}, key=lambda name: (*OPERATIONS, name).index(name))
    rows = [(name, [counts.get((name, what), 0) for what in found]) for name in names]
    rows.append(("all", [sum(row[at] for _, row in rows) for at in range(len(found))]))
    lines = [f"{'killed in':<10}" + "".join(f"{word:>8}" for word in found)]
    for name, row in rows:
        lines.append(f"{name:<10}" + "".join(f"{value:>8}" for value in row))
    return "\n".join(lines)


def _kill_one(server: subprocess.Popen[str], operation: str, span_s: float, *, whole_group: bool) -> None:
    assert server.stdin
    assert server.stdout
    server.stdin.write(f"{operation}\n")
    server.stdin.flush()
    pid = int(server.stdout.readline())
    assert server.stdout.readline() == "ready\n"
    time.sleep(random.uniform(0, span_s))  # the instant is what is tested
    try:
        if whole_group:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise AssertionError(f"the victim of {operation} ended by itself; it has said why above") from None
    assert server.stdout.readline() == "ended\n"


async def _look(kind: str, place: str, directory: Path, following: str) -> tuple[str, str]:
    """What was under way, and whether it has happened. Then all is made ready for the operation that comes next."""
    home = open_home(kind, place, directory)
    ledger = Ledger(directory)
    try:
        ledger.mend()
        begun = ledger.read()[-1]
        operation = begun.get("begun", "")
        if operation != "restore":  # that one may be half way until the sweep of the next start
            _expect_head(read_state(await home.workspaces.open(UID)), ledger, begun)
        await home.workspaces.sweep()
        await home.datasets.sweep()
        head = read_state(await home.workspaces.open(UID))
        happened = _expect_head(head, ledger, begun)
        happened |= await _note(home, ledger, begun)
        ledger.write(head=head)
        await _look_around(home, ledger)
        found = (operation, "after" if happened else "before") if operation else (_last(ledger), "idle")
        await _make_ready(home, ledger, following)
        return found
    finally:
        home.db.close()


def _last(ledger: Ledger) -> str:
    done = [entry["begun"] for entry in ledger.read() if "begun" in entry]
    return str(done[-1]) if done else OPERATIONS[0]


def _expect_head(head: State, ledger: Ledger, begun: Mapping[str, Any]) -> bool:
    """Raises where it is neither the one before nor the one after. True: the one after."""
    if "before" not in begun:
        assert head == ledger.head()
        return False
    assert head in (begun["before"], begun["after"]), f"between: {head}"
    return bool(head == begun["after"] != begun["before"])


async def _note(home: Home, ledger: Ledger, begun: Mapping[str, Any]) -> bool:
    """Write to the ledger what the victim could not say any more. True: what it had begun has happened."""
    operation = begun.get("begun")
    timeline = {moment.id for moment in home.workspaces.timeline(UID)}
    new = timeline - ledger.moments().keys()
    assert len(new) <= 1
    for moment in new:  # its content is compared below
        ledger.write(moment=moment, state=begun["before"] if "before" in begun else begun["head_then"])
    happened = bool(new) and operation != "restore"
    if operation == "prune":
        gone = ledger.moments().keys() - timeline
        assert gone <= set(begun["going"])
        assert not gone or gone == set(begun["going"]), "a pruning takes all or nothing"
        ledger.write(pruned=sorted(gone))
        return bool(gone)
    if operation == "fork":
        happened = begun["uid"] in known_uids(home.db)
        if happened:
            ledger.write(forked=begun["uid"], state=begun["state"])
    if operation == "destroy":
        happened = begun["uid"] not in known_uids(home.db)
        if happened:
            ledger.write(destroyed=begun["uid"])
    if operation == "commit":
        committed = {version.version for version in home.datasets.versions("d") if version.committed is not None}
        happened = begun.get("version") in committed
        if happened:
            ledger.write(committed=begun["version"], state=begun["state"])
    return happened


async def _look_around(home: Home, ledger: Ledger) -> None:
    """No moment, fork or version is lost; nothing is there that no row knows."""
    timeline, moments = home.workspaces.timeline(UID), ledger.moments()
    assert {moment.id for moment in timeline} == moments.keys()
    if random.random() < 0.4:  # all of them are read at the end
        seen = random.choice(timeline)
        async with home.workspaces.view(UID, seen.id) as path:
            assert read_state(path) == moments[seen.id]

    forks = ledger.forks()
    assert known_uids(home.db) == {UID, *forks}
    if forks:
        fork = random.choice(sorted(forks))
        assert read_state(await home.workspaces.open(fork)) == forks[fork]

    known = {moment.volume for moment in timeline} | {snapshots.head(home.db.read, uid) or "" for uid in (UID, *forks)}
    assert set(home.store.volumes(ROOM)) == known
    kept = {moment: volume for volume in known for moment in home.store.snapshots(volume)}
    assert moments.keys() <= kept.keys(), "every moment is there"
    for moment in kept.keys() - moments.keys():  # of the pruned ones only what a clone still needs
        with pytest.raises(Conflict):
            home.store.destroy_snapshot(kept[moment], moment)

    assert set(home.store.volumes("datasets")) <= versions.volumes(home.db.read)
    stated = {entry["committed"]: entry["state"] for entry in ledger.read() if "committed" in entry}
    committed = [version for version in home.datasets.versions("d") if version.committed is not None]
    assert {version.version for version in committed} == stated.keys()
    if committed:
        version = random.choice(committed)
        assert read_state(await home.datasets.path(version)) == stated[version.version]
    if isinstance(home.store, DirectoryStore):
        assert list((home.store.root / ".tmp").iterdir()) == []


async def _make_ready(home: Home, ledger: Ledger, operation: str) -> None:
    """What a session would have done: something was written; there is a rollback to undo, or a moment to prune."""
    head = ledger.head()
    if operation == "undo":
        wanted = random.choice(home.workspaces.timeline(UID))
        before = await home.workspaces.rollback(UID, wanted.id)
        ledger.write(moment=before.id, state=head)
        head = ledger.moments()[wanted.id]
    if operation == "prune":
        for _ in range(2):
            taken = await home.workspaces.snapshot(UID, cause="manual")
            ledger.write(moment=taken.id, state=head)
    path = random.choice(sorted(head))
    head[path] = random.choice("xyz")
    write_state(await home.workspaces.open(UID), {path: head[path]})
    ledger.write(head=head)


async def _look_at_all(kind: str, place: str, directory: Path) -> None:
    home = open_home(kind, place, directory)
    ledger = Ledger(directory)
    try:
        for moment, state in ledger.moments().items():
            async with home.workspaces.view(UID, moment) as path:
                assert read_state(path) == state
        for uid, state in ledger.forks().items():
            assert read_state(await home.workspaces.open(uid)) == state
        for uid in (UID, *ledger.forks()):
            await home.workspaces.destroy(uid)
        assert home.store.volumes(ROOM) == [], "what had a history goes with it"
    finally:
        home.db.close()


async def main(kind: str, place: str, kills: int) -> None:
    with tempfile.TemporaryDirectory(prefix="appliance-kills-") as directory, _dataset(place) as dataset:
        started = time.monotonic()
        counts = await kill_again_and_again(kind, dataset, Path(directory) / "home", kills=kills)
        print(table(counts))
        print(f"{sum(counts.values())} kills in {time.monotonic() - started:.0f} s")


@contextmanager
def _dataset(place: str) -> Iterator[str]:
    """One of its own below `place`, where that is not empty."""
    dataset = f"{place}/kills-{secrets.token_hex(4)}"
    try:
        if place:
            assert call("zfs", "create", "-o", "canmount=off", dataset).returncode == 0
        yield dataset
    finally:
        if place:
            destroy_dataset(dataset)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 3 else "", int(sys.argv[-1])))
