"""Two texts line by line. Pure, and bounded whatever the texts are.

Lines that both texts have exactly once are matched first (patience: what a person takes for the frame of a file), what
lies between them by the shortest edit (Myers). Where that would take too long a stretch is told as replaced.
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from appliance import wire

CONTEXT = 3
"""Unchanged lines around a change."""
STEPS = 3_000_000
"""Of matching, over the whole text: about two seconds."""
MOST_LINES = 5000
"""Lines that are told."""
MOST_WIDTH = 2000
"""Characters of one line that are told."""
MOST_EDITS = 800
"""Of one stretch without a frame; the memory of the search grows with its square."""
_SNIFF = 8000


class Block(NamedTuple):
    """`size` equal lines from `before` and from `after` on."""

    before: int
    after: int
    size: int


class Lines(NamedTuple):
    hunks: list[wire.Hunk]
    note: str
    """Why it is not whole, or not the shortest; empty where it is."""


def decode(content: bytes, *, cut: bool = False) -> str | None:
    """The text, or None for what is not text: a NUL near the beginning, or not UTF-8. `cut`: only a beginning."""
    if b"\0" in content[:_SNIFF]:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(content, final=not cut)
    except UnicodeDecodeError:
        return None


def split(text: str) -> list[str]:
    """Lines with their ends. Only a newline ends a line."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def compare(before: str, after: str, *, most: int = MOST_LINES) -> Lines:
    """Hunks with context. A line begins with ` `, `-` or `+`, or with `\\` where it lacks the newline at the end."""
    if before == after:
        return Lines([], "")
    old, new = split(before), split(after)
    blocks, whole = match(old, new)
    hunks: list[wire.Hunk] = []
    told = 0
    for hunk in _hunks(old, new, blocks):
        if told + len(hunk["lines"]) > most:
            room = most - told
            if room > 0:
                hunks.append({**hunk, "lines": hunk["lines"][:room]})
            return Lines(hunks, f"cut after {most} lines")
        told += len(hunk["lines"])
        hunks.append(hunk)
    return Lines(hunks, "" if whole else "too many differences to look for the smallest ones")


def match(old: Sequence[str], new: Sequence[str], steps: int = STEPS) -> tuple[list[Block], bool]:
    """What stays, in order. False: a stretch was given up, because it would take more than `steps`."""
    codes: dict[str, int] = {}
    a = [codes.setdefault(line, len(codes)) for line in old]
    b = [codes.setdefault(line, len(codes)) for line in new]
    found: list[Block] = []
    whole = True
    open_stretches = [(0, len(a), 0, len(b))]
    while open_stretches:
        a0, a1, b0, b1 = open_stretches.pop()
        head = 0
        while a0 + head < a1 and b0 + head < b1 and a[a0 + head] == b[b0 + head]:
            head += 1
        if head:
            found.append(Block(a0, b0, head))
        a0, b0 = a0 + head, b0 + head
        tail = 0
        while a1 - tail > a0 and b1 - tail > b0 and a[a1 - tail - 1] == b[b1 - tail - 1]:
            tail += 1
        a1, b1 = a1 - tail, b1 - tail
        if tail:
            found.append(Block(a1, b1, tail))
        if a0 == a1 or b0 == b1:
            continue
        steps -= head + tail + (a1 - a0) + (b1 - b0)
        if set(a[a0:a1]).isdisjoint(b[b0:b1]):
            continue
        anchors = _anchors(a, b, (a0, a1, b0, b1))
        if anchors and steps > 0:
            edges = [(a0, b0), *anchors, (a1, b1)]
            open_stretches += [(x0, x1, y0, y1) for (x0, y0), (x1, y1) in pairwise(edges)]
            continue
        shortest, used = _shortest(a[a0:a1], b[b0:b1], steps)
        steps -= used
        if shortest is None:
            whole = False
            continue
        found += [Block(a0 + x, b0 + y, size) for x, y, size in shortest]
    return _joined(sorted(found)), whole


def _joined(blocks: list[Block]) -> list[Block]:
    joined: list[Block] = []
    for block in blocks:
        last = joined[-1] if joined else None
        if last and (last.before + last.size, last.after + last.size) == (block.before, block.after):
            joined[-1] = last._replace(size=last.size + block.size)
        else:
            joined.append(block)
    return joined


