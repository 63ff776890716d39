"""Write one frozen tree into a backup: its content as objects, its entries as a manifest.

Runs in a program of its own, see `child`: a large tree takes neither the daemon's interpreter lock nor its file
descriptors, and is given up at once when the backup is cancelled. The tree is hostile: every entry is pinned with
O_PATH | O_NOFOLLOW before it is looked at and only used through that descriptor, so no symlink leads out, and no
device or fifo is ever opened.

Asked on stdin: `source`, `target` (the backup's directory), `before` (digest of the manifest of an earlier moment of
the same tree, or empty), `frozen`. A file is not read again where the earlier manifest has it with the same inode,
size and times. In the directory store a frozen file changes its ctime whenever another snapshot shares it, but never
its content: `frozen` leaves the ctime out of the comparison.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from appliance.backup.likeness import Sketch
from appliance.backup.manifest import Chunk, Entry, Writer, read
from appliance.backup.objects import Objects

CHUNK = 16 << 20
"""Files are cut at multiples of it: what is appended to or changed in place shares the rest."""
BLOCK = 1 << 20
"""A block of zeros becomes a hole: some file systems do not tell theirs."""
_ZEROS = bytes(BLOCK)
_SKIPPED_XATTRS = frozenset({"security.selinux"})
"""A label belongs to the place where a file is."""


class Packer:
    def __init__(self, objects: Objects, before: Iterator[Entry], *, frozen: bool) -> None:
        self.at = b""
        self.read = 0
        """Bytes that were read."""
        self.size = 0
        """Bytes of all files, holes not counted."""
        self.entries = 0
        self._objects = objects
        self._before = before
        self._old = next(before, None)
        self._frozen = frozen
        self._first: dict[tuple[int, int], bytes] = {}

    def tree(self, root: int) -> Iterator[Entry]:
        """Every entry below the directory descriptor `root`, in the order of manifests."""
        yield self._described(root, b"", os.fstat(root))
        levels: list[tuple[int, bytes, Iterator[bytes]]] = [(root, b"", _names(root))]
        while levels:
            folder, path, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                if levels:
                    os.close(folder)
                continue
            self.at = path + name
            try:
                pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                continue  # removed since the directory was listed
            try:
                found = os.fstat(pinned)
                yield self._entry(pinned, found)
                if stat.S_ISDIR(found.st_mode):
                    below = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=pinned)
                    levels.append((below, self.at + b"/", _names(below)))
            finally:
                os.close(pinned)

    def _entry(self, pinned: int, found: os.stat_result) -> Entry:
        entry = self._described(pinned, self.at, found)
        if stat.S_ISDIR(found.st_mode):
            return entry
        if found.st_nlink > 1:
            first = self._first.setdefault((found.st_dev, found.st_ino), self.at)
            if first != self.at:
                entry.kind, entry.target, entry.xattrs = "h", first, {}
                return entry
        if stat.S_ISREG(found.st_mode):
            self._fill(entry, pinned)
        elif stat.S_ISLNK(found.st_mode):
            entry.target = os.fsencode(os.readlink("", dir_fd=pinned))
        elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            entry.device = found.st_rdev
        return entry

    def _described(self, descriptor: int, path: bytes, found: os.stat_result) -> Entry:
        self.entries += 1
        return Entry(
            path=path,
            kind=_kind(found.st_mode),
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            mtime=found.st_mtime_ns,
            xattrs=_xattrs(descriptor),
            inode=found.st_ino,
            ctime=found.st_ctime_ns,
        )

    def _fill(self, entry: Entry, pinned: int) -> None:
        size = os.fstat(pinned).st_size
        old = self._earlier(entry)
        if old and self._same(old, entry, size):
            entry.size, entry.chunks = old.size, old.chunks
        else:
            reader = os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                entry.chunks = tuple(self._chunks(reader, size))
            finally:
                os.close(reader)
            entry.size = size
        self.size += sum(chunk.length for chunk in entry.chunks)

    def _earlier(self, entry: Entry) -> Entry | None:
        """The entry of the same path in the manifest before, which is read in step with this walk."""
        key = entry.key
        while self._old is not None and self._old.key < key:
            self._old = next(self._before, None)
        return self._old if self._old is not None and self._old.path == entry.path else None

    def _same(self, old: Entry, entry: Entry, size: int) -> bool:
        same = (old.kind, old.size, old.mtime, old.inode) == ("f", size, entry.mtime, entry.inode)
        return same and (self._frozen or old.ctime == entry.ctime)

    def _chunks(self, reader: int, size: int) -> Iterator[Chunk]:
        """Pieces of data. Ends at `size`: a file that grows meanwhile does not keep us here."""
        start, piece = 0, bytearray()
        for offset, block in self._blocks(reader, size):
            if piece and (offset != start + len(piece) or offset % CHUNK == 0):
                yield Chunk(start, len(piece), self._objects.put(piece))
                piece = bytearray()
            if not piece:
                start = offset
            piece += block
        if piece:
            yield Chunk(start, len(piece), self._objects.put(piece))

    def _blocks(self, reader: int, size: int) -> Iterator[tuple[int, bytes]]:
        for start, end in _extents(reader, size):
            while start < end:
                block = os.pread(reader, min(end, start - start % BLOCK + BLOCK) - start, start)
                if not block:
                    return  # the file has become shorter
                self.read += len(block)
                if block != (_ZEROS if len(block) == BLOCK else bytes(len(block))):
                    yield start, block
                start += len(block)


def _extents(reader: int, size: int) -> Iterator[tuple[int, int]]:
    """Where the file has data."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(reader, offset, os.SEEK_DATA)
            offset = min(size, os.lseek(reader, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the end
            if error.errno != errno.EINVAL:
                raise
            start, offset = offset, size  # this file system does not tell its holes
        yield start, offset


def _names(folder: int) -> Iterator[bytes]:
    return iter(sorted(os.fsencode(name) for name in os.listdir(folder)))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFSOCK: "s", stat.S_IFCHR: "c"}
    return kinds.get(stat.S_IFMT(mode), "b" if stat.S_ISBLK(mode) else "f")


def _xattrs(descriptor: int) -> dict[str, bytes]:
    path = f"/proc/self/fd/{descriptor}"
    try:
        names = os.listxattr(path)
        return {name: os.getxattr(path, name) for name in names if name not in _SKIPPED_XATTRS}
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            return {}
        raise


def work(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answers now and then how far it is; the last answer has the manifest's digest."""
    objects = Objects(Path(asked["target"]))
    sketch = Sketch()
    with ExitStack() as files:
        before: Iterator[Entry] = iter(())
        if known := asked["before"]:
            before = read(files.enter_context(objects.open_manifest(known)), known)
        packer = Packer(objects, before, frozen=asked["frozen"])
        file = files.enter_context(objects.new_manifest())
        writer = Writer(file)
        root = os.open(asked["source"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        files.callback(os.close, root)
        try:
            for entry in packer.tree(root):
                sketch.add(entry)
                writer.add(entry)
                yield {"read": packer.read, "written": objects.written, "entries": packer.entries}
        except OSError as error:
            error.filename = os.fsdecode(packer.at)
            raise
        digest = writer.close()
        objects.put_manifest(file, digest)
    yield {
        "read": packer.read,
        "written": objects.written,
        "entries": packer.entries,
        "size": packer.size,
        "manifest": digest,
        "sketch": sketch.marks(),
    }
