"""Any sequence of changes, snapshots, removals and clones: each moment is what it was, to the last bit.

The changes are those that tell a store badly what has changed: the same size with the same time, directories that
trade places, names that become one file or two, times set back.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from appliance.storage.base import Store
from tests.unit.storage.trees import describe

FOLDERS = ("", "one", "two", "one/in", "two/in")
NAMES = ("a", "odd\n\udcff")
PATHS = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES)).map("/".join)
ANY_FOLDER = st.sampled_from(FOLDERS[1:])


class StoreMachine(RuleBasedStateMachine):
    """Subclasses give the store. `live` is the volume that is written to; each clone becomes the next one."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.live = "v/0"
        self.moments: dict[tuple[str, str], dict[str, Any]] = {}

    @initialize()
    def begin(self) -> None:
        self.root = self.store.create(self.live)
        self.folders()
        for folder in FOLDERS:
            for name in NAMES:
                self.write(f"{folder}/{name}", 4, keeps_time=True)

    def folders(self) -> None:
        for folder in FOLDERS:
            (self.root / folder).mkdir(exist_ok=True)

    def next(self) -> int:
        self.number += 1
        return self.number

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    @rule(path=PATHS, size=st.sampled_from([0, 4, 5000]), keeps_time=st.booleans())
    def write(self, path: str, size: int, keeps_time: bool) -> None:
        """In place, so that other names of the file show it too."""
        file = self.at(path)
        if not _is_file(file):
            _remove(file)
        before = os.stat(file).st_mtime_ns if file.exists() else 0
        file.write_bytes(str(self.next()).encode().rjust(size, b"x"))
        if keeps_time:
            os.utime(file, ns=(before, before))

    @rule(path=PATHS, other=PATHS)
    def rename(self, path: str, other: str) -> None:
        if os.path.lexists(self.at(path)):
            self.at(path).rename(self.at(other))

    @rule(path=PATHS, other=PATHS)
    def link(self, path: str, other: str) -> None:
        if os.path.lexists(self.at(path)) and path != other and not _same(self.at(path), self.at(other)):
            _remove(self.at(other))
            os.link(self.at(path), self.at(other), follow_symlinks=False)

    @rule(path=PATHS, other=PATHS)
    def copy_with_its_time(self, path: str, other: str) -> None:
        """Two files that look like one."""
        if _is_file(self.at(path)) and not _same(self.at(path), self.at(other)):
            _remove(self.at(other))
            shutil.copy2(self.at(path), self.at(other))

    @rule(path=PATHS, text=st.sampled_from(["a", "/etc/passwd", "nowhere"]))
    def symlink(self, path: str, text: str) -> None:
        _remove(self.at(path))
        self.at(path).symlink_to(text)

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        _remove(self.at(path))

    @rule(path=PATHS, mode=st.sampled_from([0o600, 0o755, 0o4711]))
    def mode(self, path: str, mode: int) -> None:
        if _is_file(self.at(path)):
            self.at(path).chmod(mode)

    @rule(path=PATHS, owner=st.sampled_from([0, 1234]))
    def owner(self, path: str, owner: int) -> None:
        if os.geteuid() == 0 and os.path.lexists(self.at(path)):
            os.chown(self.at(path), owner, owner, follow_symlinks=False)

    @rule(path=PATHS, value=st.sampled_from([b"1", b"2"]))
    def note(self, path: str, value: bytes) -> None:
        if _is_file(self.at(path)):
            os.setxattr(self.at(path), "user.note", value)

    @rule(path=PATHS)
    def set_back(self, path: str) -> None:
        if os.path.lexists(self.at(path)):
            os.utime(self.at(path), ns=(1_000_000_001, 1_000_000_001), follow_symlinks=False)

    @rule(one=ANY_FOLDER, other=ANY_FOLDER)
    def swap(self, one: str, other: str) -> None:
        if one in other or other in one:
            return
        aside = self.root / "aside"
        self.at(one).rename(aside)
        self.at(other).rename(self.at(one))
        aside.rename(self.at(other))
        self.folders()

    @rule(folder=ANY_FOLDER)
    def renew(self, folder: str) -> None:
        """The same files in another directory of the same name."""
        aside = self.root / "aside"
        self.at(folder).rename(aside)
        self.at(folder).mkdir()
        for entry in aside.iterdir():
            entry.rename(self.at(folder) / entry.name)
        aside.rmdir()

    @rule()
    def snapshot(self) -> None:
        self.freeze()

    @rule(one=ANY_FOLDER, other=ANY_FOLDER)
    def swap_between_two_snapshots(self, one: str, other: str) -> None:
        self.freeze()
        self.swap(one, other)
        self.freeze()

    def freeze(self) -> None:
        name = f"s{self.next()}"
        self.moments[self.live, name] = describe(self.root)
        self.store.snapshot(self.live, name)
        self.check((self.live, name))

    @rule(data=st.data())
    def destroy_snapshot(self, data: st.DataObject) -> None:
        mine = sorted(moment for moment in self.moments if moment[0] == self.live)
        if mine:
            volume, name = data.draw(st.sampled_from(mine))
            self.store.destroy_snapshot(volume, name)
            del self.moments[volume, name]

    @rule(data=st.data())
    def clone(self, data: st.DataObject) -> None:
        if self.moments:
            volume, name = data.draw(st.sampled_from(sorted(self.moments)))
            self.live = f"v/{self.next()}"
            self.root = self.store.clone(volume, name, self.live)
            assert describe(self.root) == self.moments[volume, name]
            self.folders()

    @invariant()
    def every_moment_is_known(self) -> None:
        for volume in {volume for volume, _ in self.moments}:
            assert set(self.store.snapshots(volume)) == {name for of, name in self.moments if of == volume}

    def check(self, moment: tuple[str, str]) -> None:
        with self.store.view(*moment) as seen:
            assert describe(seen) == self.moments[moment]

    def teardown(self) -> None:
        for moment in self.moments:
            self.check(moment)
        for volume in self.store.volumes():
            self.store.destroy(volume)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _same(path: Path, other: Path) -> bool:
    return os.path.lexists(other) and os.lstat(path).st_ino == os.lstat(other).st_ino


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
