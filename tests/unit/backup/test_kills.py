"""Kills at random instants: of backups, no point is ever less than whole; of a restore, the next one ends it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from appliance.backup.check import work as check
from appliance.backup.target import Target
from tests.unit.backup.rooms import opened, restored
from tests.unit.backup.suite import leftovers, live

pytestmark = pytest.mark.anyio

BACKUPS, RESTORES = 6, 6
_REPOSITORY = Path(__file__).parents[3]


def kill_one(what: str, home: Path, target: Path, *, most_s: float) -> bool:
    """False: it had ended well before."""
    argv = [sys.executable, "-m", "tests.unit.backup.victim", what, str(home), str(target)]
    with subprocess.Popen(argv, cwd=_REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as victim:
        assert victim.stdout is not None
        assert victim.stderr is not None
        assert victim.stdout.readline() == b"ready\n", victim.stderr.read().decode()
        time.sleep(random.uniform(0, most_s))  # the instant is what is tested
        ended = victim.poll()
        victim.kill()
        assert ended in (None, 0), victim.stderr.read().decode()
        return ended is None


async def test_a_killed_backup_leaves_whole_points_and_a_clean_store(tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "target"
    async with opened(home, {}) as rooms:
        await live(rooms)
        began = time.monotonic()
        assert (await rooms.back_up(target)).phase == "Succeeded"
        most_s = 2.5 * (time.monotonic() - began)
    points: list[str] = []
    for _ in range(BACKUPS):
        assert kill_one("backup", home, target, most_s=most_s)
        before, points = points, Target(target).ids()
        assert set(before) <= set(points)
        async with opened(home, {}) as rooms:
            assert leftovers(rooms.store) == []
            assert all(row.finished is not None for row in rooms.backups.every())
        list(check({"target": str(target)}))
    async with opened(home, {}) as rooms:
        assert (await rooms.back_up(target)).phase == "Succeeded"
        now = await rooms.everything()
        await anyio.to_thread.run_sync(restored, tmp_path / "new", target, {})
        async with opened(tmp_path / "new", {}) as again:
            assert await again.everything() == now
    print(f"{BACKUPS} kills of backups, {len(points)} whole points")


async def test_a_killed_restore_is_ended_by_the_next(tmp_path: Path) -> None:
    home, target, new = tmp_path / "home", tmp_path / "target", tmp_path / "new"
    async with opened(home, {}) as rooms:
        await live(rooms)
        assert (await rooms.back_up(target)).phase == "Succeeded"
        before = await rooms.everything()
    began = time.monotonic()
    await anyio.to_thread.run_sync(restored, tmp_path / "first", target, {})
    took = time.monotonic() - began
    killed = 0
    while killed < RESTORES and kill_one("restore", new, target, most_s=took * 0.3):
        killed += 1
    if (new / "restoring.json").exists() or not (new / "state.db").exists():
        await anyio.to_thread.run_sync(restored, new, target, {})
    async with opened(new, {}) as again:
        assert await again.everything() == before
        assert leftovers(again.store) == []
    print(f"{killed} kills of a restore")
