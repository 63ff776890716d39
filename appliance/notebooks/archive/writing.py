"""The archive of a tree, in pieces, as it is read. Blocks; bounded memory whatever the tree holds."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Generator, Iterator

from appliance import paths
from appliance.errors import Conflict
from appliance.notebooks.archive import FILES, LEFT_OUT, SPEC
from appliance.packs.build import END, header
from appliance.packs.entry import Entry
from appliance.packs.tree import Tree, walk

LEVEL = 1
"""Of gzip: the disk and the network are waited for, not the processor."""
PIECE = 1 << 18
MOST_LISTED = 10_000
"""Of what is left out."""


def archive(tree: Tree, spec: bytes) -> Generator[bytes]:
    """Raises StorageError for a directory that cannot be read. What vanishes meanwhile is left out."""
    gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    for block in _blocks(tree, spec):
        if packed := gzip.compress(block):
            yield packed
    yield gzip.flush()


def _blocks(tree: Tree, spec: bytes) -> Iterator[bytes]:
    yield from _text(SPEC, spec)
    yield header(Entry(FILES, "directory"))
    left_out: list[bytes] = []
    count = 0
    for entry in walk(tree):
        if isinstance(entry, Entry):
            try:
                yield from _member(tree, entry)
                continue
            except (FileNotFoundError, PermissionError, Conflict):
                entry = entry.path
        count += 1
        left_out += [entry] if count <= MOST_LISTED else []
    if count:
        more = [f"and {count - len(left_out)} more"] if count > len(left_out) else []
        lines = [*map(paths.encode, left_out), *more]
        yield from _text(LEFT_OUT, "".join(f"{line}\n" for line in lines).encode())
    yield END


def _text(path: bytes, text: bytes) -> Iterator[bytes]:
    yield header(Entry(path, "file", len(text)), size=len(text))
    yield _filled(text)


def _member(tree: Tree, entry: Entry) -> Iterator[bytes]:
    if entry.kind != "file":
        yield header(_placed(entry))
        return
    reader = tree.open_file(entry.path)  # before its header, which promises it
    try:
        found = tree.entry(entry.path, os.fstat(reader)) or entry
        yield header(_placed(found), size=found.size)
        yield from _content(reader, found.size)
    finally:
        os.close(reader)


def _content(reader: int, size: int) -> Iterator[bytes]:
    """As many bytes as the header says: of a file that shrinks meanwhile zeros stand for the rest."""
    at = 0
    while at < size:
        wanted = min(PIECE, size - at)
        piece = os.pread(reader, wanted, at) or bytes(wanted)
        at += len(piece)
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)


def _placed(entry: Entry) -> Entry:
    return entry._replace(path=FILES + b"/" + entry.path)


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)
