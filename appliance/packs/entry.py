"""One line of a manifest: a file, a directory or a link, with what must be the same for it to be the same one. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from appliance import paths
from appliance.errors import UsageError

RESERVED = b".appliance-"
"""Begins the names of what is half made. A source's own entries of such names are not sent."""
MOST_PATH = 4096
Kind = Literal["file", "directory", "link"]
_LETTERS: dict[Kind, str] = {"file": "f", "directory": "d", "link": "l"}
_KINDS: dict[str, Kind] = {letter: kind for kind, letter in _LETTERS.items()}


class Entry(NamedTuple):
    """Owner and the finer parts of the mode do not travel: a version must be readable in every container."""

    path: bytes
    kind: Kind
    size: int = 0
    """Of a file, in bytes."""
    mtime_ns: int = 0
    """Of a file."""
    executable: bool = False
    target: bytes = b""
    """Where a link points. It is never followed."""

    def to_json(self) -> list[object]:
        target = paths.encode(self.target)
        return [paths.encode(self.path), _LETTERS[self.kind], self.size, self.mtime_ns, int(self.executable), target]


def same(asked: Entry, found: Entry | None) -> bool:
    """What was found is what was asked for. A file system that keeps no more than seconds has cut the time."""
    if found is None:
        return False
    cut = asked.mtime_ns - asked.mtime_ns % 10**9
    return asked == found or (found.mtime_ns == cut and asked._replace(mtime_ns=cut) == found)


def from_json(line: object) -> Entry:
    """Raises UsageError for anything that `to_json` does not make."""
    match line:
        case [str(path), str(letter), int(size), int(mtime_ns), int(executable), str(target)] if letter in _KINDS:
            if not (0 <= size < 1 << 62 and abs(mtime_ns) < 1 << 62):
                raise UsageError("a size or a time that no file has", where=path)
            kind = _KINDS[letter]
            pointed = raw(target)
            if (kind == "link") != bool(pointed) or b"\0" in pointed:
                raise UsageError("a link needs a target, and nothing else has one", where=path)
            return Entry(check_path(raw(path)), kind, size, mtime_ns, bool(executable), pointed)
    raise UsageError("not a line of a manifest", hint='[path, "f" | "d" | "l", size, mtime_ns, executable, target]')


def raw(text: str) -> bytes:
    """The bytes of a path that crossed the API as text. Raises UsageError."""
    try:
        return paths.decode(text).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("not the text of a path", where=repr(text)) from None


def check_path(path: bytes) -> bytes:
    """The path itself. Raises UsageError for one that leads out of a tree, or is written in two ways."""
    parts = path.split(b"/")
    if any(part in (b"", b".", b"..") or len(part) > 255 for part in parts) or b"\0" in path or len(path) > MOST_PATH:
        raise UsageError("not a path inside a tree", where=paths.encode(path), hint="give relative paths without `..`")
    if any(part.startswith(RESERVED) for part in parts):
        raise UsageError(f"names that begin with {RESERVED.decode()} are reserved", where=paths.encode(path))
    return path


def above(path: bytes) -> Iterable[bytes]:
    """The directories a path lies in, the nearest first."""
    while (path := path.rpartition(b"/")[0]) != b"":
        yield path
