"""Removing what a session, an image or a repository has made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import StorageError
from appliance.storage.argv import Answer
from appliance.storage.trees import removing


def nested(top: Path, levels: int = 3000) -> None:
    """Folders in each other: more than Python's stack, and a path longer than the kernel takes."""
    top.mkdir(exist_ok=True)
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("a", dir_fd=here)
        below = os.open("a", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_however_deep_it_is(tmp_path: Path) -> None:
    nested(tmp_path / "top")
    removing.remove(tmp_path / "top")
    assert not (tmp_path / "top").exists()
    removing.remove(tmp_path / "top")  # gone already counts as done
    removing.remove()


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "--help").write_text("no option")
    removing.remove(tmp_path / "link", tmp_path / "--help")
    assert os.listdir(tmp_path) == ["kept"]


def test_an_emptied_folder_stays_itself(tmp_path: Path) -> None:
    nested(tmp_path / "top")
    for number in range(1500):
        (tmp_path / f"{number:0240}").touch()
    (tmp_path / "out").symlink_to("/etc")
    removing.empty(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_is_left_is_an_error_or_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def busy(argv: object, **_: object) -> Answer:
        return Answer(1, b"", "rm: cannot remove 'x': Device or resource busy")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removing, "run", busy)
        with pytest.raises(StorageError, match="busy"):
            removing.remove(tmp_path / "x")
        removing.discard(tmp_path / "x")
    assert "busy" in caplog.text
