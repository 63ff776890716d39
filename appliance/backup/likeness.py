"""How alike two trees are, told from a few marks of each: which volume was once a clone of which. Pure.

The marks of a tree are the smallest of the digests of its pieces of files, path included: of any two trees the share
of common marks among the smallest of both together estimates the share of what they have in common (bottom-k sketch).
So a restore finds from the backup alone what to clone from what, on any store, whatever was promoted, renamed or
copied in the life of these volumes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence

from appliance.backup.manifest import Entry

MARKS = 32
ALIKE = 0.2
"""Share in common from which a clone is worth it."""


class Sketch:
    def __init__(self) -> None:
        self._heap: list[int] = []
        self._held: set[int] = set()

    def add(self, entry: Entry) -> None:
        for chunk in entry.chunks:
            text = entry.path + b"\0%d\0" % chunk.offset + chunk.digest.encode()
            self._take(int.from_bytes(hashlib.blake2b(text, digest_size=6).digest()))

    def _take(self, mark: int) -> None:
        if mark in self._held:
            return
        if len(self._heap) < MARKS:
            heapq.heappush(self._heap, -mark)
        elif mark < -self._heap[0]:
            self._held.discard(-heapq.heapreplace(self._heap, -mark))
        else:
            return
        self._held.add(mark)

    def marks(self) -> list[int]:
        """Smallest first."""
        return sorted(self._held)


def likeness(one: Iterable[int], other: Iterable[int]) -> float:
    """0 to 1; of two trees without any data 0."""
    left, right = set(one), set(other)
    nearest = sorted(left | right)[:MARKS]
    return sum(mark in left and mark in right for mark in nearest) / len(nearest) if nearest else 0.0


def most_alike(marks: Sequence[int], others: Iterable[Sequence[int]]) -> int | None:
    """The index of the one that has most in common; None where none has enough."""
    best, found = ALIKE, None
    for index, other in enumerate(others):
        if (share := likeness(marks, other)) >= best and (found is None or share > best):
            best, found = share, index
    return found
