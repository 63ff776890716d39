"""The child process in which trees are read, packed and taken in. Started by `children`.

A program of its own (standard library only): long work on a tree takes neither the daemon's interpreter lock nor its
file descriptors, it can be ended at any moment, and it ends when the daemon does. What goes in comes on stdin, what
comes out goes to stdout. Exit code 0, or 1 with one line of JSON on stderr: code, message, hint, where.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from appliance import paths
from appliance.datasets import ledger, settling
from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, StorageError, TooLarge
from appliance.packs import build, extract
from appliance.packs.entry import Entry, check_path, raw
from appliance.packs.tree import Tree, walk

PR_SET_PDEATHSIG = 1
CHUNK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def unpack(root: Path, folder: str, expected: str = "") -> Iterator[bytes]:
    """Store the pack that comes in. One whose sha256 is not the expected one changes nothing."""
    pack = sys.stdin.buffer.read(build.LARGEST + 1)
    if len(pack) > build.LARGEST:
        raise TooLarge(f"a pack has at most {build.LARGEST >> 20} MiB", hint="send smaller ones")
    digest = hashlib.sha256(pack).hexdigest()
    if expected not in ("", digest):
        raise Conflict("the pack was damaged on its way", hint="send it again")
    taken = extract.members(pack)
    tree, done, size = Tree(root), [], 0
    try:
        for stored in extract.store(tree, taken, replace=True):
            size += stored.bytes
            if stored.complete and stored.entry.kind == "file":
                done.append((stored.entry, stored.sha256))
    finally:
        ledger.add(Path(folder), done)
    yield _json({"sha256": digest, "files": len(done), "bytes": size})


def check(root: Path, folder: str, *flags: str) -> Iterator[bytes]:
    """What the manifest that has arrived asks for and is not there. Flags: based, crashed."""
    yield _json(settling.lacking(Tree(root), Path(folder), based="based" in flags, crashed="crashed" in flags))


def settle(root: Path, folder: str, *flags: str) -> Iterator[bytes]:
    """Make the tree what the manifest asks for. Flags: based, mirror."""
    yield _json(settling.settle(Tree(root), Path(folder), based="based" in flags, mirror="mirror" in flags))


def listing(root: Path, top: str = "") -> Iterator[bytes]:
    """One line of JSON for each entry at or below `top`, whose own directory is where their paths begin; for what
    cannot be fetched just its path. The last line is their number: a listing without it is not whole."""
    number = 0
    for found in walk(*_below(root, top)):
        number += 1
        yield _json(found.to_json() if isinstance(found, Entry) else paths.encode(found)) + b"\n"
    yield b"%d\n" % number


def pack(root: Path, top: str = "") -> Iterator[bytes]:
    """One pack with as much as fits of what stdin names: [[path, offset], ...], paths as `listing` gives them."""
    tree, _ = _below(root, top)
    wanted = []
    for text, offset in json.load(sys.stdin.buffer):
        entry = tree.entry(check_path(raw(text)))
        if entry is None or not 0 <= int(offset) <= entry.size:
            raise NotFound("there is no such file", where=text, hint="list the version again")
        wanted.append((entry, int(offset)))
    yield build.first_pack(tree, wanted)


def archive(root: Path, top: str = "") -> Iterator[bytes]:
    """Everything at or below `top` as one plain tar archive, for other programs."""
    tree, begin = _below(root, top)
    for entry in _entries(tree, begin):
        yield build.header(entry, size=entry.size)
        if entry.kind == "file":
            yield from _content(tree, entry)
    yield build.END


def _content(tree: Tree, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    with open(tree.open_file(entry.path), "rb", buffering=0) as file:
        while left:
            piece = file.read(min(left, CHUNK))
            if not piece:
                raise StorageError("it has become shorter while it was read", where=paths.encode(entry.path))
            left -= len(piece)
            yield piece
    yield bytes(-entry.size % 512)


def _below(root: Path, top: str) -> tuple[Tree, bytes]:
    return Tree.below(root, check_path(raw(top)) if top else b"")


def _entries(tree: Tree, begin: bytes) -> Iterator[Entry]:
    return (found for found in walk(tree, begin) if isinstance(found, Entry))


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


VERBS: dict[str, Callable[..., Iterator[bytes]]] = {
    "unpack": unpack,
    "check": check,
    "settle": settle,
    "list": listing,
    "pack": pack,
    "archive": archive,
}


def main(argv: Sequence[str]) -> int:
    verb, parent, root, *given = argv
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        return 1
    os.umask(0o022)
    out: BinaryIO = sys.stdout.buffer
    try:
        for piece in VERBS[verb](Path(root), *given):
            out.write(piece)
        out.flush()
    except ApplianceError as error:
        return _tell(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())  # or the interpreter complains at its end
        return 1
    except OSError as error:
        return _tell(_in_words(error))
    return 0


def _in_words(error: OSError) -> ApplianceError:
    text = os.strerror(error.errno) if error.errno else str(error)
    name = error.filename if isinstance(error.filename, str | bytes) else b""
    where = paths.encode(name)
    if error.errno in _FULL:
        return NoSpace("the disk is full", where=where, hint="free some space, then repeat the command")
    if error.errno == errno.EROFS:
        hint = "begin anew: `appliance dataset put --restart`"
        return Conflict("this version was about to be committed and takes no change", where=where, hint=hint)
    return StorageError(text, where=where, hint="look at this file, then repeat the command")


def _tell(error: ApplianceError) -> int:
    said = {"code": error.code, "message": error.message, "hint": error.hint, "where": error.where}
    print(json.dumps(said), file=sys.stderr)
    return 1
