"""The lines that a comparison tells: one of JSON for each change, sent in pieces, and at last what was left out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance import paths
from appliance.history.diff.renames import Held

if TYPE_CHECKING:
    from appliance import wire

PIECE = 1 << 16
"""Characters that are sent in one go."""
WAIT_S = 0.2
"""A line is sent after this time, also where there are few."""


class Enough(Exception):
    """The most changes have been told."""


class Telling:
    def __init__(self, write: Callable[[str], object], most: int) -> None:
        self._write = write
        self._most = most
        self._changes = 0
        self._cut: dict[str, tuple[int, str]] = {}
        """What could not be compared: reason -> how many times, and the first path."""
        self._lines: list[str] = []
        self._size = 0
        self._sent = time.monotonic()

    def change(
        self, change: str, path: str, kind: str, before: int | None, after: int | None, *, was: str = "", note: str = ""
    ) -> None:
        """Raises Enough."""
        if self._changes >= self._most:
            raise Enough
        self._changes += 1
        document: dict[str, object] = {"change": change, "path": paths.encode(path), "kind": kind}
        if was:
            document["was"] = paths.encode(was)
        if note:
            document["note"] = note
        line = json.dumps({**document, "before": before, "after": after})
        self._lines.append(line)
        self._size += len(line)
        if self._size > PIECE:
            self._send()

    def removed(self, entry: Held) -> None:
        self.change("removed", entry.path, entry.kind, entry.size, None)

    def added(self, entry: Held) -> None:
        self.change("added", entry.path, entry.kind, None, entry.size)

    def left_out(self, reason: str, path: str = "") -> None:
        """Something was not compared, or not told; the end says so."""
        count, first = self._cut.get(reason, (0, path))
        self._cut[reason] = (count + 1, first)

    def in_time(self) -> None:
        """Send what waits, where it has waited for long."""
        if self._lines and time.monotonic() - self._sent > WAIT_S:
            self._send()

    def end(self, entries: int) -> None:
        document: wire.DiffEnd = {"end": True, "cut": self._why(), "changes": self._changes, "entries": entries}
        self._lines.append(json.dumps(document))
        self._send()

    def _send(self) -> None:
        self._write("".join(f"{line}\n" for line in self._lines))
        self._lines.clear()
        self._size = 0
        self._sent = time.monotonic()

    def _why(self) -> str:
        told = []
        for reason, (count, first) in self._cut.items():
            place = f": {paths.encode(first)}" if first else ""
            told.append(f"{reason}{place}" + (f" and {count - 1} more" if count > 1 else ""))
        return "; ".join(told)
