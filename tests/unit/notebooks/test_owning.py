"""Handing a tree to a session's user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import StorageError, UsageError
from appliance.notebooks import owning
from appliance.notebooks.owning import give, give_below, owner_of, told
from tests.support.descriptors import open_below

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

USER = (4711, 4712)


def owners(root: Path) -> dict[str, tuple[int, int]]:
    found = {entry.relative_to(root).as_posix(): entry.lstat() for entry in [root, *root.rglob("*")]}
    return {name: (one.st_uid, one.st_gid) for name, one in found.items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "odd\nname").write_text("x")
    (root / "c").write_text("x")
    os.mkfifo(root / "fifo")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("x")
    (root / "link").symlink_to(tmp_path / "outside" / "file")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "nowhere").symlink_to("nothing")
    return root


def test_a_user_of_a_spec() -> None:
    assert owner_of("1000:100") == (1000, 100)


@needs_root
def test_everything_in_it_is_given_and_nothing_behind_a_link(tree: Path) -> None:
    assert give(tree, USER) is True
    assert set(owners(tree).values()) == {USER}
    assert len(owners(tree)) == 9
    assert set(owners(tree.parent / "outside").values()) == {(0, 0)}


@needs_root
def test_it_is_done_once_and_again_when_asked_or_for_another(tree: Path) -> None:
    give(tree, USER)
    (tree / "later").write_text("x")
    assert give(tree, USER) is False
    assert owners(tree)["later"] == (0, 0)
    assert give(tree, USER, again=True) is True
    assert give(tree, (0, 0)) is True
    assert set(owners(tree).values()) == {(0, 0)}


@needs_root
def test_what_a_kill_has_left_half_done_is_done_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.chown
    left: list[int] = []

    def dies(name: str, uid: int, gid: int, *, dir_fd: int, follow_symlinks: bool) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        real(name, uid, gid, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    for kill_after in range(6):
        left[:] = range(kill_after)
        with monkeypatch.context() as patched:
            patched.setattr(os, "chown", dies)
            with pytest.raises(KeyboardInterrupt):
                give(tree, USER)
        assert give(tree, USER) is True
        assert set(owners(tree).values()) == {USER}
        give(tree, (0, 0))


@needs_root
def test_one_entry_is_given_with_what_is_in_it(tree: Path) -> None:
    give_below(tree, "a/b", USER)
    given = {name for name, owner in owners(tree).items() if owner == USER}
    assert given == {"a/b", "a/b/odd\nname"}
    give_below(tree, "c", USER)
    give_below(tree, "link", USER)
    give_below(tree, "gone/file", USER)
    give_below(tree, "folder/file", USER)
    assert {owners(tree)["c"], owners(tree)["link"]} == {USER}
    assert set(owners(tree.parent / "outside").values()) == {(0, 0)}
    with pytest.raises(UsageError):
        give_below(tree, "../outside/file", USER)


def test_what_the_file_system_refuses_is_said_with_the_next_step() -> None:
    with pytest.raises(StorageError, match="cannot be given to its user: No space") as raised, told():
        raise OSError(28, "No space left on device", "/a")
    assert raised.value.where == "/a"
    assert raised.value.hint


@needs_root
def test_a_top_that_is_a_link_is_not_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "top").symlink_to(tree)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        give(tmp_path / "top", USER)
    assert owners(tree)["."] == (0, 0)


@needs_root
def test_a_tree_that_is_very_deep_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owning, "DEEPEST", 8)
    here = root = tmp_path / "tree"
    for _ in range(20):
        here = here / "d"
    here.mkdir(parents=True)
    give(root, USER)
    assert open_below(root) == []
    assert owners(root)["d/d/d"] == USER
