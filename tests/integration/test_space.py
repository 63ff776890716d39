"""Quota, reserve and low space on a real pool that really fills up."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest

from appliance.history.measuring import SpaceReports
from appliance.history.workspaces import Workspaces
from appliance.notebooks.quotas import Quotas
from appliance.spec.models import Notebook
from appliance.state import resources, snapshots
from appliance.state.db import Database
from appliance.storage.room import Room
from appliance.storage.zfs.store import ZfsStore
from tests.conftest import Clock
from tests.support.zfs import call

pytestmark = [pytest.mark.zfs, pytest.mark.anyio]
MIB = 1 << 20
SETTLED_S = 120.0
"""ZFS counts a few seconds after it writes."""


def fill(path: Path, most: int) -> int:
    """Bytes that fitted; not compressible."""
    written = 0
    with path.open("wb", buffering=0) as file:
        try:
            while written < most:
                written += file.write(os.urandom(MIB))
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
    return written


@pytest.fixture
def store(zfs_dataset: str, tmp_path: Path) -> ZfsStore:
    return ZfsStore(zfs_dataset, tmp_path / "volumes")


async def test_a_pool_that_fills_up_stops_new_work_and_can_be_emptied(
    store: ZfsStore, zfs_dataset: str, tmp_path: Path
) -> None:
    assert call("zfs", "set", "quota=160M", zfs_dataset).returncode == 0
    room = Room(store, tmp_path, low=1 << 30, reserve=512 * MIB)
    seen = await room.look()
    assert seen.ok, seen.message
    volumes = seen.places[0]
    assert volumes.total <= 160 * MIB
    reserved = call(
        "zfs", "get", "-H", "-o", "value", "refreservation", f"{zfs_dataset}/volumes-reserve"
    ).stdout.strip()
    assert reserved not in ("none", "-", "")
    live = store.create("workspaces/u/1")
    assert fill(live / "greedy", 200 * MIB) < 160 * MIB - 6 * MIB, "the reserve is not for workspaces"
    deadline = time.monotonic() + SETTLED_S
    while not room.why() and time.monotonic() < deadline:
        await room.look()
    assert "waits for disk space" in room.why()
    assert "volumes" in room.why()
    os.truncate(live / "greedy", 0)  # zfs-fuse frees an unlinked file when the kernel has forgotten it,
    call("zfs", "set", "appliance:test=1", zfs_dataset)  # and without anything to write half a minute later
    deadline = time.monotonic() + SETTLED_S
    while room.why() and time.monotonic() < deadline:
        seen = await room.look()
    assert room.why() == ""
    assert seen.ok, seen.message
    (tmp_path / "reserve").unlink()


async def test_a_quota_is_enforced_and_its_full_notebook_is_told(
    store: ZfsStore, settings_db: Database, clock: Clock
) -> None:
    workspaces = Workspaces(settings_db, store, clock)
    with settings_db.write() as db:
        row = resources.put(db, "notebook", "nb", {}, source="cli", now=clock())[0]
    locks = {row.uid: asyncio.Lock()}
    quotas = Quotas(db=settings_db, store=store, clock=clock, hint=lambda uid: None, locks=locks)
    spec = Notebook(name="nb", quota=8 * MIB)
    live = await workspaces.open(row.uid)
    await quotas.keep(row, spec)
    assert quotas.note(row.uid, spec) == ""
    assert fill(live / "greedy", 64 * MIB) <= 12 * MIB
    deadline = time.monotonic() + SETTLED_S
    while not quotas.note(row.uid, spec) and time.monotonic() < deadline:
        await quotas.keep(row, spec, now=True)
    assert "quota of 8M" in quotas.note(row.uid, spec)
    assert quotas.refusal(row.uid, spec) == "", "its user has to get in to delete"
    # a rollback begins another volume, which is bounded as well
    before = await workspaces.snapshot(row.uid, cause="manual")
    await workspaces.rollback(row.uid, before.id)
    await quotas.keep(row, spec, now=True)
    head = snapshots.head(settings_db.read, row.uid)
    assert head
    assert fill(store.path(head) / "more", 64 * MIB) <= 4 * MIB
    await quotas.keep(row, spec.model_copy(update={"quota": None}))
    assert fill(store.path(head) / "more", 16 * MIB) == 16 * MIB


async def test_a_report_names_what_a_deleted_file_still_holds(
    store: ZfsStore, settings_db: Database, clock: Clock, tmp_path: Path
) -> None:
    workspaces = Workspaces(settings_db, store, clock)
    with settings_db.write() as db:
        uid = resources.put(db, "notebook", "lab", {}, source="cli", now=clock())[0].uid
    live = await workspaces.open(uid)
    fill(live / "big", 24 * MIB)
    taken = await workspaces.snapshot(uid, cause="manual", message="with the big one")
    (live / "big").unlink()
    fill(live / "small", MIB)
    await workspaces.snapshot(uid, cause="manual")
    room = Room(store, tmp_path, low=0, reserve=0)
    reports = SpaceReports(settings_db, store, room, low=0, clock=clock)
    deadline = time.monotonic() + SETTLED_S
    while True:
        answer = await reports.ask(fresh=True, wait_s=60)
        assert answer.report
        if answer.report.holders or time.monotonic() > deadline:
            break
    holder = answer.report.holders[0]
    assert (holder.snapshots, holder.name, holder.message) == ((taken.id,), "lab", "with the big one")
    assert 20 * MIB < holder.bytes < 30 * MIB
    (owner,) = answer.report.owners
    assert owner.live < 4 * MIB < 20 * MIB < owner.history
    await workspaces.fork(uid, "fork0001", taken.id)
    answer = await reports.ask(fresh=True, wait_s=60)
    assert answer.report
    total = sum(owner.disk for owner in answer.report.owners)
    assert total < 30 * MIB, "what the fork shares is counted once"


@pytest.fixture
def settings_db(tmp_path: Path) -> Database:
    return Database(tmp_path / "state.db")
