"""`appliance notebook diff`: what differs between two moments of a workspace, down to lines and cells."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from appliance.cli import render
from appliance.client import Client
from appliance.errors import ApplianceError, UsageError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from appliance import wire

SMALL = 1 << 20
"""Bytes of a text that `--patch` shows."""
SMALL_NOTEBOOK = 16 << 20
MOST_PATCHES = 200
_MOMENT = re.compile(r"now|[0-9a-f]{10}")
_COLOURS = {"+": "32", "-": "31", "@": "36", "=": "1"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Behind the notebook's name."""
    parser.add_argument(
        "rest",
        nargs="*",
        metavar="FROM TO PATH",
        help="two moments, ids from `history` or `now` (default: the newest snapshot, now), and a file to look into "
        "or a directory to stay in; a path that looks like an id is written ./PATH",
    )
    parser.add_argument("-p", "--patch", action="store_true", help="lines and cells of all small files too")
    parser.add_argument("--stat", action="store_true", help="only how many files and bytes")
    parser.add_argument("--checksum", action="store_true", help="read files of the same size, whatever their times say")
    parser.add_argument("--was", default="", metavar="PATH", help="the file's path in the older moment")
    parser.add_argument(
        "--limit", type=render.positive, default=None, metavar="N", help="changes to tell; default 100000"
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    older, newer, path = moments(args.rest)
    client = render.client()
    if path and not args.patch and not args.stat:
        try:
            return _file(client, args, older, newer, path)
        except UsageError:
            if args.was:
                raise  # else it is a directory, or the listing tells what is wrong with it
    found = client.diff(args.name, older, newer, path=path, checksum=args.checksum, limit=args.limit)
    with closing(found) as changes:  # type: ignore[type-var]  # it is a generator
        if args.stat:
            return _stat(changes, args.output)
        if args.output == "json":
            return _json(changes)
        return _listing(client, args, older, newer, changes)


def moments(words: Sequence[str]) -> tuple[str, str, str]:
    """The older and the newer moment and a path, each empty where it is not given."""
    rest = list(words)
    found: list[str] = []
    while rest and len(found) < 2 and _MOMENT.fullmatch(rest[0]):
        found.append(rest.pop(0))
    if len(rest) > 1:
        raise UsageError(
            f"no moment {rest[0]!r}", hint="give ids from `appliance notebook history NAME`, or `now`, before the path"
        )
    older, newer, *_ = [*found, "", ""]
    return older, newer, rest[0] if rest else ""


def describe(change: wire.FileChange) -> str:
    """One line of a listing: what happened, the sizes, the path."""
    before, after = (render.size(change[side]) if change[side] is not None else "" for side in ("before", "after"))
    sizes = before if before == after else f"{before} -> {after}" if before and after else before or after
    if change["kind"] == "directory" and change["change"] != "renamed":
        sizes = ""
    path = change["path"] + ("/" if change["kind"] == "directory" else "")
    if "was" in change:
        path = f"{change['was']} -> {path}"
    kind = f" ({change['kind']})" if change["kind"] in ("link", "other") else ""
    note = f" [{change['note']}]" if "note" in change else ""
    return f"{change['change']:<8} {sizes:>22}  {render.clean(path)}{kind}{note}"


def lines(diff: wire.FileDiff) -> Iterator[str]:
    """A file's differences as lines that begin with ` `, `-`, `+`, `@` for a place or `=` for a title."""
    if diff["note"]:
        yield f"= {diff['note']}"
    if diff["kind"] == "binary" and not diff["same"]:
        yield f"= binary: {render.size(diff['before'])} before, {render.size(diff['after'])} after"
    yield from _hunks(diff["hunks"], everywhere=diff["kind"] == "text")
    for cell in diff["cells"]:
        yield from _cell(cell)
    if diff["metadata"]:
        yield "= notebook"
        yield from (f"  {line}" for line in diff["metadata"])


def _cell(cell: wire.CellChange) -> Iterator[str]:
    place = cell["now"] or cell["was"]
    was = f", was {cell['was']}" if cell["was"] and cell["now"] and cell["was"] != cell["now"] else ""
    yield f"= cell {place} {cell['change']} ({cell['type']}{was})"
    yield from _hunks(cell["hunks"], everywhere=len(cell["hunks"]) > 1)
    if cell["outputs_changed"]:
        if cell["outputs_before"]:
            yield f"-[{cell['outputs_before']}]"
        if cell["outputs_after"]:
            yield f"+[{cell['outputs_after']}]"
    yield from (f"  {note}" for note in cell["notes"])


def _hunks(hunks: Sequence[wire.Hunk], *, everywhere: bool) -> Iterator[str]:
    for hunk in hunks:
        if everywhere:
            old, new = (_range(hunk, side) for side in ("before", "after"))
            yield f"@@ -{old} +{new} @@"
        yield from hunk["lines"]


def _range(hunk: wire.Hunk, side: str) -> str:
    marks = Counter(line[:1] for line in hunk["lines"])
    start, count = (hunk["before"], marks["-"]) if side == "before" else (hunk["after"], marks["+"])
    count += marks[" "]
    return f"{start if count else start - 1},{count}"


def _file(client: Client, args: argparse.Namespace, older: str, newer: str, path: str) -> int:
    diff = client.diff_file(args.name, path, older, newer, was=args.was)
    if args.output == "json":
        render.data(diff, "json")
        return 0
    if diff["same"]:
        render.say(f"{render.clean(path)} is the same in both moments")
    paint = _painter()
    for line in lines(diff):
        print(paint(line))
    return 0


def _listing(
    client: Client,
    args: argparse.Namespace,
    older: str,
    newer: str,
    changes: Iterator[wire.FileChange | wire.DiffEnd],
) -> int:
    paint = _painter()
    patches = 0
    for change in changes:
        if _is_end(change):
            return _ended(change)
        line = describe(change)
        print(line, flush=not args.patch)
        if not args.patch or not _is_small(change):
            continue
        patches += 1
        if patches <= MOST_PATCHES:
            for part in _patch(client, args.name, older, newer, change):
                print(f"    {paint(part)}")
        elif patches == MOST_PATCHES + 1:
            render.say(f"only the first {MOST_PATCHES} files are shown by their lines; name one to see it")
    raise _broken_off()


def _patch(client: Client, name: str, older: str, newer: str, change: wire.FileChange) -> Iterator[str]:
    try:
        yield from lines(client.diff_file(name, change["path"], older, newer, was=change.get("was", "")))
    except ApplianceError as error:  # it may have gone since it was listed
        yield f"= {error.message}"


def _is_small(change: wire.FileChange) -> bool:
    largest = max(change["before"] or 0, change["after"] or 0)
    most = SMALL_NOTEBOOK if change["path"].endswith(".ipynb") else SMALL
    moved = change["change"] == "renamed" and change["before"] == change["after"]
    return change["kind"] in ("file", "link") and largest <= most and not moved


def _stat(changes: Iterator[wire.FileChange | wire.DiffEnd], output: str) -> int:
    numbers: Counter[str] = Counter()
    grown: Counter[str] = Counter()
    for change in changes:
        if not _is_end(change):
            numbers[change["change"]] += 1
            grown[change["change"]] += (change["after"] or 0) - (change["before"] or 0)
            continue
        rows = [(name, numbers[name], grown[name]) for name in ("added", "removed", "changed", "renamed")]
        if output == "json":
            totals = {name: {"number": number, "bytes": size} for name, number, size in rows}
            render.data({"totals": totals, "end": change}, "json")
            return 1 if change["cut"] else 0
        cells = [(name, number, f"{'-' if size < 0 else '+'}{render.size(abs(size))}") for name, number, size in rows]
        render.table(("change", "entries", "bytes"), cells, empty="")
        return _ended(change)
    raise _broken_off()


def _json(changes: Iterator[wire.FileChange | wire.DiffEnd]) -> int:
    """Written as it comes: `{"items": [...], "end": {...}}`."""
    sys.stdout.write('{"items": [')
    comma = "\n"
    for change in changes:
        text = json.dumps(change, ensure_ascii=False)
        if _is_end(change):
            sys.stdout.write(f'\n], "end": {text}}}\n')
            return 1 if change["cut"] else 0
        sys.stdout.write(f"{comma}{text}")
        comma = ",\n"
    raise _broken_off()


def _is_end(document: wire.FileChange | wire.DiffEnd) -> TypeIs[wire.DiffEnd]:
    return "end" in document


def _ended(end: wire.DiffEnd) -> int:
    number = end["changes"]
    render.say(f"{number} change{'' if number == 1 else 's'} in {end['entries']} entries")
    if end["cut"]:
        render.say(f"this is not all: {render.clean(end['cut'])}")
    return 1 if end["cut"] else 0


def _broken_off() -> ApplianceError:
    return ApplianceError("the answer was broken off: the daemon stopped", hint="repeat it when the daemon runs again")


def _painter() -> Callable[[str], str]:
    """Shown, never obeyed; in colour on a terminal that takes it."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def paint(line: str) -> str:
        mark = line[:1]
        text = render.clean(line.replace("\t", "    ").removesuffix("\r")) + ("␍" if line.endswith("\r") else "")
        if mark == "=":
            text = text[2:]
        return f"\x1b[{_COLOURS[mark]}m{text}\x1b[0m" if colour and mark in _COLOURS else text

    return paint
