"""The members of a tar as it comes, within bounds. Whoever sent it is not trusted.

`tarfile` reads a header of whatever length it claims into memory, so the blocks are walked here, and it only reads the
single blocks. Formats: ustar, pax and GNU with long names, plain or in gzip; nothing sparse.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from appliance.errors import UsageError

MOST_HEADER = 1 << 20
"""Bytes of an extended header: names and times."""
MOST_HEADERS = 2 * MOST_HEADER
"""Bytes of all of them before one member."""
MOST_NAME = 8192
PIECE = 1 << 18
_GZIP = b"\x1f\x8b"
_HINT = "only files that `appliance notebook export` has written, or a tar of that layout, are taken"
_SECONDS = re.compile(rb"(-?)([0-9]{1,10})(?:\.([0-9]*))?")
_KINDS: dict[bytes, Literal["file", "directory", "link", "hardlink"]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hardlink",
}

_EXTENDED = frozenset(
    (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)
"""Headers that tell of the member behind them."""

Read = Callable[[int], bytes]
"""At most so many bytes; none: the end."""


class Member(NamedTuple):
    name: bytes
    """As it was written."""
    kind: Literal["file", "directory", "link", "hardlink"]
    size: int
    mtime_ns: int
    executable: bool
    target: bytes
    content: Iterator[memoryview]
    """Taken or not, before the next member."""


def refused(why: str, where: str = "") -> UsageError:
    return UsageError(f"not an archive of a notebook: {why}", where=where, hint=_HINT)


def members(read: Read) -> Iterator[Member]:
    """Raises UsageError for what is no tar, is cut off, or holds what has no place in one."""
    blocks = _Blocks(_plain(read))
    extended: dict[bytes, bytes] = {}
    left = MOST_HEADERS
    while True:
        info = _header(blocks.take(tarfile.BLOCKSIZE))
        if info is None:
            blocks.end()
            return
        if info.type in _EXTENDED:
            left -= tarfile.BLOCKSIZE + info.size
            if left < 0:
                raise refused("more headers than a member has")
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extended |= _pax(blocks.payload(info.size, MOST_HEADER))
        elif info.type == tarfile.XGLTYPE:
            blocks.payload(info.size, MOST_HEADER)  # a comment of git's, as a rule; no name comes from it
        elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            key = b"path" if info.type == tarfile.GNUTYPE_LONGNAME else b"linkpath"
            extended[key] = blocks.payload(info.size, MOST_NAME).rstrip(b"\0")
        else:
            member, drain = _member(info, extended, blocks)
            extended, left = {}, MOST_HEADERS
            yield member
            drain()


def _member(info: tarfile.TarInfo, extended: dict[bytes, bytes], blocks: _Blocks) -> tuple[Member, Callable[[], None]]:
    name = extended.get(b"path") or info.name.encode("utf-8", "surrogateescape")
    shown = name.decode("utf-8", "replace")
    kind = _KINDS.get(info.type)
    if kind is None or any(key.startswith(b"GNU.sparse") for key in extended):
        raise refused(f"a member of type {info.type.decode('latin-1')!r}, and only files and links go", shown)
    size = info.size
    if b"size" in extended:
        size = _number(extended[b"size"], shown)
    size = size if kind == "file" else 0
    target = extended.get(b"linkpath") or info.linkname.encode("utf-8", "surrogateescape")
    content = blocks.content(size)

    def drain() -> None:
        for _ in content:
            pass

    mtime_ns = _time(extended.get(b"mtime") or b"%d" % info.mtime)
    return Member(name, kind, size, mtime_ns, bool(info.mode & 0o111), target, content), drain


class _Blocks:
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def take(self, count: int) -> bytes:
        """Few bytes."""
        while len(self._left) < count:
            self._left = memoryview(bytes(self._left) + self._more())
        taken, self._left = bytes(self._left[:count]), self._left[count:]
        return taken

    def payload(self, size: int, most: int) -> bytes:
        if not 0 <= size <= most:
            raise refused("a header that is too long")
        return self.take(size + -size % tarfile.BLOCKSIZE)[:size]

    def content(self, size: int) -> Iterator[memoryview]:
        """Without the filling behind it, which goes with it."""
        left = size
        while left:
            piece = self._left or memoryview(self._more())
            given, self._left = piece[:left], piece[left:]
            left -= len(given)
            yield given
        self.take(-size % tarfile.BLOCKSIZE)

    def end(self) -> None:
        """Only filling follows; it is read, for what was packed carries its checksum at the end."""
        count = 0
        for piece in self._pieces:
            count += len(piece)
            if count > MOST_HEADER:
                raise refused("there is something behind its end")

    def _more(self) -> bytes:
        if piece := next(self._pieces, b""):
            return piece
        raise refused("it is cut off")


def _plain(read: Read) -> Iterator[bytes]:
    """What was packed with gzip unpacked, in pieces of bounded size."""
    first = b""
    while len(first) < len(_GZIP) and (piece := read(PIECE)):
        first += piece
    if not first.startswith(_GZIP):
        while first:
            yield first
            first = read(PIECE)
        return
    gzip, packed = zlib.decompressobj(31), first
    try:
        while packed and not gzip.eof:
            while piece := gzip.decompress(packed, PIECE):
                yield piece
                packed = gzip.unconsumed_tail
            packed = read(PIECE)
    except zlib.error as error:
        raise refused(f"damaged: {error}") from None
    if not gzip.eof:
        raise refused("it is cut off")


def _header(block: bytes) -> tarfile.TarInfo | None:
    """None: the end."""
    if not block.strip(b"\0"):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise refused(str(error)) from None
    if info.size < 0:
        raise refused("a size below nothing")
    return info


def _pax(data: bytes) -> dict[bytes, bytes]:
    """Records of `LENGTH KEY=VALUE` and a line's end, values as they are."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = _number(data[at:space], "") if space > at else 0
        record = data[space + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if length < 5 or at + length > len(data) or not record.endswith(b"\n") or not equals:
            raise refused("a header that is not one")
        found[key] = value
        at += length
    return found


def _number(text: bytes, where: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise refused("a size that is no number", where)
    return int(text)


def _time(text: bytes) -> int:
    """Nanoseconds; 0 for a time that no file has."""
    found = _SECONDS.fullmatch(text)
    if found is None:
        return 0
    fraction = int((found[3] or b"").ljust(9, b"0")[:9])
    whole = int(found[2]) * 10**9 + fraction
    return -whole if found[1] else whole
