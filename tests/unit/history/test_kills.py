"""kill -9 at random instants: the state is the one before or the one after, and a sweep leaves no orphan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.history.kills import kill_again_and_again
from tests.unit.history.victim import OPERATIONS


@pytest.mark.anyio
async def test_kills_on_the_directory_store(tmp_path: Path) -> None:
    kills = 2 * len(OPERATIONS)
    counts = await kill_again_and_again("directory", "", tmp_path / "home", kills=kills)
    assert sum(counts.values()) == kills
