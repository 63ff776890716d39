"""Copy a tree and keep everything: hard links, symlinks, holes, xattrs, owners, times, fifos, sockets, any name.

A program of its own (see `child`; `SOURCE TARGET [OPTIONS]`): a large copy takes neither the daemon's interpreter lock
nor its file descriptors.

    --into              keep the owner, mode and times of TARGET itself
    --entry NAME NEW    only the entry NAME of the directory SOURCE, as NEW in TARGET
    --sync              end with everything on the disk
    --note FILE         make a note there; with --sync, write out everything that is dirty before the copy as well
    --seed              with --note: SOURCE is the frozen side, TARGET becomes a live tree
    --previous DIR NOTE hard links into the frozen tree DIR for whatever has not changed since its NOTE was made

The tree is hostile and may change while it is read. Every entry is pinned with O_PATH | O_NOFOLLOW before it is
looked at and is only used through that descriptor, so no symlink, however it is swapped in, leads out of the source,
and no device or fifo is ever opened. TARGET may be in the reach of others as well: what is made there is described
through its own descriptor, and no link in it is followed.

Exit code 0, or 1 with one line of JSON on stderr: errno, message, path.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from appliance.storage.trees import child, notes
from appliance.storage.trees.notes import FOLDER, Previous, pin_path, xattrs_of

FICLONE = 0x40049409
CHUNK = 1 << 20
PATIENCE_S = 60.0
"""Of a whole copy, with files that others hold leases on."""
_PAUSE_S = 0.02
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_CANNOT_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class Level(NamedTuple):
    """One open directory on the way down."""

    source: int
    target: int
    frozen: int
    """The same directory in the snapshot before; -1: there is none."""
    path: str
    names: Iterator[str]
    found: os.stat_result


class Copier:
    def __init__(self, target: int, previous: Previous | None = None) -> None:
        self.at = ""
        self.bytes = 0
        """Of content, as far as it was copied."""
        self.directories: list[tuple[int, int]] = []
        """Inodes of each directory: in the source, in the target."""
        self._root = target
        self._previous = previous
        self._first: dict[tuple[int, int, int, int], str] = {}
        self._last_folder: tuple[str, int] = ("", target)
        self._clones = self._ranges = True
        self._patience_s = PATIENCE_S

    def tree(self, source: int, target: int) -> None:
        """Everything below `source` into `target`; both are directory descriptors and stay open."""
        found = os.fstat(source)
        frozen = self._previous.top(found) if self._previous else -1
        self.directories.append((found.st_ino, os.fstat(target).st_ino))
        self._walk(Level(source, target, frozen, "", iter(os.listdir(source)), found))
        if frozen >= 0:
            os.close(frozen)

    def one(self, source: int, target: int, name: str, new: str) -> None:
        """The entry `name` of the directory `source`, with all that is in it, as `new` in `target`."""
        level = Level(source, target, -1, "", iter(()), os.fstat(source))
        if (below := self.entry(level, name, new)) is not None:
            self._walk(below)
            self._leave(below)

    def entry(self, level: Level, name: str, new: str = "") -> Level | None:
        """One entry; for a directory the level to go on with."""
        new = new or name
        self.at = f"{level.path}{new}"
        try:
            pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=level.source)
        except FileNotFoundError:
            return None  # removed since the directory was listed
        try:
            found = os.fstat(pinned)
            if stat.S_ISDIR(found.st_mode):
                return self._directory(pinned, level, new, found)
            if found.st_nlink > 1 and self._again(level.target, new, found):
                return None
            if self._previous and self._previous.link(level.frozen, new, level.target, pinned, found):
                return None
            self._leaf(pinned, level.target, new, found)
            return None
        finally:
            os.close(pinned)

    def top(self, source: int, target: int) -> None:
        """Give `target` the owner, mode, xattrs and times of `source`."""
        _describe(target, os.fstat(source), xattrs_of(source))

    def close(self) -> None:
        if self._last_folder[1] != self._root:
            os.close(self._last_folder[1])

    def _walk(self, first: Level) -> None:
        levels = [first]
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is not None:
                if (below := self.entry(level, name)) is not None:
                    levels.append(below)
                continue
            levels.pop()
            if levels:
                self._leave(level)

    def _leave(self, level: Level) -> None:
        _describe(level.target, level.found, xattrs_of(level.source))
        for descriptor in (level.source, level.target, level.frozen):
            if descriptor >= 0:
                os.close(descriptor)

    def _directory(self, pinned: int, level: Level, name: str, found: os.stat_result) -> Level:
        os.mkdir(name, 0o700, dir_fd=level.target)
        source = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=pinned)
        target = os.open(name, FOLDER, dir_fd=level.target)
        frozen = self._previous.below(level.frozen, name, found) if self._previous else -1
        self.directories.append((found.st_ino, os.fstat(target).st_ino))
        return Level(source, target, frozen, f"{self.at}/", iter(os.listdir(source)), found)

    def _again(self, target: int, name: str, found: os.stat_result) -> bool:
        """Another name of a file that is there already. An inode that is used anew meanwhile is another file."""
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        first = self._first.setdefault(key, self.at)
        if first == self.at:
            return False
        path, _, leaf = first.rpartition("/")
        try:
            os.link(leaf, name, src_dir_fd=self._folder(path), dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._first[key] = self.at
            return False
        return True

    def _folder(self, path: str) -> int:
        """A directory of the target, with no link on the way. The last one stays open for its neighbours."""
        known, descriptor = self._last_folder
        if path == known:
            return descriptor
        if descriptor != self._root:
            os.close(descriptor)
        self._last_folder = ("", self._root)
        here = os.dup(self._root)
        for part in path.split("/") if path else ():
            try:
                below = os.open(part, FOLDER, dir_fd=here)
            finally:
                os.close(here)
            here = below
        self._last_folder = (path, here)
        return here

    def _leaf(self, pinned: int, target: int, name: str, found: os.stat_result) -> None:
        xattrs = xattrs_of(pinned)
        if stat.S_ISREG(found.st_mode):
            self._file(pinned, target, name, found, xattrs)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink("", dir_fd=pinned), name, dir_fd=target)
            if found.st_uid != os.geteuid() or found.st_gid != os.getegid():
                os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
            for key, value in xattrs.items():
                os.setxattr(pin_path(target, name), key, value, follow_symlinks=False)
            os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        else:
            os.mknod(name, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=target)
            self._special(target, name, found, xattrs)

    def _special(self, target: int, name: str, found: os.stat_result, xattrs: dict[str, bytes]) -> None:
        """A fifo, socket or device cannot be opened to describe it; it is pinned, and reached through the pin."""
        made = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=target)
        try:
            if stat.S_IFMT(os.fstat(made).st_mode) != stat.S_IFMT(found.st_mode):
                raise OSError(errno.EBUSY, "somebody else has changed the copy")
            _describe(pin_path(made), found, xattrs, os.fstat(made))
        finally:
            os.close(made)

    def _file(self, pinned: int, target: int, name: str, found: os.stat_result, xattrs: dict[str, bytes]) -> None:
        reader = self._open(pinned)
        try:
            writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
            try:
                if self._clone(reader, writer):
                    self.bytes += min(found.st_size, found.st_blocks * 512)
                else:
                    self._content(reader, writer, found.st_size)
                _describe(writer, found, xattrs)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _open(self, pinned: int) -> int:
        """Who holds a lease on a file can keep an opener waiting for 45 s, and do so again with each file."""
        while True:
            try:
                return os.open(pin_path(pinned), os.O_RDONLY | os.O_NONBLOCK)
            except BlockingIOError:
                if self._patience_s <= 0:
                    raise
            time.sleep(_PAUSE_S)
            self._patience_s -= _PAUSE_S

    def _clone(self, reader: int, writer: int) -> bool:
        if not self._clones:
            return False
        try:
            fcntl.ioctl(writer, FICLONE, reader)
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            self._clones = False
            return False
        return True

    def _content(self, reader: int, writer: int, size: int) -> None:
        """Data only, holes stay holes. Ends at `size`: a file that grows meanwhile does not keep us here."""
        offset = 0
        while offset < size:
            try:
                start = os.lseek(reader, offset, os.SEEK_DATA)
                offset = min(size, os.lseek(reader, start, os.SEEK_HOLE))
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break  # nothing but a hole up to the end
            self._range(reader, writer, start, offset)
        os.ftruncate(writer, size)

    def _range(self, reader: int, writer: int, start: int, end: int) -> None:
        while start < end:
            copied = self._piece(reader, writer, start, end - start)
            if copied == 0:
                return  # the file has become shorter
            start += copied
            self.bytes += copied

    def _piece(self, reader: int, writer: int, start: int, count: int) -> int:
        if self._ranges:
            try:
                return os.copy_file_range(reader, writer, count, start, start)
            except OSError as error:
                if error.errno not in _CANNOT_RANGE:
                    raise
                self._ranges = False
        return os.pwrite(writer, os.pread(reader, min(count, CHUNK), start), start)


def _describe(
    made: int | str, found: os.stat_result, xattrs: dict[str, bytes], mine: os.stat_result | None = None
) -> None:
    """Owner first: it clears the set-uid bits and capabilities that follow. Times last."""
    mine = mine or os.stat(made)
    if (mine.st_uid, mine.st_gid) != (found.st_uid, found.st_gid):
        os.chown(made, found.st_uid, found.st_gid)
    for name, value in xattrs.items():
        os.setxattr(made, name, value)
    os.chmod(made, stat.S_IMODE(found.st_mode))
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))


class Options(NamedTuple):
    into: bool = False
    sync: bool = False
    seed: bool = False
    note: str = ""
    entry: tuple[str, str] | None = None
    previous: tuple[str, str] | None = None


def parse(given: Sequence[str]) -> Options:
    """In order, since the name of an entry may look like an option."""
    options, words = Options(), iter(given)
    for word in words:
        if word == "--into":
            options = options._replace(into=True)
        elif word == "--sync":
            options = options._replace(sync=True)
        elif word == "--seed":
            options = options._replace(seed=True)
        elif word == "--note":
            options = options._replace(note=next(words))
        elif word == "--entry":
            options = options._replace(entry=(next(words), next(words)))
        elif word == "--previous":
            options = options._replace(previous=(next(words), next(words)))
        else:
            raise SystemExit(f"unknown option {word!r}")
    return options


def copy(source_path: str, target_path: str, options: Options) -> None:
    """Raises SystemExit after the line of JSON."""
    source = target = -1
    copier = Copier(target)
    try:
        source = os.open(source_path, os.O_PATH)
        target = os.open(target_path, FOLDER)
        copier = Copier(target, Previous(*options.previous) if options.previous else None)
        _run(copier, source, source_path, target, options)
    except OSError as error:
        text = os.strerror(error.errno) if error.errno else str(error)
        at = copier.at
        if options.entry:
            at = options.entry[0] + at.removeprefix(options.entry[1])
        path = os.fsencode(at).decode("utf-8", "backslashreplace")
        print(json.dumps({"errno": error.errno, "message": text, "path": path}), file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        copier.close()
        for descriptor in (source, target):
            if descriptor >= 0:
                os.close(descriptor)


def _run(copier: Copier, source: int, source_path: str, target: int, options: Options) -> None:
    began = notes.tick(options.note) if options.note and not options.seed else 0
    if began and options.sync:
        _sync(source)
    if options.entry:
        copier.one(source, target, *options.entry)
    elif stat.S_ISDIR(os.fstat(source).st_mode):
        _whole(copier, source, target, into=options.into)
    else:
        parent, name = os.path.split(os.path.realpath(source_path))
        folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            copier.one(folder, target, name, name)
        finally:
            os.close(folder)
    if options.note:
        _note(options.note, copier, began)
    if options.sync:
        _sync(target)


def _whole(copier: Copier, source: int, target: int, *, into: bool) -> None:
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=source)
    try:
        copier.tree(listed, target)
    finally:
        os.close(listed)
    if not into:
        copier.top(source, target)


def _note(path: str, copier: Copier, began: int) -> None:
    """`began` 0: a seed. Nobody else has its tree yet, so there is no margin."""
    if began:
        pairs = [(frozen, live) for live, frozen in copier.directories]
        notes.write_note(path, began, began - notes.MARGIN_NS, copier.bytes, pairs)
    else:
        began = notes.tick(path)
        notes.write_note(path, began, began, copier.bytes, copier.directories)


def _sync(descriptor: int) -> None:
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(opened) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(opened)


def main(argv: list[str]) -> None:
    source, target, *words = child.begin(argv)
    os.umask(0)
    copy(source, target, parse(words))
