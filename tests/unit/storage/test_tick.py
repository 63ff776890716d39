"""The file system's own clock, read off a file in a tree that others write to."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from appliance.storage.trees.notes import tick


def test_no_link_leads_it_to_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(0o644)
    (tmp_path / "clock").symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        tick(str(tmp_path / "clock"))
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    assert tick(str(tmp_path / "new")) <= tick(str(tmp_path / "new"))
