"""One file at two moments: its lines, its cells, or why neither. Prints one `wire.FileDiff` as JSON.

A child program (see `walk`), standard library only: parsing a notebook of many megabytes would hold the daemon's
interpreter. Exit code 3: the path is in neither moment.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from appliance import paths
from appliance.history.diff import cells, content, text
from appliance.history.diff.pinned import descend, look, open_regular
from appliance.storage.trees.pinning import FOLDER, parts_of

if TYPE_CHECKING:
    from appliance import wire

MOST_TEXT = 4 << 20
MOST_NOTEBOOK = 64 << 20
"""Bytes of a file that is read whole."""
MISSING = 3
DIRECTORY = 4

Kind = Literal["text", "notebook", "binary", "link", "other"]


class Side(NamedTuple):
    """The file at one moment; `kind` is empty where it is not there."""

    kind: str
    size: int | None
    folder: int
    name: str
    target: str = ""

    def read(self, most: int) -> bytes:
        if not self.kind:
            return b""
        file = open_regular(self.folder, self.name)
        try:
            pieces = []
            while most > 0 and (piece := os.read(file, min(most, content.CHUNK))):
                pieces.append(piece)
                most -= len(piece)
            return b"".join(pieces)
        finally:
            os.close(file)


def find(root: int, path: str) -> Side:
    parts = parts_of(path)
    if not parts:
        return Side("directory", 0, -1, "")
    folder = descend(root, parts[:-1])
    found = look(folder, parts[-1])
    if found is None:
        return Side("", None, -1, "")
    if stat.S_ISLNK(found.st_mode):
        return Side("link", found.st_size, folder, parts[-1], os.readlink(parts[-1], dir_fd=folder))
    for test, kind in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory")):
        if test(found.st_mode):
            return Side(kind, found.st_size, folder, parts[-1])
    return Side("other", found.st_size, folder, parts[-1])


def compare(was: Side, now: Side, path: str, old_path: str) -> wire.FileDiff:
    answer: wire.FileDiff = {
        "kind": "other",
        "path": paths.encode(path),
        "was": paths.encode(old_path),
        "before": was.size,
        "after": now.size,
        "same": False,
        "note": "",
        "hunks": [],
        "cells": [],
        "unchanged": 0,
        "metadata": [],
    }
    kinds = {side.kind for side in (was, now)} - {""}
    if kinds == {"link"}:
        old, new = (paths.encode(side.target) for side in (was, now))
        lines = ([f"-{old}"] if was.kind else []) + ([f"+{new}"] if now.kind else [])
        same = was.target == now.target and was.kind == now.kind
        return {
            **answer,
            "kind": "link",
            "same": same,
            "hunks": [] if same else [{"before": 1, "after": 1, "lines": lines}],
        }
    if kinds != {"file"}:
        same = was.kind == now.kind
        return {**answer, "same": same, "note": f"{_words(was)} before, {_words(now)} after"}
    if path.endswith(".ipynb") and max(was.size or 0, now.size or 0) <= MOST_NOTEBOOK:
        return _notebook(answer, was, now)
    return _text(answer, was, now)


def _notebook(answer: wire.FileDiff, was: Side, now: Side) -> wire.FileDiff:
    raw = was.read(MOST_NOTEBOOK), now.read(MOST_NOTEBOOK)
    try:
        before, after = (
            cells.read(json.loads(each)) if side.kind and each.strip() else cells.EMPTY
            for side, each in zip((was, now), raw, strict=True)
        )
        found = cells.compare(before, after)
    except (ValueError, RecursionError) as error:
        why = error if isinstance(error, cells.NotANotebook) else "it is not valid JSON"
        return _text({**answer, "note": f"not a notebook ({why}): told as text"}, was, now)
    return {
        **answer,
        "kind": "notebook",
        "same": raw[0] == raw[1] and was.kind == now.kind,
        "note": found.note,
        "cells": found.cells,
        "unchanged": found.unchanged,
        "metadata": found.metadata,
    }


def _text(answer: wire.FileDiff, was: Side, now: Side) -> wire.FileDiff:
    large = max(was.size or 0, now.size or 0) > MOST_TEXT
    most = 1 << 16 if large else MOST_TEXT
    old, new = text.decode(was.read(most), cut=large), text.decode(now.read(most), cut=large)
    kind: Kind = "binary" if old is None or new is None else "text"
    notes = [answer["note"]] if answer["note"] else []
    if large or old is None or new is None:
        if kind == "text":
            notes.append(f"larger than {MOST_TEXT >> 20} MiB: not compared line by line")
        return {**answer, "kind": kind, "same": _same(was, now), "note": "; ".join(notes)}
    found = text.compare(old, new)
    if found.note:
        notes.append(found.note)
    same = old == new and was.kind == now.kind
    return {**answer, "kind": kind, "same": same, "note": "; ".join(notes), "hunks": found.hunks}


def _same(was: Side, now: Side) -> bool:
    if was.kind != now.kind or was.size != now.size:
        return False
    before = open_regular(was.folder, was.name)
    try:
        after = open_regular(now.folder, now.name)
        try:
            return content.same(before, after)
        finally:
            os.close(after)
    finally:
        os.close(before)


def _words(side: Side) -> str:
    match side.kind:
        case "":
            return "nothing"
        case "link":
            return f"a link to {paths.encode(side.target)}"
        case "other":
            return "a socket, a fifo or a device"
    return f"a {side.kind}"


def main(argv: list[str]) -> None:
    """`OLDER NEWER OPTIONS`, the last as JSON: `path`, and `was` where the older moment has another one."""
    older, newer, raw = argv
    given: dict[str, Any] = json.loads(raw)
    path, old_path = paths.decode(given["path"]), paths.decode(given["was"] or given["path"])
    was = find(os.open(older, FOLDER), old_path)
    now = find(os.open(newer, FOLDER), path)
    if not was.kind and not now.kind:
        raise SystemExit(MISSING)
    if "directory" in (was.kind, now.kind) and {was.kind, now.kind} <= {"directory", ""}:
        raise SystemExit(DIRECTORY)
    json.dump(compare(was, now, path, old_path), sys.stdout)
