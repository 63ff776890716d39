"""The plain-directory store: the contract, and what is particular to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from appliance.errors import NoSpace, StorageError
from appliance.storage.directory import store as directory
from appliance.storage.directory.store import DirectoryStore
from appliance.storage.trees.copying import Links
from tests.unit.storage.contract import StoreContract


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "volumes", "for tests", durable=False)


class TestDirectoryStore(StoreContract):
    pass


def test_it_says_why_it_is_no_zfs(store: DirectoryStore) -> None:
    assert "for tests" in store.info().detail
    assert not store.info().instant


def test_nobody_else_on_the_machine_reaches_into_it(store: DirectoryStore) -> None:
    assert store.root.stat().st_mode & 0o777 == 0o700


def test_what_a_kill_has_left_is_removed_at_the_start(store: DirectoryStore, tmp_path: Path) -> None:
    store.create("v")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").touch()
    left = store.root / ".tmp" / "half" / "live"
    left.mkdir(parents=True)
    (left / "file").touch()
    (left / "link").symlink_to(tmp_path / "outside")
    (left.parent / "link2").symlink_to("/")
    again = DirectoryStore(store.root, "again", durable=False)
    assert list((store.root / ".tmp").iterdir()) == []
    assert again.volumes() == ["v"]
    assert (tmp_path / "outside" / "precious").exists()


@pytest.mark.parametrize("error", [NoSpace("full"), StorageError("broken"), OSError(28, "full")])
def test_an_operation_that_fails_leaves_nothing(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (store.create("v") / "file").write_text("x")
    store.snapshot("v", "s")

    def fail(source: Path, target: Path, *, durable: bool, links: Links) -> None:
        (target / "half").write_text("written before the disk was full")
        raise error

    monkeypatch.setattr(directory, "copy_tree", fail)
    for call in (lambda: store.snapshot("v", "t"), lambda: store.clone("v", "s", "w")):
        with pytest.raises(StorageError) as caught:
            call()
        assert isinstance(caught.value, NoSpace) == (not str(error).startswith("broken"))
    assert store.volumes() == ["v"]
    assert store.snapshots("v") == ["s"]
    assert list((store.root / ".tmp").iterdir()) == []


def test_a_directory_that_turns_into_a_link_during_the_copy_leads_nowhere(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """A container swaps a directory and a link to a directory of the host all the time."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(50):
        (outside / f"secret{number}").write_text("from outside")
    path = store.create("v")
    for number in range(50):
        folder = path / "folder"
        folder.mkdir(exist_ok=True)
        (folder / f"own{number}").write_text("own")
    (path / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(path / "folder", path / "aside")
            os.rename(path / "link", path / "folder")
            os.rename(path / "folder", path / "link")
            os.rename(path / "aside", path / "folder")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(8):
            store.snapshot("v", f"s{number}")
            clone = store.clone("v", f"s{number}", f"clones/{number}")
            assert not [path for path in clone.rglob("secret*") if not path.parent.is_symlink()]
    finally:
        stop.set()
        swapper.join()


def test_a_very_deep_tree_is_copied_and_removed(store: DirectoryStore) -> None:
    """Deeper than a path can be long, and than Python recurses."""
    here = os.open(store.create("v"), os.O_RDONLY)
    for _ in range(600):
        os.mkdir("directory", dir_fd=here)
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    store.snapshot("v", "s")
    clone = store.clone("v", "s", "w")
    depth = 0
    here = os.open(clone, os.O_RDONLY)
    while os.listdir(here) == ["directory"]:
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, depth = below, depth + 1
    assert os.listdir(here) == ["bottom"]
    os.close(here)
    assert depth == 600
    store.destroy("v")
    store.destroy("w")
    assert list((store.root / ".tmp").iterdir()) == []
