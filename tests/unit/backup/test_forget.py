"""A target that is used no longer: what was kept for it goes, and it is in no list and no warning any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest
from starlette.applications import Starlette

from appliance.api.parts import Parts
from appliance.api.routes.backups import routes
from appliance.backup.point import PREFIX
from appliance.backup.target import Target
from appliance.errors import Conflict, NotFound, UsageError
from appliance.state import backups, events
from appliance.state.backups import Backup
from tests.unit.backup.rooms import Rooms, opened
from tests.unit.backup.suite import leftovers

pytestmark = pytest.mark.anyio

OLD, USED = "zfs:old/backup", "zfs:used/backup"


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    async with opened(tmp_path / "home", {}) as rooms:
        yield rooms


def sent(rooms: Rooms, backup_id: str, target: str) -> None:
    """As after `zfs send`; here the store is one of plain directories, which a test can do without a pool."""
    with rooms.db.write() as db:
        backups.add(db, Backup(backup_id, target, "Succeeded", "", 0, float(backup_id), 1.0))
    for volume in ("datasets/d/1", "datasets/d/2"):
        if not rooms.store.exists(volume):
            rooms.store.create(volume)
        rooms.store.snapshot(volume, f"{PREFIX}{backup_id}")


async def test_what_was_kept_for_it_goes_and_nothing_else(rooms: Rooms) -> None:
    sent(rooms, "1", OLD)
    sent(rooms, "2", USED)
    rooms.store.snapshot("datasets/d/1", "0123456789")
    assert await rooms.backups.held(OLD) == (1, 2)
    assert len(leftovers(rooms.store)) == 4, "counting changes nothing"
    assert await rooms.backups.forget(OLD) == (1, 2)
    assert leftovers(rooms.store) == [f"datasets/d/{number}@{PREFIX}2" for number in (1, 2)]
    assert "0123456789" in rooms.store.snapshots("datasets/d/1")
    assert [row.target for row in rooms.backups.every()] == [USED]
    last = events.after(rooms.db.read, 0)[-1]
    assert (last.kind, last.name, last.reason) == ("backup", OLD, "Forgotten")
    with pytest.raises(NotFound):
        await rooms.backups.forget(OLD)


async def test_one_that_failed_last_is_no_trouble_any_more(rooms: Rooms, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert (await rooms.back_up(target)).phase == "Succeeded"
    points = Target(target).ids()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert (await rooms.back_up(tmp_path / "full")).phase == "Failed"
    health = rooms.backups.health()
    assert health is not None
    assert not health[0]
    assert await rooms.backups.forget(str(tmp_path / "full")) == (1, 0)
    health = rooms.backups.health()
    assert health is not None
    assert health[0]
    assert await rooms.backups.forget(str(target)) == (1, 0)
    assert rooms.backups.health() is None
    assert Target(target).ids() == points, "what is stored stays"


async def test_not_while_a_backup_runs_nor_the_other_way_round(
    rooms: Rooms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(rooms, "1", OLD)
    row = await rooms.backups.start(str(tmp_path / "target"))
    with pytest.raises(Conflict, match="runs already"):
        await rooms.backups.forget(OLD)
    await rooms.backups.cancel(row.id)
    whole = rooms.backups._work.clear

    async def clear() -> None:
        with pytest.raises(Conflict, match="forgotten"):
            await rooms.backups.start(str(tmp_path / "target"))
        await whole()

    monkeypatch.setattr(rooms.backups._work, "clear", clear)
    assert await rooms.backups.forget(OLD) == (1, 2)
    assert (await rooms.back_up(tmp_path / "target")).phase == "Succeeded"


async def test_the_api_wants_the_target_twice(rooms: Rooms) -> None:
    sent(rooms, "1", OLD)
    app = Starlette(routes=routes(cast(Parts, SimpleNamespace(backups=rooms.backups))))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
        for wrong in ({}, {"confirm": USED}):
            with pytest.raises(UsageError, match="send everything again"):
                await client.post("/v1/backups/forget", json={"target": OLD, **wrong})
        known = {"target": OLD, "backups": 1, "moments": 2}
        looked = await client.post("/v1/backups/forget", json={"target": OLD, "dry_run": True})
        assert looked.json() == known
        assert len(rooms.backups.every()) == 1
        done = await client.post("/v1/backups/forget", json={"target": OLD, "confirm": OLD})
        assert (done.status_code, done.json()) == (200, known)
    assert (rooms.backups.every(), leftovers(rooms.store)) == ([], [])
