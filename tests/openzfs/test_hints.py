"""`zfs diff` as a hint: a comparison that looks only at what it names finds what a whole walk finds."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.history.diff.tree import Comparison, Options
from appliance.storage.zfs.store import ZfsStore
from tests.unit.storage.trees import ODD_NAMES

pytestmark = pytest.mark.zfs

ROUNDS = 6
FEW = 12
"""Steps between two moments."""


class Session:
    """Somebody works in a directory: random steps, with names of all kinds, some of them hard links."""

    def __init__(self, root: Path, seed: int, *, links: bool) -> None:
        self._root = os.fsencode(root)
        self._random = random.Random(seed)
        self._steps: list[Callable[[], None]] = [self.write, self.write, self.folder, self.remove, self.move, self.mode]
        if links:
            self._steps += [self.link, self.link]
        self.folder()
        for _ in range(3 * FEW):
            self.write()

    def work(self) -> None:
        for _ in range(FEW):
            self._random.choice(self._steps)()

    def write(self) -> None:
        """A new file, or one that is longer afterwards, whatever other names it has."""
        path = self._one(self._files()) if self._random.random() < 0.5 else self._free()
        with open(path or self._free(), "ab") as file:
            file.write(self._random.randbytes(self._random.randint(1, 5000)))

    def folder(self) -> None:
        os.mkdir(self._free())

    def remove(self) -> None:
        if path := self._one(self._files()):
            os.unlink(path)

    def move(self) -> None:
        source, target = self._one([*self._files(), *self._folders()[1:]]), self._free()
        if source and not target.startswith(source + b"/"):
            os.rename(source, target)

    def mode(self) -> None:
        if path := self._one(self._files()):
            os.chmod(path, self._random.choice([0o600, 0o644, 0o755]))

    def link(self) -> None:
        if path := self._one(self._files()):
            os.link(path, self._free())

    def _one(self, paths: list[bytes]) -> bytes | None:
        return self._random.choice(sorted(paths)) if paths else None

    def _free(self) -> bytes:
        while True:
            name = self._random.choice([b"%d" % self._random.randrange(40), *ODD_NAMES])
            path = os.path.join(self._random.choice(self._folders()), name)
            if not os.path.lexists(path):
                return path

    def _folders(self) -> list[bytes]:
        return [here for here, _, _ in os.walk(self._root)]

    def _files(self) -> list[bytes]:
        return [os.path.join(here, name) for here, _, names in os.walk(self._root) for name in names]


def changes(older: Path, newer: Path, hints: Iterator[str] | None) -> list[dict[str, Any]]:
    """As `notebook diff` finds them, without its child process, for speed."""
    lines: list[str] = []
    before, after = os.open(older, os.O_RDONLY), os.open(newer, os.O_RDONLY)
    try:
        Comparison(before, after, Options(hints=hints is not None), lines.append).run(
            None if hints is None else list(hints)
        )
    finally:
        os.close(before)
        os.close(after)
    found = [json.loads(line) for line in "".join(lines).splitlines()]
    assert found.pop()["cut"] == ""
    return sorted(found, key=lambda change: (change["path"], change["kind"]))


@pytest.mark.parametrize("links", [False, True], ids=["single names", "hard links"])
def test_hints_miss_nothing(store: ZfsStore, links: bool) -> None:
    session = Session(store.create("v"), seed=7, links=links)
    store.snapshot("v", "0")
    answered = 0
    for number in range(1, ROUNDS + 1):
        session.work()
        store.snapshot("v", f"{number}")
        hints = store.hints("v", f"{number - 1}", f"{number}")
        with store.view("v", f"{number - 1}") as older, store.view("v", f"{number}") as newer:
            truth = changes(older, newer, None)
            assert truth
            if hints is not None:
                answered += 1
                assert changes(older, newer, hints) == truth
    assert answered == ROUNDS or links, "without hard links there is an answer each time"


@pytest.mark.parametrize("step", ["write", "link", "unlink", "rename", "new"])
def test_what_happens_to_one_name_of_a_file_is_found_at_its_other_names(store: ZfsStore, step: str) -> None:
    """`zfs diff` names a file with several names once, and a new or a lost name not at all."""
    root = store.create("v")
    for folder in ("a", "b", "c"):
        (root / folder).mkdir()
    (root / "a" / "one").write_text("x")
    (root / "b" / "two").hardlink_to(root / "a" / "one")
    (root / "c" / "three").hardlink_to(root / "a" / "one")
    store.snapshot("v", "1")
    if step == "write":
        (root / "b" / "two").write_text("changed")
    elif step == "link":
        (root / "c" / "four").hardlink_to(root / "a" / "one")
    elif step == "unlink":
        (root / "b" / "two").unlink()
    elif step == "rename":
        (root / "b" / "two").rename(root / "c" / "two")
    else:
        (root / "a" / "new").write_text("y")
        (root / "b" / "new").hardlink_to(root / "a" / "new")
    store.snapshot("v", "2")
    hints = store.hints("v", "1", "2")
    with store.view("v", "1") as older, store.view("v", "2") as newer:
        if hints is not None:
            assert changes(older, newer, hints) == changes(older, newer, None)


def test_hints_reach_from_a_moment_to_the_live_files_of_a_clone_of_it(store: ZfsStore) -> None:
    Session(store.create("v"), seed=8, links=False)
    store.snapshot("v", "s")
    clone = store.clone("v", "s", "w")
    (clone / "new").write_text("x")
    (clone / "folder\n").mkdir()
    hints = store.hints("w", "s", None)
    assert hints is not None
    assert sorted(hints) == ["folder\n", "new"]


def test_what_zfs_diff_cannot_compare_has_no_hints(store: ZfsStore) -> None:
    (store.create("v") / "a").touch()
    store.snapshot("v", "1")
    store.snapshot("v", "2")
    store.create("other")
    store.snapshot("other", "3")
    assert store.hints("v", "2", "1") is None
    assert store.hints("v", "3", "1") is None
