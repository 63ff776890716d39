"""Make a directory hold exactly what a manifest says, changing only what differs from the manifest it was made of.

What does not differ is not touched: on ZFS it goes on sharing its blocks with the moments before. The directory is out
of the reach of others; what is in it is hostile all the same, so everything is reached from the open parent directory
by one name that is not followed. What a manifest may say is checked where it is read (`manifest.read`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from appliance.backup.manifest import Chunk, Entry, merged
from appliance.errors import NoSpace, StorageError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {"p": stat.S_IFIFO, "s": stat.S_IFSOCK, "c": stat.S_IFCHR, "b": stat.S_IFBLK}

CHECK = "`appliance backup TARGET --verify` reads all of the backup"


@dataclass(frozen=True, slots=True)
class Level:
    """An open directory on the way down."""

    descriptor: int
    entry: Entry


class Unpacker:
    """`read` gives the bytes of a chunk, `tell` is told how many bytes were written."""

    def __init__(self, root: int, read: Callable[[Chunk], bytes], tell: Callable[[int], None]) -> None:
        self.at = b""
        self._root = root
        self._read = read
        self._tell = tell
        self._levels: list[Level] = []
        self._replaced: set[bytes] = set()
        """Paths at which another file lies than before: other names of the old one do not name it."""
        self._removed: bytes | None = None

    def apply(self, old: Iterable[Entry], new: Iterable[Entry]) -> None:
        """`old` describes the directory as it is, but for its own metadata; nothing: it is empty."""
        try:
            for before, after in merged(old, new):
                entry = after or before
                assert entry is not None, "a pair has at least one"
                self.at = entry.path
                if not entry.path:
                    if after is not None:
                        self._levels.append(Level(os.open(".", _DIRECTORY, dir_fd=self._root), after))
                    continue
                self._leave(entry.path)
                self._change(before, after)
            self._leave(None)
        except OSError as error:
            raise _words(error, self.at) from error
        except (ValueError, OverflowError) as error:
            raise StorageError(f"cannot be restored: {error}", where=_shown(self.at), hint=CHECK) from error
        finally:
            for level in self._levels:
                os.close(level.descriptor)
            self._levels.clear()

    def _change(self, before: Entry | None, after: Entry | None) -> None:
        if before is not None and self._removed is not None and before.path.startswith(self._removed):
            before = None  # it went with its directory
        if after is None:
            if before is not None:
                self._remove(before)
            return
        if before is None:
            self._make(after)
        elif after.kind == "d" and before.kind == "d":
            self._enter(after)
        elif before.content == after.content and not (after.kind == "h" and after.target in self._replaced):
            if after.kind != "h" and _about(before) != _about(after):
                self._describe(after)
        elif before.kind == after.kind == "f" and self._rewrite(before, after):
            self._describe(after)
        else:
            self._remove(before)
            self._make(after)

    # single entries

    def _make(self, entry: Entry) -> None:
        folder, name = self._levels[-1].descriptor, _name(entry)
        if entry.kind == "d":
            os.mkdir(name, 0o700, dir_fd=folder)
            self._enter(entry)
            return
        if entry.kind == "h":
            self._link(entry, folder, name)
            return
        if entry.kind == "f":
            self._write(entry, folder, name)
        elif entry.kind == "l":
            os.symlink(entry.target, name, dir_fd=folder)
        else:
            os.mknod(name, _NODES[entry.kind] | 0o600, entry.device, dir_fd=folder)
        self._describe(entry)

    def _remove(self, entry: Entry) -> None:
        folder, name = self._levels[-1].descriptor, _name(entry)
        self._replaced.add(entry.path)
        if entry.kind == "d":
            self._removed = entry.path + b"/"
            remove_tree(folder, name)
        else:
            os.unlink(name, dir_fd=folder)

    def _write(self, entry: Entry, folder: int, name: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=folder)
        try:
            for chunk in entry.chunks:
                self._put(writer, chunk)
            os.ftruncate(writer, entry.size)
        finally:
            os.close(writer)

    def _rewrite(self, before: Entry, after: Entry) -> bool:
        """Only the pieces that differ. False: nothing was done, the file is to be made anew."""
        if not _covers(before, after):
            return False
        folder, name = self._levels[-1].descriptor, _name(after)
        try:
            writer = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except PermissionError:
            return False
        try:
            if os.fstat(writer).st_nlink != 1:
                return False
            same = set(before.chunks)
            for chunk in after.chunks:
                if chunk not in same:
                    self._put(writer, chunk)
            os.ftruncate(writer, after.size)
        finally:
            os.close(writer)
        return True

    def _put(self, writer: int, chunk: Chunk) -> None:
        data = memoryview(self._read(chunk))
        done = 0
        while done < len(data):
            done += os.pwrite(writer, data[done:], chunk.offset + done)
        self._tell(done)

    def _link(self, entry: Entry, folder: int, name: bytes) -> None:
        *way, last = entry.target.split(b"/")
        at = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            for part in way:
                below = os.open(part, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            os.link(last, name, src_dir_fd=at, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(at)
        self._replaced.add(entry.path)

    # directories, whose times are set when nothing in them changes any more

    def _enter(self, entry: Entry) -> None:
        descriptor = os.open(_name(entry), _DIRECTORY, dir_fd=self._levels[-1].descriptor)
        self._levels.append(Level(descriptor, entry))
        if os.geteuid() != 0:
            os.fchmod(descriptor, 0o700)  # to change what is in it; root may anyway

    def _leave(self, path: bytes | None) -> None:
        """Finish all directories that `path` is not in; None: all."""
        while self._levels:
            level = self._levels[-1]
            inside = not level.entry.path or (path is not None and path.startswith(level.entry.path + b"/"))
            if path is not None and inside:
                return
            _set(level.descriptor, b".", level.entry)
            os.close(level.descriptor)
            self._levels.pop()

    def _describe(self, entry: Entry) -> None:
        _set(self._levels[-1].descriptor, _name(entry), entry)


def remove_tree(folder: int, name: bytes) -> None:
    """The directory `name` in the open directory `folder`. Follows no link."""
    levels = [(folder, name, *_opened(folder, name))]
    while levels:
        parent, own, descriptor, names = levels[-1]
        for inner in names:
            if stat.S_ISDIR(os.stat(inner, dir_fd=descriptor, follow_symlinks=False).st_mode):
                levels.append((descriptor, inner, *_opened(descriptor, inner)))
                break
            os.unlink(inner, dir_fd=descriptor)
        else:
            os.close(descriptor)
            levels.pop()
            os.rmdir(own, dir_fd=parent)


def _opened(folder: int, name: bytes) -> tuple[int, Iterator[bytes]]:
    descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
    if os.geteuid() != 0:
        os.fchmod(descriptor, 0o700)
    return descriptor, iter([os.fsencode(found) for found in os.listdir(descriptor)])


def _name(entry: Entry) -> bytes:
    return entry.path.rpartition(b"/")[2]


def _about(entry: Entry) -> tuple[object, ...]:
    return (entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs)


def _covers(before: Entry, after: Entry) -> bool:
    """Writing the pieces of `after` over `before` leaves nothing of `before` where a hole must be."""
    lengths = {chunk.offset: chunk.length for chunk in after.chunks}
    for chunk in before.chunks:
        if chunk.offset >= after.size:
            continue
        length = lengths.get(chunk.offset, 0)
        if length < chunk.length and chunk.offset + length != after.size:
            return False
    return True


def _set(folder: int, name: bytes, entry: Entry) -> None:
    """Owner first: it clears the set-uid bits and capabilities that follow. Times last."""
    mine = os.stat(name, dir_fd=folder, follow_symlinks=False)
    given = (mine.st_uid, mine.st_gid) != (entry.uid, entry.gid)
    if given:
        os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
    _set_xattrs(b"/proc/self/fd/%d/%s" % (folder, name), entry.xattrs)
    if entry.kind != "l" and (given or stat.S_IMODE(mine.st_mode) != entry.mode):
        os.chmod(name, entry.mode, dir_fd=folder)
    if mine.st_mtime_ns != entry.mtime:
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=folder, follow_symlinks=False)


def _set_xattrs(path: bytes, wanted: dict[str, bytes]) -> None:
    try:
        present = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        present = []
    for name in present:
        if name not in wanted and name != "security.selinux":
            os.removexattr(path, name, follow_symlinks=False)
    for name, value in wanted.items():
        if name not in present or os.getxattr(path, name, follow_symlinks=False) != value:
            os.setxattr(path, name, value, follow_symlinks=False)


def _words(error: OSError, at: bytes) -> StorageError:
    path = _shown(at)
    if error.errno == errno.EPERM and os.geteuid() != 0:
        return StorageError("only root may give files away", where=path, hint="restore as root")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("the disk is full", where=path, hint="free some space, then repeat the command: it goes on")
    return StorageError(f"cannot be restored: {error.strerror}", where=path, hint="look at the disk: `dmesg`")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
