"""The private files of a program in a container."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appliance.fetching.programs import lay_out


@pytest.mark.parametrize(("secret", "folder", "file"), [(False, 0o755, 0o644), (True, 0o700, 0o600)])
def test_who_may_read_them_whatever_the_umask(tmp_path: Path, secret: bool, folder: int, file: int) -> None:
    before = os.umask(0o077)
    try:
        lay_out(tmp_path, {"a": "text"}, secret=secret, tells=False)
        (mount,) = lay_out(tmp_path, {"a": "text"}, secret=secret, tells=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(mount.source.stat().st_mode) == folder
    assert stat.S_IMODE((mount.source / "a").stat().st_mode) == file
