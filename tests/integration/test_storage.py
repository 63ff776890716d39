"""Stores where it takes a mount or many steps."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from appliance.errors import NoSpace
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.zfs.store import ZfsStore
from tests.support.zfs import call
from tests.unit.history.machine import WorkspaceMachine
from tests.unit.storage.trees import write_random


@pytest.mark.zfs
def test_any_sequence_of_steps_on_zfs_is_what_a_model_in_memory_says(zfs_dataset: str, tmp_path: Path) -> None:
    class Machine(WorkspaceMachine):
        store = ZfsStore(zfs_dataset, tmp_path / "volumes")
        directory = tmp_path

    checks = list(HealthCheck)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=3, stateful_step_count=200, deadline=None, database=None, suppress_health_check=checks
        ),
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    if call("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)).returncode != 0:
        pytest.skip("mounting a tmpfs needs root and a machine that allows it")
    yield path
    assert call("umount", "-l", str(path)).returncode == 0


def test_a_full_disk_is_said_and_leaves_what_was_there(small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "volumes", "for tests")
    path = store.create("v")
    (path / "small").write_text("x")
    store.snapshot("v", "before")
    (path / "large").write_bytes(os.urandom(5 << 20))
    for name in ("s", "t"):
        with pytest.raises(NoSpace) as caught:
            store.snapshot("v", name)
        assert "free some space" in caught.value.hint
    assert store.snapshots("v") == ["before"]
    assert list((store.root / ".tmp").iterdir()) == []
    assert (path / "large").stat().st_size == 5 << 20
    (path / "large").unlink()
    store.snapshot("v", "s")


@pytest.fixture
def sharing_disk(tmp_path: Path) -> Iterator[Path]:
    """A btrfs: files can share their blocks."""
    path, image = tmp_path / "btrfs", tmp_path / "image"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("no mkfs.btrfs: install btrfs-progs")
    if call("mkfs.btrfs", "-q", str(image)).returncode or call("mount", "-o", "loop", str(image), str(path)).returncode:
        pytest.skip("making a file system needs root and a machine that allows it")
    yield path
    assert call("umount", str(path)).returncode == 0


def test_copies_share_their_blocks_where_the_file_system_can(sharing_disk: Path) -> None:
    store = DirectoryStore(sharing_disk / "volumes", "for tests")
    write_random(store.create("v") / "file", 60 << 20)
    store.seal("v")
    before = store.info().free_bytes
    store.snapshot("v", "s")
    for number in range(3):
        clone = store.clone("v", "s", f"w{number}")
        assert (clone / "file").read_bytes() == (store.path("v") / "file").read_bytes()
        store.seal(f"w{number}")
    assert before - store.info().free_bytes < 20 << 20
