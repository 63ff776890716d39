"""Which removed files came back as added ones under another name, and which of them as whole directories. Pure.

A rename is a pair with the same kind, size and modification time in nanoseconds that holds the same bytes. Where the
inode is the same too, in one lineage of ZFS, the bytes need not be read, unless the clock tells whole seconds only: ZFS
gives the number of a removed file to the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

SECOND_NS = 1_000_000_000
TRIES = 8
"""Files of one size and time whose bytes are read to find the one that moved: an unpacked archive has thousands."""


class Held(NamedTuple):
    """An entry that only one moment has."""

    path: str
    kind: str
    size: int
    mtime_ns: int
    inode: int


class Pair(NamedTuple):
    was: Held
    now: Held


class Sorted(NamedTuple):
    """Everything that only one moment has, told apart."""

    renamed: list[Pair]
    removed: list[Held]
    added: list[Held]


def pair(removed: Sequence[Held], added: Sequence[Held], same: Callable[[Held, Held], bool]) -> Sorted:
    """`same(was, now)` tells whether two files hold the same bytes; it is asked only where it matters."""
    waiting = _Waiting(removed)
    pairs = [Pair(found, entry) for entry in added if (found := waiting.take(entry, same))]
    gone, come = {each.was.path for each in pairs}, {each.now.path for each in pairs}
    left = Sorted(
        pairs,
        [entry for entry in removed if entry.path not in gone],
        [entry for entry in added if entry.path not in come],
    )
    return _fold(left) if pairs else left


class _Waiting:
    """Removed files that nobody has claimed yet, found by what a rename keeps."""

    def __init__(self, removed: Iterable[Held]) -> None:
        self._alike: defaultdict[tuple[str, int, int], dict[str, Held]] = defaultdict(dict)
        self._inodes: dict[tuple[str, int, int, int], Held] = {}
        for entry in removed:
            if entry.kind in ("file", "link"):
                self._alike[entry[1:4]][entry.path] = entry
                self._inodes[entry[1:]] = entry

    def take(self, entry: Held, same: Callable[[Held, Held], bool]) -> Held | None:
        alike = self._alike.get(entry[1:4])
        if not alike:
            return None
        known = self._inodes.get(entry[1:])
        if known and known.path in alike and (not entry.size or entry.mtime_ns % SECOND_NS or same(known, entry)):
            found: Held | None = known
        else:
            found = self._search(alike, entry, same)
        if found:
            del alike[found.path]
        return found

    @staticmethod
    def _search(alike: dict[str, Held], entry: Held, same: Callable[[Held, Held], bool]) -> Held | None:
        if entry.size == 0:
            return None  # empty files are all the same
        name = _name(entry.path)
        likely = sorted(islice(alike.values(), 4 * TRIES), key=lambda candidate: _name(candidate.path) != name)
        return next((candidate for candidate in likely[:TRIES] if same(candidate, entry)), None)


def _fold(found: Sorted) -> Sorted:
    """A directory that moved with all that is in it becomes one rename, of as many bytes as its files have."""
    gone = {entry.path: entry for entry in found.removed if entry.kind == "directory"}
    come = {entry.path: entry for entry in found.added if entry.kind == "directory"}
    old, new = _below(found, gone, before=True), _below(found, come, before=False)
    pairs, old_done, new_done = list[Pair](), set[str](), set[str]()
    sizes = {each.was.path: each.now.size for each in found.renamed}
    for path in sorted(gone, key=_parts):
        if any(parent in old_done for parent in _parents(path)):
            continue
        target = _target(path, old.get(path, {}))
        if target not in come or old[path] != _named(new.get(target, {}), path, target):
            continue
        size = sum(sizes.get(inside, 0) for inside in old[path])
        pairs.append(Pair(gone[path]._replace(size=size), come[target]._replace(size=size)))
        old_done.add(path)
        new_done.add(target)
    if not pairs:
        return found
    keep_old, keep_new = _outside(old_done), _outside(new_done)
    return Sorted(
        [*pairs, *(each for each in found.renamed if keep_old(each.was.path))],
        [entry for entry in found.removed if keep_old(entry.path)],
        [entry for entry in found.added if keep_new(entry.path)],
    )


def _below(found: Sorted, folders: Iterable[str], *, before: bool) -> dict[str, dict[str, str | None]]:
    """Directory -> all that was or is in it: path -> the path of its other half; None for a directory or a leftover."""
    below: dict[str, dict[str, str | None]] = {folder: {} for folder in folders}
    entries: list[tuple[str, str | None]] = [
        (entry.path, None if entry.kind == "directory" else "") for entry in (found.removed if before else found.added)
    ]
    entries += [(each.was.path, each.now.path) if before else (each.now.path, each.was.path) for each in found.renamed]
    for path, other in entries:
        for parent in _parents(path):
            if parent in below:
                below[parent][path] = other
    return below


def _target(folder: str, inside: dict[str, str | None]) -> str:
    """Where the directory would have gone, told by the first file in it that was renamed."""
    for path, other in inside.items():
        rest = path[len(folder) :]
        if other and other.endswith(rest):
            return other[: -len(rest)]
    return ""


def _named(inside: dict[str, str | None], old: str, new: str) -> dict[str, str | None]:
    """What is in the new directory, as the old one would tell it."""
    told: dict[str, str | None] = {}
    for path, other in inside.items():
        before = old + path[len(new) :]
        told[before] = path if other == before else (None if other is None else "only here")
    return told


def _outside(folders: set[str]) -> Callable[[str], bool]:
    return lambda path: path not in folders and not any(parent in folders for parent in _parents(path))


def _parents(path: str) -> list[str]:
    """The directories above, nearest last."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _parts(path: str) -> list[str]:
    return path.split("/")
