"""Two Jupyter notebooks cell by cell. Pure.

Which cell is which is told by its id first, then by what is in it: the same source, then a similar one between the
same neighbours, then a similar one anywhere. Some tools number their ids, so that an inserted cell gives every later
one another's id: an id does not count where what was in the cell, and what is in it, are found under other ids.

Execution counts and timings change with every run; they are counted and not told cell by cell.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance.history.diff import outputs, text

if TYPE_CHECKING:
    from appliance import wire

NEAR = 0.4
"""Likeness, 0 to 1, of two cells between the same neighbours that are taken for one."""
FAR = 0.7
"""The same for two cells anywhere."""
MOST_PAIRS = 60_000
"""Likenesses that are looked at."""
_MOST_CHARACTERS = 20_000
_WORD = re.compile(r"\w+|[^\w\s]")
_VOLATILE = frozenset({"execution", "ExecuteTime", "collapsed", "scrolled"})
"""Cell metadata that running or looking changes."""


class NotANotebook(ValueError):
    pass


class Cell(NamedTuple):
    number: int
    """Its place, from 0."""
    id: str
    type: str
    source: str
    outputs: list[Any]
    metadata: dict[str, Any]
    attachments: Any
    count: Any


class Notebook(NamedTuple):
    cells: list[Cell]
    metadata: dict[str, Any]


class Diff(NamedTuple):
    cells: list[wire.CellChange]
    unchanged: int
    metadata: list[str]
    note: str


EMPTY = Notebook([], {})


def read(document: Any) -> Notebook:
    """The cells of a parsed notebook, of format 3 or 4. Raises NotANotebook."""
    if not isinstance(document, dict):
        raise NotANotebook("not a JSON object")
    found = document.get("cells")
    if found is None and isinstance(document.get("worksheets"), list):
        sheets = [sheet for sheet in document["worksheets"] if isinstance(sheet, dict)]
        found = [cell for sheet in sheets for cell in outputs.as_list(sheet.get("cells"))]
    if not isinstance(found, list) or not all(isinstance(cell, dict) for cell in found):
        raise NotANotebook("it has no list of cells")
    metadata = {**outputs.as_dict(document.get("metadata"))}
    for key in ("nbformat", "nbformat_minor"):
        if key in document:
            metadata[key] = document[key]
    return Notebook([_cell(number, cell) for number, cell in enumerate(found)], metadata)


def _cell(number: int, cell: dict[str, Any]) -> Cell:
    return Cell(
        number=number,
        id=str(cell.get("id") or ""),
        type=str(cell.get("cell_type") or ""),
        source=outputs.joined(cell.get("source", cell.get("input", ""))),
        outputs=outputs.as_list(cell.get("outputs")),
        metadata=outputs.as_dict(cell.get("metadata")),
        attachments=cell.get("attachments") or {},
        count=cell.get("execution_count", cell.get("prompt_number")),
    )


def compare(before: Notebook, after: Notebook, *, most: int = text.MOST_LINES) -> Diff:
    """`most` lines of source are told."""
    pairs = match(before.cells, after.cells)
    backbone = {pairs[index][0] for index in text.rising([now for _, now in pairs])}
    changes: list[wire.CellChange] = []
    unchanged = reruns = told = 0
    note = ""
    for was, now in _in_order(before.cells, after.cells, pairs, backbone):
        moved = was is not None and now is not None and was.number not in backbone
        change = _change(was, now, moved=moved, most=max(0, most - told))
        if change is None:
            unchanged += 1
            reruns += was is not None and now is not None and was.count != now.count
            continue
        told += sum(len(hunk["lines"]) for hunk in change["hunks"])
        if told >= most:
            note = f"cut after {most} lines of source"
        changes.append(change)
    metadata = _differences(before.metadata, after.metadata) if before is not EMPTY and after is not EMPTY else []
    if reruns:
        metadata.append(f"{_cells(reruns)} executed again with the same outputs")
    return Diff(changes, unchanged, metadata, note)


# -- which cell is which


def match(before: Sequence[Cell], after: Sequence[Cell]) -> list[tuple[int, int]]:
    """Places of the cells that are one, in the order of the older notebook."""
    found = _by_id(before, after)
    found |= _by_source(before, after, found)
    found |= _by_likeness(before, after, found, NEAR, near=True)
    found |= _by_likeness(before, after, found, FAR, near=False)
    return sorted(found.items())


def _by_id(before: Sequence[Cell], after: Sequence[Cell]) -> dict[int, int]:
    old, new = _unique({cell.number: cell.id for cell in before}), _unique({cell.number: cell.id for cell in after})
    was_there = {cell.source.strip() for cell in before} - {""}
    still_there = {cell.source.strip() for cell in after if cell.id in old} - {""}
    found = {}
    for identity in old.keys() & new.keys():
        was, now = before[old[identity]], after[new[identity]]
        gone_elsewhere, come_from_elsewhere = was.source.strip() in still_there, now.source.strip() in was_there
        shifted = gone_elsewhere and come_from_elsewhere
        doubtful = gone_elsewhere or come_from_elsewhere
        if was.source == now.source or not (shifted or (doubtful and likeness(was, now) < NEAR)):
            found[was.number] = now.number
    return found


def _unique(names: Mapping[int, str]) -> dict[str, int]:
    counts = Counter(names.values())
    return {name: number for number, name in names.items() if name and counts[name] == 1}


def _by_source(before: Sequence[Cell], after: Sequence[Cell], known: Mapping[int, int]) -> dict[int, int]:
    """The same type and source: those in order first, then those that have moved."""
    old, new = _free(before, known.keys()), _free(after, known.values())
    blocks, _ = text.match([_key(cell) for cell in old], [_key(cell) for cell in new])
    found = {old[b.before + at].number: new[b.after + at].number for b in blocks for at in range(b.size)}
    elsewhere: dict[str, list[Cell]] = {}
    for cell in reversed(_free(new, found.values())):
        elsewhere.setdefault(_key(cell), []).append(cell)
    for cell in _free(old, found.keys()):
        if cell.source.strip() and (same := elsewhere.get(_key(cell))):
            found[cell.number] = same.pop().number
    return found


def _by_likeness(
    before: Sequence[Cell], after: Sequence[Cell], known: Mapping[int, int], least: float, *, near: bool
) -> dict[int, int]:
    """The likest pairs first. `near`: only between the same neighbours."""
    old, new = _free(before, known.keys()), _free(after, known.values())
    pairs = sorted(known.items())
    frame = [pairs[index] for index in text.rising([now for _, now in pairs])]
    olds, news = [was for was, _ in frame], [now for _, now in frame]
    words = {id(cell): _words(cell) for cell in (*old, *new)}
    looked = 0
    likely: list[tuple[float, int, int, int]] = []
    for was in old:
        for now in new:
            if was.type != now.type:
                continue
            if near and bisect_left(olds, was.number) != bisect_left(news, now.number):
                continue
            looked += 1
            if looked > MOST_PAIRS:
                break
            score = _overlap(words[id(was)], words[id(now)])
            if score >= least:
                likely.append((-score, abs(was.number - now.number), was.number, now.number))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, was_number, now_number in sorted(likely):
        if was_number not in found and now_number not in taken:
            found[was_number] = now_number
            taken.add(now_number)
    return found


def likeness(was: Cell, now: Cell) -> float:
    """Share of words and signs that both have, 0 to 1."""
    return _overlap(_words(was), _words(now))


def _words(cell: Cell) -> Counter[str]:
    return Counter(_WORD.findall(cell.source[:_MOST_CHARACTERS]))


def _overlap(was: Counter[str], now: Counter[str]) -> float:
    every = was.total() + now.total()
    return 2 * (was & now).total() / every if every else 1.0


def _free(cells: Iterable[Cell], taken: Iterable[int]) -> list[Cell]:
    gone = set(taken)
    return [cell for cell in cells if cell.number not in gone]


def _key(cell: Cell) -> str:
    return f"{cell.type}\0{cell.source}"


def _in_order(
    before: Sequence[Cell], after: Sequence[Cell], pairs: Sequence[tuple[int, int]], backbone: set[int]
) -> Iterable[tuple[Cell | None, Cell | None]]:
    """In the order of the newer notebook; a removed cell stands where it was."""
    old_of = {now: was for was, now in pairs}
    removed = deque(_free(before, old_of.values()))
    for cell in after:
        was = old_of.get(cell.number)
        while was is not None and was in backbone and removed and removed[0].number < was:
            yield removed.popleft(), None
        yield (None if was is None else before[was]), cell
    for cell in removed:
        yield cell, None


# -- what differs


def _change(was: Cell | None, now: Cell | None, *, moved: bool, most: int) -> wire.CellChange | None:
    """None: the same, as far as a person cares."""
    cell = now or was
    assert cell is not None, "a pair has at least one half"
    hunks = text.compare(_ended(was), _ended(now), most=most).hunks
    notes = _notes(was, now) if was and now else []
    old, new = (outputs.plain(each.outputs) if each else [] for each in (was, now))
    changed = was is None or now is None or bool(hunks or notes) or old != new
    if not changed and not moved:
        return None
    return {
        "change": "added" if was is None else "removed" if now is None else "changed" if changed else "moved",
        "type": cell.type,
        "id": cell.id,
        "was": was.number + 1 if was else None,
        "now": now.number + 1 if now else None,
        "hunks": hunks,
        "outputs_before": outputs.describe(was.outputs) if was else "",
        "outputs_after": outputs.describe(now.outputs) if now else "",
        "outputs_changed": old != new,
        "notes": [*([f"moved from {was.number + 1} to {now.number + 1}"] if moved and was and now else []), *notes],
    }


def _ended(cell: Cell | None) -> str:
    """Its source as lines that all end: a notebook stores none after the last."""
    return f"{cell.source}\n" if cell and cell.source else ""


def _notes(was: Cell, now: Cell) -> list[str]:
    notes = [f"type {was.type} -> {now.type}"] if was.type != now.type else []
    keys = {key for key in was.metadata.keys() | now.metadata.keys() if key not in _VOLATILE}
    if differ := sorted(key for key in keys if was.metadata.get(key) != now.metadata.get(key)):
        notes.append(f"metadata: {', '.join(differ)}")
    if was.attachments != now.attachments:
        notes.append("attachments")
    return notes


def _differences(was: Any, now: Any, path: str = "") -> list[str]:
    """One line for each value that differs; short ones with what they were and are."""
    if isinstance(was, dict) and isinstance(now, dict):
        found: list[str] = []
        for key in sorted(was.keys() | now.keys(), key=str):
            found += _differences(was.get(key), now.get(key), f"{path}.{key}" if path else str(key))
        return found
    if was == now:
        return []
    old, new = _short(was), _short(now)
    return [f"{path}: {old} -> {new}" if old and new else f"{path} changed"]


def _short(value: Any) -> str:
    if value is None:
        return "none"
    return str(value) if isinstance(value, (str, int, float)) and 0 < len(str(value)) <= 60 else ""


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
