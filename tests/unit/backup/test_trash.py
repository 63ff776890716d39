"""A backup holds deleted notebooks that can still be brought back, with their files."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from appliance.state import resources, trash
from tests.unit.backup.rooms import opened, restored

pytestmark = pytest.mark.anyio


async def test_a_deleted_notebook_is_in_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    async with opened(tmp_path / "home", {}) as rooms:
        uid = rooms.declare("nb")
        (await rooms.workspaces.open(uid) / "a.txt").write_text("precious")
        await rooms.workspaces.snapshot(uid, cause="manual", message="good")
        with rooms.db.write() as db:
            trash.put(db, resources.get(db, "notebook", "nb"), now=1.0, until=2.0)
        ended = await rooms.back_up(target)
        assert ended.phase == "Succeeded", ended.message
    await anyio.to_thread.run_sync(restored, tmp_path / "new", target, {})
    async with opened(tmp_path / "new", {}) as again:
        await again.workspaces.sweep()
        (row,) = trash.every(again.db.read)
        assert (row.uid, row.name) == (uid, "nb")
        assert (await again.workspaces.open(uid) / "a.txt").read_text() == "precious"
        assert [moment.message for moment in again.workspaces.timeline(uid)] == ["good"]