def _anchors(a: Sequence[int], b: Sequence[int], stretch: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    """Pairs of lines that occur once on each side, as many as keep their order."""
    a0, a1, b0, b1 = stretch
    once_a, once_b = _once(a, a0, a1), _once(b, b0, b1)
    pairs = [(at, once_b[line]) for line, at in once_a.items() if line in once_b]
    return [pairs[index] for index in rising([at for _, at in pairs])]


def _once(lines: Sequence[int], start: int, end: int) -> dict[int, int]:
    """Line -> where it is, of the lines that occur once; in order."""
    found: dict[int, int] = {}
    for at in range(start, end):
        found[lines[at]] = -1 if lines[at] in found else at
    return {line: at for line, at in found.items() if at >= 0}


def rising(values: Sequence[int]) -> list[int]:
    """Indices of the longest strictly rising selection."""
    tops: list[int] = []
    last: list[int] = []
    came_from: list[int] = []
    for index, value in enumerate(values):
        place = bisect_left(tops, value)
        came_from.append(last[place - 1] if place else -1)
        tops[place : place + 1] = [value]
        last[place : place + 1] = [index]
    chain: list[int] = []
    index = last[-1] if last else -1
    while index >= 0:
        chain.append(index)
        index = came_from[index]
    return chain[::-1]


def _shortest(a: Sequence[int], b: Sequence[int], steps: int) -> tuple[list[Block] | None, int]:
    """Myers' greedy search for the shortest edit; None where it takes more than `steps`. Also the steps taken.

    `furthest[k]` is how far down `a` a number of edits can come on the diagonal k, which is `a` minus `b`.
    """
    furthest = {1: 0}
    rounds: list[dict[int, int]] = []
    used = 0
    for edits in range(MOST_EDITS):
        used += edits + 1
        rounds.append({k: x for k, x in furthest.items() if (k ^ edits) & 1})
        for k in range(-edits, edits + 1, 2):
            x = _step(furthest, k, edits)
            y = x - k
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
                used += 1
            furthest[k] = x
            if x >= len(a) and y >= len(b):
                return _walk_back(rounds, len(a), len(b)), used
        if used > steps:
            break
    return None, used


def _step(furthest: dict[int, int], k: int, edits: int) -> int:
    """Where the edit that leads to diagonal `k` ends: an insertion comes from above, a deletion from the left."""
    if k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1]):
        return furthest[k + 1]
    return furthest[k - 1] + 1


def _walk_back(rounds: Sequence[dict[int, int]], x: int, y: int) -> list[Block]:
    blocks: list[Block] = []
    for edits in range(len(rounds) - 1, 0, -1):
        furthest, k = rounds[edits], x - y
        entry = _step(furthest, k, edits)
        if x > entry:
            blocks.append(Block(entry, entry - k, x - entry))
        inserted = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
        x, y = (entry, entry - k - 1) if inserted else (entry - 1, entry - k)
    if x:
        blocks.append(Block(0, 0, x))
    return blocks[::-1]


def _hunks(old: Sequence[str], new: Sequence[str], blocks: Sequence[Block]) -> list[wire.Hunk]:
    """Changes with CONTEXT lines around, joined where their contexts meet."""
    edges = [Block(0, 0, 0), *blocks, Block(len(old), len(new), 0)]
    hunks: list[wire.Hunk] = []
    open_until = (-1, -1)
    for left, right in pairwise(edges):
        a0, b0, a1, b1 = left.before + left.size, left.after + left.size, right.before, right.after
        if (a0, b0) == (a1, b1):
            continue
        lead = min(CONTEXT, left.size)
        if hunks and a0 - open_until[0] <= CONTEXT:
            hunk = hunks[-1]
            context = old[open_until[0] : a0]
        else:
            hunk = {"before": a0 - lead + 1, "after": b0 - lead + 1, "lines": []}
            hunks.append(hunk)
            context = old[a0 - lead : a0]
        follow = min(CONTEXT, right.size)
        hunk["lines"] += [
            *(_line(" ", line) for line in context),
            *(_line("-", line) for line in old[a0:a1]),
            *(_line("+", line) for line in new[b0:b1]),
            *(_line(" ", line) for line in old[a1 : a1 + follow]),
        ]
        open_until = (a1 + follow, b1 + follow)
    for hunk in hunks:
        hunk["lines"] = [part for line in hunk["lines"] for part in _ended(line)]
    return hunks


def _line(mark: str, line: str) -> str:
    return f"{mark}{line}"


def _ended(line: str) -> list[str]:
    text = line.removesuffix("\n")
    shown = text if len(text) <= MOST_WIDTH else f"{text[:MOST_WIDTH]}… {len(text) - MOST_WIDTH} characters more"
    return [shown] if line.endswith("\n") else [shown, "\\ no newline at the end"]
