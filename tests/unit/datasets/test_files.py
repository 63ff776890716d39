"""Reading one file of a version: no way out of it, whatever a job has left there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.datasets.files import open_file
from appliance.errors import NotFound, UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("of the host")
    root = tmp_path / "version"
    (root / "data").mkdir(parents=True)
    (root / "data" / "train.csv").write_bytes(b"1,2\n")
    (root / "link").symlink_to("data/train.csv")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return root


@pytest.mark.parametrize("path", ["data/train.csv", "./data//train.csv", "/data/train.csv"])
def test_a_file_is_read(root: Path, path: str) -> None:
    with open_file(root, path) as file:
        assert file.read() == b"1,2\n"


@pytest.mark.parametrize("path", ["link", "folder/secret", "fifo", "data", "none", "data/train.csv/x", "x" * 5000])
def test_anything_else_is_not_found(root: Path, path: str) -> None:
    with pytest.raises(NotFound) as caught:
        open_file(root, path)
    assert caught.value.hint


@pytest.mark.parametrize("path", ["", "/", "..", "data/../../secret", "../secret", "a\0b"])
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    with pytest.raises(UsageError):
        open_file(root, path)
