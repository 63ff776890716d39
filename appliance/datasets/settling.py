"""What an upload lacks, and making its volume exactly what was asked for. Runs in a child process, see `program`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from appliance import paths
from appliance.datasets.ledger import Ledger
from appliance.errors import Conflict, UsageError
from appliance.packs.build import file_sha256
from appliance.packs.digest import TreeDigest
from appliance.packs.entry import RESERVED, Entry, from_json, same
from appliance.packs.extract import offset_of
from appliance.packs.tree import Tree, walk

MANIFEST = "manifest"
ARRIVING = "manifest.new"


def lacking(tree: Tree, folder: Path, *, based: bool, crashed: bool) -> dict[str, object]:
    """Take over the manifest that has arrived. `ranges` of its lines that are not there, as [first, one past the last];
    `offsets`: line -> bytes that are there already of an attempt before.

    `based`: what the base holds counts where size and time are the same. `crashed`: the machine was, and not all that
    the ledger tells of may have reached the disk.
    """
    ledger = Ledger(folder)
    if crashed:
        ledger.distrust(tree)
        _drop_half_made(tree)
    ranges: list[list[int]] = []
    offsets: dict[int, int] = {}
    seen: set[bytes] = set()
    for number, entry in enumerate(_manifest(folder / ARRIVING)):
        if entry.path in seen:
            raise UsageError("the manifest lists a path twice", where=paths.encode(entry.path))
        seen.add(entry.path)
        if _there(tree, ledger, entry, based=based):
            continue
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] += 1
        else:
            ranges.append([number, number + 1])
        if entry.kind == "file" and (offset := offset_of(tree, entry)):
            offsets[number] = offset
    (folder / ARRIVING).replace(folder / MANIFEST)
    return {"ranges": ranges, "offsets": offsets}


def settle(tree: Tree, folder: Path, *, based: bool, mirror: bool) -> dict[str, object]:
    """Remove what does not belong there, check that everything else does, and say what it is.

    `mirror`: what the base has and the source has not goes too. Without a manifest all that was sent belongs there.
    The digest is empty where that would mean to read a base that nobody has sent. Raises Conflict.
    """
    ledger = Ledger(folder)
    wanted = {entry.path: entry for entry in _manifest(folder / MANIFEST)} if (folder / MANIFEST).exists() else None
    strict = wanted is not None and (mirror or not based)
    digest, files, total = TreeDigest(), 0, 0
    known = True
    for found in walk(tree):
        path = found if isinstance(found, bytes) else found.path
        if path.rpartition(b"/")[2].startswith(RESERVED) or (strict and wanted is not None and path not in wanted):
            tree.remove(path)
            continue
        if isinstance(found, bytes):
            continue
        if wanted is not None and path not in wanted and path in ledger:
            raise Conflict(
                "it was sent and is not in the source any more, so what the base had there is lost",
                where=paths.encode(path),
                hint="begin anew: `appliance dataset put --restart`",
            )
        if wanted is not None and (asked := wanted.get(path)) is not None:
            if not same(asked, found):
                continue
            del wanted[path]
        if found.kind == "file":
            files, total = files + 1, total + found.size
            sha256 = ledger.sha256(found)
            known = known and bool(sha256 or not based)
            digest.add(found, sha256 or (file_sha256(tree, found) if known else ""))
        else:
            digest.add(found)
    if wanted:
        first = next(iter(wanted))
        raise Conflict(
            f"{len(wanted)} files are not here yet", where=paths.encode(first), hint="send them, then commit again"
        )
    return {"digest": digest.hexdigest() if known else "", "files": files, "bytes": total}


def _drop_half_made(tree: Tree) -> None:
    for found in walk(tree):
        if isinstance(found, bytes) and found.rpartition(b"/")[2].startswith(RESERVED):
            tree.remove(found)


def _there(tree: Tree, ledger: Ledger, entry: Entry, *, based: bool) -> bool:
    found = tree.entry(entry.path)
    if not same(entry, found):
        return False
    if entry.kind != "file":
        return True
    return ledger.has(entry) or (based and entry.path not in ledger)


def _manifest(path: Path) -> Iterator[Entry]:
    try:
        with path.open("rb") as file:
            for line in file:
                yield from_json(json.loads(line))
    except FileNotFoundError:
        raise Conflict("no manifest has arrived", hint="send one, then ask what is missing") from None
    except ValueError as error:
        raise UsageError(f"not a manifest: {error}", hint="one JSON array a line") from None
