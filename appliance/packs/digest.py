"""One digest for a whole tree: of the sorted paths, each with the sha256 of its content. Times do not count. Pure."""

from __future__ import annotations

import hashlib

from appliance.packs.entry import Entry

DIRECTORY = "-"


class TreeDigest:
    """The same content has the same digest, whoever sent it and in whatever order."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []

    def add(self, entry: Entry, sha256: str = "") -> None:
        """`sha256` in hex of a file's content; of links and directories none is needed."""
        if entry.kind == "link":
            sha256 = hashlib.sha256(entry.target).hexdigest()
        letter = "x" if entry.executable else entry.kind[0]
        self._lines.append(entry.path + b"\0" + f"{letter} {sha256 or DIRECTORY}".encode() + b"\0")

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for line in sorted(self._lines):
            whole.update(line)
        return whole.hexdigest()
