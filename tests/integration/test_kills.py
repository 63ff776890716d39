"""100 kills at random instants of rollback, undo, restore, fork, commit and prune: counted, and told at the end.

More of them: `python -m tests.unit.history.kills`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.history.kills import kill_again_and_again, table

DIRECTORY, ZFS = 70, 30


@pytest.mark.anyio
async def test_kills_on_the_directory_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = await kill_again_and_again("directory", "", tmp_path / "home", kills=DIRECTORY)
    with capsys.disabled():
        print(f"\n{table(counts)}")
    assert sum(counts.values()) == DIRECTORY


@pytest.mark.zfs
@pytest.mark.anyio
async def test_kills_on_zfs(zfs_dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = await kill_again_and_again("zfs", zfs_dataset, tmp_path / "home", kills=ZFS)
    with capsys.disabled():
        print(f"\n{table(counts)}")
    assert sum(counts.values()) == ZFS
