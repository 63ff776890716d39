"""Count the bytes of frozen trees that share files by hard links, and of a live one.

A program of its own (see `child`; `LIVE SNAPSHOT...`, LIVE may be empty), so that a long walk can be ended and takes no
interpreter lock. Prints one line of JSON:

    live    bytes of the live tree
    each    for each snapshot the bytes that only it has: all names of the file lie in it
    held    bytes of all files in the snapshots together, each once
    only    those of them that would be freed if all the snapshots went
    portion of the others, by how many of a file's names lie here: all portions of a disk add up to what is on it

Bytes are disk blocks; a hole counts nothing, a file with several names counts once. No link is followed.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterator

from appliance.storage.trees import child
from appliance.storage.trees.notes import FOLDER

BLOCK = 512


def walk(root: str) -> Iterator[os.stat_result]:
    """Every entry and the root itself; what goes away meanwhile is left out."""
    try:
        opened = os.open(root, FOLDER)
    except FileNotFoundError:
        return
    top = os.fstat(opened)
    yield top
    levels = [(opened, iter(os.listdir(opened)))]
    while levels:
        folder, names = levels[-1]
        name = next(names, None)
        if name is None:
            os.close(folder)
            levels.pop()
            continue
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if found.st_dev != top.st_dev:
                continue
            yield found
            if stat.S_ISDIR(found.st_mode):
                below = os.open(name, FOLDER, dir_fd=folder)
                levels.append((below, iter(os.listdir(below))))
        except (FileNotFoundError, NotADirectoryError):
            continue


class Shared:
    """Files with several names, wherever those are."""

    def __init__(self) -> None:
        self._names: Counter[int] = Counter()
        self._found: dict[int, tuple[int, int]] = {}

    def add(self, found: os.stat_result) -> None:
        self._names[found.st_ino] += 1
        self._found[found.st_ino] = found.st_nlink, found.st_blocks * BLOCK

    def bytes(self) -> int:
        return sum(size for _, size in self._found.values())

    def only_here(self) -> int:
        return sum(size for inode, (links, size) in self._found.items() if self._names[inode] >= links)

    def portion(self) -> int:
        names = self._names
        return sum(size * names[inode] // links for inode, (links, size) in self._found.items() if names[inode] < links)


def live_bytes(root: str) -> int:
    """A file that got a second name during the walk must not count twice."""
    alone, shared = 0, Shared()
    for found in walk(root):
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            shared.add(found)
        else:
            alone += found.st_blocks * BLOCK
    return alone + shared.bytes()


def measure(live: str, snapshots: list[str]) -> dict[str, object]:
    each: list[int] = []
    together = Shared()
    alone = 0
    for root in snapshots:
        mine, here = 0, Shared()
        for found in walk(root):
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                here.add(found)
                together.add(found)
            else:
                mine += found.st_blocks * BLOCK
        alone += mine
        each.append(mine + here.only_here())
    return {
        "live": live_bytes(live) if live else 0,
        "each": each,
        "held": alone + together.bytes(),
        "only": alone + together.only_here(),
        "portion": together.portion(),
    }


def main(argv: list[str]) -> None:
    live, *snapshots = child.begin(argv)
    print(json.dumps(measure(live, snapshots)))
