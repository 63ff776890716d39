"""What an upload has stored so far, file by file: lines of JSON that are only ever added to.

A line is written after its file is in place. It outlives the daemon, as the file does; after a crash of the machine,
which may have lost what was not on the disk yet, `distrust` reads the files again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from appliance import paths
from appliance.packs.build import file_sha256
from appliance.packs.entry import Entry, raw, same
from appliance.packs.tree import Tree

FILE = "ledger"

Known = tuple[int, int, bool, str]
"""Size, time, executable, and the sha256 where the file came in one piece."""


class Ledger:
    def __init__(self, folder: Path) -> None:
        self._known: dict[bytes, Known] = {}
        for line in _lines(folder / FILE):
            self._take(line)

    def __contains__(self, path: bytes) -> bool:
        return path in self._known

    def has(self, entry: Entry) -> bool:
        """This very file was stored whole; as it was sent, or as it is found in the volume."""
        known = self._known.get(entry.path)
        if known is None:
            return False
        size, mtime_ns, executable, _ = known
        return same(Entry(entry.path, "file", size, mtime_ns, executable), entry)

    def sha256(self, entry: Entry) -> str:
        """Of a file that came in one piece; empty where it is not known."""
        return self._known[entry.path][3] if self.has(entry) else ""

    def distrust(self, tree: Tree) -> None:
        """Forget and remove what is not on the disk as it was stored. Files that came in pieces were synced."""
        for path, (_, _, _, sha256) in list(self._known.items()):
            entry = tree.entry(path)
            if entry is not None and self.has(entry) and (not sha256 or file_sha256(tree, entry) == sha256):
                continue
            tree.remove_if_there(path)
            del self._known[path]

    def _take(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return  # cut off by a kill
        match found:
            case [str(text), int(size), int(mtime_ns), bool(executable), str(sha256)]:
                self._known[raw(text)] = (size, mtime_ns, executable, sha256)


def add(folder: Path, stored: Iterable[tuple[Entry, str]]) -> None:
    """Files that are in place, in one write, which begins a line of its own whatever a kill has left of the last."""
    lines = [
        json.dumps([paths.encode(entry.path), entry.size, entry.mtime_ns, entry.executable, sha256])
        for entry, sha256 in stored
    ]
    with (folder / FILE).open("ab") as file:
        file.write("".join(f"\n{line}" for line in lines).encode() + b"\n")


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
