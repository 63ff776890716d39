"""Walk two trees in step and say what differs, one line of JSON each: `wire.FileChange`, at last `wire.DiffEnd`.

A child program (see `walk`), standard library only. Both trees are hostile and the newer one may be alive: every entry
is looked at through its directory's descriptor, no link is followed, no fifo or device is opened, no other file
system is entered.

`unchanged` says what counts as a difference. Changes are told as they are found. What only one tree has is held back,
up to HELD entries, because an added file may be a removed one under another name.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from appliance import paths
from appliance.history.diff import content, unchanged
from appliance.history.diff.pinned import descend, look, open_folder
from appliance.history.diff.renames import Held, pair
from appliance.history.diff.telling import Enough, Telling
from appliance.storage.trees.pinning import FOLDER, parts_of

HELD = 50_000
"""Added and removed entries kept in memory."""
RENAME_BYTES = 1 << 30
"""Read at most so much to recognise renames."""
DEPTH = 2000
"""Levels. What lies deeper cannot be reached by its path in one call either."""
NAMES = 2_000_000
"""Entries of one directory that are sorted in memory."""
HINTS = 64 << 20
"""Bytes of hints; where there are more, everything is walked."""


@dataclass(frozen=True, slots=True)
class Options:
    checksum: bool = False
    under: str = ""
    """Only this path and what is below it, with surrogates for odd bytes."""
    most: int = 100_000
    """Changes that are told."""
    doubt_ns: int = 1 << 62
    """A file with a later modification time is read, see `unchanged`."""
    hints: bool = False
    """Paths that may differ are read from standard input, each ended by NUL; nothing else is looked at."""


class Level(NamedTuple):
    """A directory that is being compared. A descriptor is -1 where that moment does not have it."""

    path: str
    """Ends in `/`; empty for the root."""
    before: int
    after: int
    names: Iterator[str]


class Comparison:
    def __init__(self, before: int, after: int, options: Options, write: Callable[[str], object]) -> None:
        self._before, self._after = before, after
        self._options = options
        self._telling = Telling(write, options.most)
        self._devices = os.fstat(before).st_dev, os.fstat(after).st_dev
        self._one_device = self._devices[0] == self._devices[1]
        self._held: tuple[list[Held], list[Held]] = ([], [])
        self._pairing = True
        self._rename_bytes = RENAME_BYTES
        self._entries = 0

    def run(self, hints: Sequence[str] | None) -> None:
        """Compare, and tell the end. Raises nothing that a hostile tree can bring about."""
        try:
            if self._options.under:
                self._paths([self._options.under], whole=True)
            elif hints is not None and not self._linked(hints):
                self._paths(hints, whole=False)
            else:
                self._root()
            self._settle()
        except Enough:
            self._telling.left_out(f"there are more than {self._options.most} changes")
        self._telling.end(self._entries)

    # -- walking

    def _root(self) -> None:
        top, was = os.fstat(self._after), os.fstat(self._before)
        if note := unchanged.metadata(was, top):
            self._telling.change("changed", ".", "directory", 0, 0, note=note)
        self._walk(self._level("", os.dup(self._before), os.dup(self._after)))

    def _walk(self, level: Level) -> None:
        levels = [level]
        try:
            while levels:
                level = levels[-1]
                name = next(level.names, None)
                if name is None:
                    _close(levels.pop())
                elif below := self._entry(level, name):
                    if len(levels) < DEPTH:
                        levels.append(below)
                    else:
                        self._telling.left_out(f"deeper than {DEPTH} directories", below.path)
                        _close(below)
        finally:
            for open_level in levels:
                _close(open_level)

    def _paths(self, wanted: Iterable[str], *, whole: bool) -> None:
        """Each path; a directory with all that is in it where it is `whole`, or not the same one in both moments.

        A directory that a hint names and both moments have is compared by itself: what differs in it has its own hint.
        """
        covered: list[str] = []
        for parts in sorted({tuple(parts_of(path)) for path in wanted}):
            if covered and list(parts[: len(covered)]) == covered:
                continue
            if not parts:
                if whole:
                    self._root()
                    return
                continue
            parents = "".join(f"{part}/" for part in parts[:-1])
            before, after = (self._descend(root, parts[:-1]) for root in (self._before, self._after))
            level = Level(parents, before, after, iter(()))
            try:
                below = self._entry(level, parts[-1])
                if below and (whole or not self._same_folder(below)):
                    covered = list(parts)
                    self._walk(below)
                elif below:
                    _close(below)
            finally:
                _close(level)

    def _linked(self, hints: Iterable[str]) -> bool:
        """One of the files has another name: a hint tells one name of a file only, so everything is walked."""
        for path in hints:
            *parents, name = parts_of(path) or ["."]
            for root in (self._before, self._after):
                folder = self._descend(root, parents)
                try:
                    found = look(folder, name)
                finally:
                    if folder >= 0:
                        os.close(folder)
                if found and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                    return True
        return False

    def _descend(self, root: int, names: Sequence[str]) -> int:
        try:
            return descend(root, names)
        except OSError as error:
            self._telling.left_out(os.strerror(error.errno or 0), "/".join(names))
            return -1

    def _same_folder(self, level: Level) -> bool:
        if level.before < 0 or level.after < 0:
            return False
        return os.fstat(level.before).st_ino == os.fstat(level.after).st_ino

    def _level(self, path: str, before: int, after: int) -> Level:
        """The names of both sides in order, but those that are one and the same file in both."""
        was, now = self._list(before, path), self._list(after, path)
        if was is None or now is None:
            return Level(path, before, after, iter(()))
        every = was.keys() | now.keys()
        if self._one_device:
            same = {name for name, inode in was.items() if now.get(name) == inode}
            self._entries += len(same)
            every -= same
        return Level(path, before, after, iter(sorted(every)))

    def _list(self, folder: int, path: str) -> dict[str, int] | None:
        """Name -> inode; None where it cannot be told."""
        if folder < 0:
            return {}
        found: dict[str, int] = {}
        try:
            with os.scandir(folder) as entries:
                for number, entry in enumerate(entries):
                    found[entry.name] = entry.inode()
                    if number >= NAMES:
                        self._telling.left_out(f"more than {NAMES} entries in one directory", path)
                        return None
        except OSError as error:
            self._telling.left_out(os.strerror(error.errno or 0), path)
            return None
        return found

    def _entry(self, level: Level, name: str) -> Level | None:
        """One name; for a directory the level to go on with."""
        path = f"{level.path}{name}"
        self._entries += 1
        if self._entries % 1024 == 0:
            self._telling.in_time()
        try:
            was, now = look(level.before, name), look(level.after, name)
            if was and now and not self._options.checksum and unchanged.is_as_it_was(was, now, self._options.doubt_ns):
                return None
            if was and now and stat.S_IFMT(was.st_mode) == stat.S_IFMT(now.st_mode):
                return self._both(level, name, path, was, now)
            below = None
            if was:
                below = self._one(level, name, path, was, side=0)
            if now:
                below = self._one(level, name, path, now, side=1) or below
            return below
        except OSError as error:
            self._telling.left_out(os.strerror(error.errno or 0), path)
            return None

    def _both(self, level: Level, name: str, path: str, was: os.stat_result, now: os.stat_result) -> Level | None:
        kind = _kind(was)
        note = unchanged.metadata(was, now)
        try:
            differs = unchanged.differs(
                (level.before, level.after),
                name,
                was,
                now,
                checksum=self._options.checksum,
                doubt_ns=self._options.doubt_ns,
            )
        except FileNotFoundError:
            differs = True  # it has become something else since it was looked at
        if note or differs:
            self._telling.change("changed", path, kind, _size(was), _size(now), note=note)
        if kind != "directory" or (was.st_dev, was.st_ino) == (now.st_dev, now.st_ino):
            return None
        return self._open(level, name, path, was, now)

    def _one(self, level: Level, name: str, path: str, found: os.stat_result, *, side: int) -> Level | None:
        kind = _kind(found)
        self._hold(Held(path, kind, _size(found), found.st_mtime_ns, found.st_ino), side)
        if kind != "directory":
            return None
        return self._open(level, name, path, found if side == 0 else None, found if side else None)

    def _open(
        self, level: Level, name: str, path: str, was: os.stat_result | None, now: os.stat_result | None
    ) -> Level | None:
        for found, device in zip((was, now), self._devices, strict=True):
            if found and found.st_dev != device:
                self._telling.left_out("another file system", path)
                return None
        before = open_folder(level.before, name) if was else -1
        try:
            after = open_folder(level.after, name) if now else -1
        except OSError:
            if before >= 0:
                os.close(before)
            raise
        return self._level(f"{path}/", before, after)

    # -- what only one moment has

    def _hold(self, entry: Held, side: int) -> None:
        if not self._pairing:
            self._tell_one(entry, side)
            return
        self._held[side].append(entry)
        if len(self._held[0]) + len(self._held[1]) > HELD:
            self._pairing = False
            self._telling.left_out(
                f"more than {HELD} entries came or went, so renamed ones are told as removed and added"
            )
            self._settle()

    def _settle(self) -> None:
        """Tell what was held back, renames recognised where all of it was held."""
        removed, added = self._held
        self._held = ([], [])
        if self._pairing:
            found = pair(removed, added, self._same_file)
            removed, added = found.removed, found.added
            for was, now in sorted(found.renamed, key=lambda each: each.now.path):
                self._telling.change("renamed", now.path, now.kind, was.size, now.size, was=was.path)
        for entry in removed:
            self._telling.removed(entry)
        for entry in added:
            self._telling.added(entry)

    def _tell_one(self, entry: Held, side: int) -> None:
        (self._telling.added if side else self._telling.removed)(entry)

    def _same_file(self, was: Held, now: Held) -> bool:
        """Whether an added entry holds what a removed one held; both are looked up from the root again."""
        if now.kind == "file":
            self._rename_bytes -= now.size if self._options.checksum else min(now.size, content.WHOLE)
            if self._rename_bytes < 0:
                return False
        *old_parents, old = was.path.split("/")
        *new_parents, new = now.path.split("/")
        before = after = -1
        try:
            before = descend(self._before, old_parents)
            after = descend(self._after, new_parents)
            if before < 0 or after < 0:
                return False
            if now.kind == "link":
                return os.readlink(old, dir_fd=before) == os.readlink(new, dir_fd=after)
            compare = content.same if self._options.checksum else content.alike
            return unchanged.same_bytes(before, old, after, new, compare)
        except OSError:
            return False  # gone meanwhile, or not to be read: then it is told as removed and added
        finally:
            _close(Level("", before, after, iter(())))


def _kind(found: os.stat_result) -> str:
    for test, kind in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link")):
        if test(found.st_mode):
            return kind
    return "other"


def _size(found: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(found.st_mode) else found.st_size


def _close(level: Level) -> None:
    for folder in (level.before, level.after):
        if folder >= 0:
            os.close(folder)


def read_hints(source: Iterable[bytes]) -> list[str] | None:
    """Paths ended by NUL. None where there are more than HINTS bytes: then everything is walked."""
    read = bytearray()
    for piece in source:
        read += piece
        if len(read) > HINTS:
            return None
    return [os.fsdecode(path) for path in bytes(read).split(b"\0") if path]


def main(argv: list[str]) -> None:
    """`OLDER NEWER OPTIONS`, the last as JSON."""
    older, newer, raw = argv
    options = Options(**{**(given := json.loads(raw)), "under": paths.decode(given.get("under", ""))})
    before, after = os.open(older, FOLDER), os.open(newer, FOLDER)
    hints = read_hints(iter(lambda: os.read(0, 1 << 20), b"")) if options.hints else None

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    Comparison(before, after, options, write).run(hints)
