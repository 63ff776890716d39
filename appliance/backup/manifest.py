"""Manifests: one frozen tree as a list of entries, one JSON line each, in the order of a walk. Standard library only.

The order is that of a depth-first walk which takes each directory's names sorted by their bytes. So two manifests, or
a manifest and a walk, are compared in step, without holding either in memory. What is read here may have been written
by anybody: a name that leads out of the tree, an entry outside its directory, or one given twice is refused.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from appliance.errors import StorageError

KINDS = frozenset("dflpscbh")
"""Directory, file, symlink, pipe, socket, character device, block device, another name of an earlier file."""
DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
MOST_LINE = 64 << 20
"""Bytes of one line; the chunks of a file of many terabytes fit."""

T = TypeVar("T")


class Damaged(StorageError):
    """The backup cannot be what was written."""

    code = "damaged"


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` bytes of a file from `offset` on, in the object `digest`. What no chunk covers is a hole."""

    offset: int
    length: int
    digest: str


@dataclass(slots=True)
class Entry:
    path: bytes
    """Below the root, without a leading slash; empty: the root itself."""
    kind: str
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds."""
    size: int = 0
    chunks: tuple[Chunk, ...] = ()
    target: bytes = b""
    """Of `l` what it says, of `h` the path of the file whose other name it is."""
    device: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    inode: int = 0
    """With `ctime` (ns): how a later walk knows the file again."""
    ctime: int = 0

    @property
    def key(self) -> list[bytes]:
        """Sorts as the walk goes."""
        return self.path.split(b"/") if self.path else []

    @property
    def content(self) -> tuple[object, ...]:
        """Equal: the same thing, apart from owner, mode, times and xattrs."""
        return (self.kind, self.size, self.chunks, self.target, self.device)

    def to_line(self) -> bytes:
        row: dict[str, Any] = {
            "p": _text(self.path),
            "t": self.kind,
            "m": self.mode,
            "u": self.uid,
            "g": self.gid,
            "mt": self.mtime,
        }
        optional = {
            "n": self.size,
            "c": [[chunk.offset, chunk.length, chunk.digest] for chunk in self.chunks],
            "l": _text(self.target),
            "r": self.device,
            "x": {name: base64.b64encode(value).decode() for name, value in self.xattrs.items()},
            "i": self.inode,
            "ct": self.ctime,
        }
        row |= {name: value for name, value in optional.items() if value}
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


class Writer:
    """Into an open file, gzipped. `close` gives the digest of what lies in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashed(file)
        self._zip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=5, mtime=0)

    def add(self, entry: Entry) -> None:
        self._zip.write(entry.to_line())

    def close(self) -> str:
        self._zip.close()
        return self._file.digest.hexdigest()


class _Hashed:
    """A file that remembers the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def read(file: BinaryIO, digest: str) -> Iterator[Entry]:
    """The entries, checked. Raises Damaged; the file's bytes must have that digest."""
    found = hashlib.sha256()
    while data := file.read(1 << 20):
        found.update(data)
    if found.hexdigest() != digest:
        raise Damaged("a list of files has changed since it was written", where=f"manifest {digest}")
    file.seek(0)
    return _checked(_entries(file, digest), digest)


def _entries(file: BinaryIO, digest: str) -> Iterator[Entry]:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as lines:
            while line := lines.readline(MOST_LINE):
                yield _entry(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"a list of files cannot be read: {error}", where=f"manifest {digest}") from error


def _checked(entries: Iterable[Entry], digest: str) -> Iterator[Entry]:
    """Refuses what a walk cannot have written."""
    above: list[list[bytes]] = []
    before: list[bytes] | None = None
    for entry in entries:
        key = entry.key
        if before is None:
            wrong = "" if entry.kind == "d" and not key else "it does not begin with the root"
        else:
            while above and key[: len(above[-1])] != above[-1]:
                above.pop()
            wrong = _wrong_place(key, before, above[-1] if above else None)
        wrong = wrong or _wrong_content(entry)
        if wrong:
            raise Damaged(f"{_text(entry.path)!r} in a list of files is refused: {wrong}", where=f"manifest {digest}")
        if entry.kind == "d":
            above.append(key)
        before = key
        yield entry
    if before is None:
        raise Damaged("a list of files is empty", where=f"manifest {digest}")


def _wrong_place(key: list[bytes], before: list[bytes], folder: list[bytes] | None) -> str:
    name = key[-1] if key else b""
    if name in (b"", b".", b"..") or b"\0" in name or len(name) > 255:
        return "this is no name of a file"
    if folder is None or key[:-1] != folder:
        return "what it lies in is no directory"
    return "" if key > before else "it stands in the wrong place, or twice"


def _wrong_content(entry: Entry) -> str:
    if entry.kind not in KINDS:
        return f"it is of no known kind ({entry.kind!r})"
    if b"\0" in entry.target or (entry.kind == "l" and not entry.target):
        return "its target is no path"
    if entry.kind == "h" and any(part in (b"", b".", b"..") for part in entry.target.split(b"/")):
        return "the file whose name it is would lie outside"
    end = 0
    for chunk in entry.chunks:
        if chunk.offset < end or chunk.length <= 0 or not DIGEST.fullmatch(chunk.digest):
            return "its pieces overlap or are not named as they must be"
        end = chunk.offset + chunk.length
    return "" if end <= entry.size else "its pieces are longer than the file"


def merged(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Both in step: each path once, in the order of the walk."""
    left, right = iter(old), iter(new)
    one, two = next(left, None), next(right, None)
    while one or two:
        if two is None or (one is not None and one.key < two.key):
            yield one, None
            one = next(left, None)
        elif one is None or two.key < one.key:
            yield None, two
            two = next(right, None)
        else:
            yield one, two
            one, two = next(left, None), next(right, None)


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        path=_bytes(row["p"]),
        kind=row["t"],
        mode=_whole(row["m"]) & 0o7777,
        uid=_whole(row["u"]),
        gid=_whole(row["g"]),
        mtime=_number(row["mt"]),
        size=_whole(row.get("n", 0)),
        chunks=tuple(Chunk(_whole(a), _whole(b), _string(c)) for a, b, c in row.get("c", ())),
        target=_bytes(row.get("l", "")),
        device=_whole(row.get("r", 0)),
        xattrs={_string(name): base64.b64decode(value) for name, value in row.get("x", {}).items()},
        inode=_whole(row.get("i", 0)),
        ctime=_number(row.get("ct", 0)),
    )


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value


def _whole(value: object) -> int:
    if (number := _number(value)) < 0:
        raise ValueError(f"{number} is below 0")
    return number


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(text: object) -> bytes:
    return _string(text).encode("utf-8", "surrogateescape")
