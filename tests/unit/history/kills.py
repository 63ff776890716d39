"""Kill the victim at random instants, and look at what it has left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from appliance.history.workspaces import ROOM
from appliance.state import snapshots, versions
from appliance.storage.directory import DirectoryStore
from tests.unit.history.victim import UID, Ledger, open_home, prepare, read_state

MOST_S = 1.0
"""Latest instant of a kill: time for a few operations."""
_REPOSITORY = Path(__file__).parents[3]


async def kill_again_and_again(kind: str, place: str, home: Path, *, kills: int) -> dict[str, int]:
    """How often the state was the one before, the one after, or no operation was under way. Raises on any other."""
    home.mkdir(exist_ok=True)
    await prepare(kind, place, home)
    counts = {"before": 0, "after": 0, "idle": 0}
    for number in range(kills):
        _kill_one(kind, place, home, whole_group=number % 2 == 0)
        counts[await _look(kind, place, home)] += 1
    return counts


def _kill_one(kind: str, place: str, home: Path, *, whole_group: bool) -> None:
    """Every other time only the daemon's process, so that the programs it has started may go on for a moment."""
    argv = [sys.executable, "-m", "tests.unit.history.victim", kind, place, str(home)]
    victim = subprocess.Popen(argv, cwd=_REPOSITORY, stdout=subprocess.PIPE, start_new_session=True)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"ready\n"
    time.sleep(random.uniform(0, MOST_S))  # the instant is what is tested
    assert victim.poll() is None, "the victim ended by itself"
    if whole_group:
        os.killpg(victim.pid, signal.SIGKILL)
    else:
        victim.kill()
    victim.wait()
    victim.stdout.close()
    _wait_for_group(victim.pid)


def _wait_for_group(group: int) -> None:
    """Until the programs that the victim had started have ended as well."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("something that the victim had started does not end")


async def _look(kind: str, place: str, home: Path) -> str:
    db, store, workspaces, datasets = open_home(kind, place, home)
    ledger = Ledger(home)
    try:
        entries = ledger.read()
        last = [entry for entry in entries if "head" in entry or entry.get("intent") == "move"][-1]
        expected = {last["head"]} if "head" in last else {last["before"], last["after"]}
        head = read_state(await workspaces.open(UID))
        assert head in expected

        await workspaces.sweep()
        await datasets.sweep()
        assert read_state(await workspaces.open(UID)) == head, "a sweep changes nothing that anybody sees"
        timeline = workspaces.timeline(UID)
        for moment in timeline:
            if moment.id not in ledger.states():  # moved, and killed before it could say so
                ledger.write(snapshot=moment.id, state=last["before"])
        known = {moment.volume for moment in timeline} | {snapshots.head(db.read, UID) or ""}
        assert set(store.volumes(ROOM)) == known
        kept = [moment for volume in known for moment in store.snapshots(volume)]
        assert sorted(kept) == sorted(moment.id for moment in timeline), "every moment is there, and no orphan"
        assert set(store.volumes("datasets")) <= versions.volumes(db.read)
        for version in datasets.versions("d"):
            if version.committed is not None:
                read_state(await datasets.path(version))
        committed = {version.version for version in datasets.versions("d") if version.committed is not None}
        assert {entry["committed"] for entry in entries if "committed" in entry} <= committed
        if isinstance(store, DirectoryStore):
            assert list((store.root / ".tmp").iterdir()) == []
        ledger.write(head=head)
        if "head" in last:
            return "idle"
        return "before" if head == last["before"] else "after"
    finally:
        db.close()
