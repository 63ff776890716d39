"""A job's folders on the host, and what a hostile job may have left in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.fetching.programs import LARGEST_WORD, TOLD, forget, read_told
from appliance.workflows.exchange import LARGEST_STRING, fill, read_string


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path, strings={"text": "héllo"}, folders=["inputs/data", "outputs/model"], files={"script": "true"})
    return tmp_path


def test_the_layout(root: Path) -> None:
    assert (root / "inputs/text").read_text() == "héllo"
    assert (root / "inputs/data").is_dir()
    assert (root / "outputs/model").is_dir()
    assert (root / "files/script").stat().st_mode & 0o777 == 0o644
    mounts = fill(root, strings={"text": "héllo"}, folders=["inputs/data"], files={"script": "true"})
    assert [(mount.target, mount.read_only) for mount in mounts] == [
        ("/inputs", False),
        ("/outputs", False),
        ("/run/appliance", True),
    ]


def test_what_many_jobs_have_made_is_a_folder(tmp_path: Path) -> None:
    folders = ["inputs/model", "inputs/model/train-1", "inputs/model/train-2", "inputs/none"]
    for _ in range(2):
        fill(tmp_path, strings={"loss": {"train-1": "0.1", "train-2": "0.2"}, "none": {}}, folders=folders, files={})
    assert {path.name: path.read_text() for path in (tmp_path / "inputs/loss").iterdir()} == {
        "train-1": "0.1",
        "train-2": "0.2",
    }
    assert sorted(path.name for path in (tmp_path / "inputs/model").iterdir()) == ["train-1", "train-2"]
    assert list((tmp_path / "inputs/none").iterdir()) == []
    for job in ("..", "a/b", "x" * 256):
        with pytest.raises(UsageError, match="cannot be the name"):
            fill(tmp_path, strings={"loss": {job: "0.1"}}, folders=[], files={})
        with pytest.raises(UsageError, match="cannot be the name"):
            fill(tmp_path, strings={}, folders=[f"inputs/model/{job}"], files={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs", "outputs"]


def test_the_private_files_of_a_job_can_be_forgotten(root: Path) -> None:
    forget(root)
    forget(root)
    assert sorted(path.name for path in root.iterdir()) == ["inputs", "outputs"]


def test_credentials_are_for_root_only(tmp_path: Path) -> None:
    fill(tmp_path, strings={}, folders=[], files={"password": "x"}, secret=True)
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "files/password").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc", "a\0b", "x" * 256])
def test_a_name_is_one_path_segment(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        fill(tmp_path, strings={name: "x"}, folders=[], files={})
    with pytest.raises(UsageError, match="cannot be the name"):
        read_string(tmp_path, name)


def test_a_string_keeps_its_bytes(root: Path) -> None:
    (root / "outputs/id").write_bytes(b"mo123\r\n\n")
    assert read_string(root, "id") == "mo123\r\n\n"


def test_nothing_is_followed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("host") / "shadow"
    secret.write_text("root:x")
    (root / "outputs/link").symlink_to(secret)
    with pytest.raises(UsageError, match="symbolic link"):
        read_string(root, "link")
    (root / "outputs").rename(root / "moved")
    (root / "outputs").symlink_to(secret.parent)
    with pytest.raises(UsageError, match="not a regular file"):
        read_string(root, "shadow")


def test_what_is_no_text_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "outputs/fifo")
    (root / "outputs/folder").mkdir()
    (root / "outputs/big").write_bytes(b"x" * (LARGEST_STRING + 1))
    (root / "outputs/bytes").write_bytes(b"ok\xff")
    for name, words in {
        "fifo": "not a regular file",
        "folder": "not a regular file",
        "big": "larger than",
        "bytes": "not UTF-8 at byte 2",
        "missing": "did not write",
    }.items():
        with pytest.raises(UsageError, match=words):
            read_string(root, name)
    (root / "outputs/full").write_bytes(b"x" * LARGEST_STRING)
    assert len(read_string(root, "full")) == LARGEST_STRING


def test_what_a_program_of_ours_tells_is_read_where_only_root_wrote(tmp_path: Path) -> None:
    (mount,) = [each for each in fill(tmp_path, strings={}, folders=[], files={}, tells=True) if each.target == TOLD]
    assert mount.source.stat().st_mode & 0o777 == 0o700
    assert not mount.read_only
    assert read_told(tmp_path, "commit") == ""
    (mount.source / "commit").write_text("a" * 40)
    assert read_told(tmp_path, "commit") == "a" * 40


def test_what_is_told_in_a_wrong_way_is_not_known(tmp_path: Path) -> None:
    fill(tmp_path, strings={}, folders=[], files={}, tells=True)
    place = tmp_path / "told" / "commit"
    (tmp_path / "secret").write_text("a" * 40)
    place.symlink_to("../secret")
    assert read_told(tmp_path, "commit") == ""
    place.unlink()
    place.mkdir()
    assert read_told(tmp_path, "commit") == ""
    place.rmdir()
    os.mkfifo(place)
    assert read_told(tmp_path, "commit") == ""
    place.unlink()
    for content in (b"a" * (LARGEST_WORD + 1), b"\xff\xfe"):
        place.write_bytes(content)
        assert read_told(tmp_path, "commit") == ""
    place.unlink()
    (tmp_path / "told").rmdir()
    (tmp_path / "told").symlink_to(".")
    (tmp_path / "commit").write_text("a" * 40)
    assert read_told(tmp_path, "commit") == ""
