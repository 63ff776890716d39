"""Making packs: tar archives of at most some 32 MiB, which hold many small files or a piece of a large one.

A piece is a member with three pax fields more: `APPLIANCE.size` of the whole file, `APPLIANCE.offset` where the
content belongs, and `APPLIANCE.from`, where the piece before has ended; what lies between the two is a hole.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator

from appliance import paths
from appliance.errors import Conflict, StorageError
from appliance.packs.entry import Entry
from appliance.packs.tree import Tree

PACK = 32 << 20
"""Bytes after which a pack is closed."""
LARGEST = PACK + (1 << 20)
"""Bytes of a pack with the headers of its last member and its end."""
MOST_MEMBERS = 8192
PIECES = 8 << 20
"""Files above this are sent in pieces where they do not fit."""
LEAST_PIECE = 1 << 18
SIZE, OFFSET, FROM = "APPLIANCE.size", "APPLIANCE.offset", "APPLIANCE.from"
END = bytes(2 * tarfile.BLOCKSIZE)

Wanted = Iterable[tuple[Entry, int]]
"""Entries, each with the offset from which on its content is wanted."""


def packs(tree: Tree, wanted: Wanted, *, most: int = PACK) -> Iterator[bytes]:
    """Everything that is wanted, in as many packs as it takes. Raises Conflict for a file that changes meanwhile."""
    pack = _Pack(most)
    for entry, offset in wanted:
        for header, data in _members(tree, entry, offset, pack):
            if data and len(data) > pack.room and pack.members:
                yield pack.take()
            pack.add(header, data)
            if pack.room <= 0 or pack.members >= MOST_MEMBERS:
                yield pack.take()
    if pack.members:
        yield pack.take()


def first_pack(tree: Tree, wanted: Wanted, *, most: int = PACK) -> bytes:
    """As much of it as fits into one."""
    return next(packs(tree, wanted, most=most), END)


def read_whole(tree: Tree, entry: Entry) -> bytes:
    reader = _open(tree, entry)
    try:
        data = _read(reader, 0, entry.size, entry)
        _check_same(reader, entry)
        return data
    finally:
        os.close(reader)


def file_sha256(tree: Tree, entry: Entry) -> str:
    """Of the content as it is now, in hex. Raises Conflict where it is not the entry's file."""
    reader = _open(tree, entry)
    try:
        with open(reader, "rb", buffering=0, closefd=False) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        _check_same(reader, entry)
        return found
    finally:
        os.close(reader)


class _Pack:
    """The pack that is being filled."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._clear()

    @property
    def room(self) -> int:
        """Bytes that still go into it."""
        return self._most - self._size

    def add(self, header: bytes, data: bytes) -> None:
        added = (header, data, bytes(-len(data) % tarfile.BLOCKSIZE))
        self._parts += added
        self._size += sum(map(len, added))
        self.members += 1

    def take(self) -> bytes:
        """The pack, closed; what comes next goes into another one."""
        done = b"".join((*self._parts, END))
        self._clear()
        return done

    def _clear(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.members = 0


def _members(tree: Tree, entry: Entry, offset: int, pack: _Pack) -> Iterator[tuple[bytes, bytes]]:
    if entry.kind != "file":
        yield header(entry), b""
    elif entry.size <= PIECES and offset == 0:
        data = read_whole(tree, entry)
        yield header(entry, size=len(data)), data
    else:
        yield from _pieces(tree, entry, offset, pack)


def header(entry: Entry, *, size: int = 0, more: dict[str, str] | None = None) -> bytes:
    info = tarfile.TarInfo(entry.path.decode("utf-8", "surrogateescape"))
    info.type = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[entry.kind]
    info.mode = 0o755 if entry.executable or entry.kind == "directory" else 0o644
    info.size = size
    info.linkname = entry.target.decode("utf-8", "surrogateescape")
    info.pax_headers = dict(more or {})
    if entry.kind == "file":
        info.pax_headers["mtime"] = time_text(entry.mtime_ns)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def time_text(mtime_ns: int) -> str:
    """Seconds with nine digits, exactly; a float would lose the last of them."""
    sign, whole = ("-", -mtime_ns) if mtime_ns < 0 else ("", mtime_ns)
    return f"{sign}{whole // 10**9}.{whole % 10**9:09}"


def _pieces(tree: Tree, entry: Entry, offset: int, pack: _Pack) -> Iterator[tuple[bytes, bytes]]:
    reader = _open(tree, entry)
    try:
        while True:
            at, end = _data(reader, offset, entry.size)
            data = _read(reader, at, min(end - at, max(pack.room, LEAST_PIECE)), entry)
            _check_same(reader, entry)
            more = {SIZE: str(entry.size), OFFSET: str(at), FROM: str(offset)}
            yield header(entry, size=len(data), more=more), data
            offset = at + len(data)
            if offset >= entry.size:
                return
    finally:
        os.close(reader)


def _data(reader: int, offset: int, size: int) -> tuple[int, int]:
    """Where the next data begins and ends; (size, size): there is only a hole up to the end."""
    try:
        start = os.lseek(reader, offset, os.SEEK_DATA)
        return min(start, size), min(os.lseek(reader, start, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return offset, size  # a file system that tells nothing of holes
        raise


def _open(tree: Tree, entry: Entry) -> int:
    try:
        reader = tree.open_file(entry.path)
    except FileNotFoundError:
        raise _changed(entry) from None
    except PermissionError:
        raise StorageError("may not be read", where=paths.encode(entry.path), hint="look at its permissions") from None
    try:
        _check_same(reader, entry)
    except BaseException:
        os.close(reader)
        raise
    return reader


def _read(reader: int, offset: int, size: int, entry: Entry) -> bytes:
    found = io.BytesIO()
    while found.tell() < size:
        piece = os.pread(reader, size - found.tell(), offset + found.tell())
        if not piece:
            raise _changed(entry)
        if len(piece) == size:
            return piece
        found.write(piece)
    return found.getvalue()


def _check_same(reader: int, entry: Entry) -> None:
    found = os.fstat(reader)
    if (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns):
        raise _changed(entry)


def _changed(entry: Entry) -> Conflict:
    return Conflict(
        "it has changed since it was listed",
        where=paths.encode(entry.path),
        hint="repeat the command when nobody writes to it; it goes on where it was",
    )
