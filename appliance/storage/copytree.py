"""Copy a tree and keep everything: hard links, symlinks, holes, xattrs, owners, times, fifos, sockets, any name.

A program of its own (`python copytree.py SOURCE TARGET PARENT_PID [--into] [--sync]`, standard library only): a large
copy takes neither the daemon's interpreter lock nor its file descriptors, and it ends when the daemon does.

The tree is hostile and may change while it is read. Every entry is pinned with O_PATH | O_NOFOLLOW before it is
looked at and is only used through that descriptor, so no symlink, however it is swapped in, leads out of the source,
and no device or fifo is ever opened. TARGET must be out of the reach of others.

Exit code 0, or 1 with one line of JSON on stderr: errno, message, path.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterator
from typing import NamedTuple

FICLONE = 0x40049409
PR_SET_PDEATHSIG = 1
CHUNK = 1 << 20
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}
_CANNOT_RANGE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


class Level(NamedTuple):
    """One open directory on the way down."""

    source: int
    target: int
    path: str
    names: Iterator[str]
    found: os.stat_result


class Copier:
    def __init__(self, target: int) -> None:
        self.at = ""
        self._root = target
        self._first: dict[tuple[int, int], str] = {}
        self._clones = self._ranges = True

    def tree(self, source: int, target: int) -> None:
        """Everything below `source` into `target`; both are directory descriptors and stay open."""
        levels = [Level(source, target, "", iter(os.listdir(source)), os.fstat(source))]
        while levels:
            level = levels[-1]
            name = next(level.names, None)
            if name is not None:
                if (below := self.entry(level, name)) is not None:
                    levels.append(below)
                continue
            levels.pop()
            if levels:
                self._finish(level.source, level.target, ".", level.found)
                os.close(level.source)
                os.close(level.target)

    def entry(self, level: Level, name: str) -> Level | None:
        """One entry; for a directory the level to go on with."""
        self.at = f"{level.path}{name}"
        try:
            pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=level.source)
        except FileNotFoundError:
            return None  # removed since the directory was listed
        try:
            found = os.fstat(pinned)
            if stat.S_ISDIR(found.st_mode):
                return self._directory(pinned, level, name, found)
            if found.st_nlink > 1 and self._link(level.target, name, found):
                return None
            self._leaf(pinned, level.target, name, found)
            self._finish(pinned, level.target, name, found)
            return None
        finally:
            os.close(pinned)

    def top(self, source: int, target: int) -> None:
        """Give `target` the owner, mode, xattrs and times of `source`."""
        self._finish(source, target, ".", os.fstat(source))

    def _directory(self, pinned: int, level: Level, name: str, found: os.stat_result) -> Level:
        os.mkdir(name, 0o700, dir_fd=level.target)
        source = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=pinned)
        target = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=level.target)
        return Level(source, target, f"{self.at}/", iter(os.listdir(source)), found)

    def _link(self, target: int, name: str, found: os.stat_result) -> bool:
        key = (found.st_dev, found.st_ino)
        first = self._first.setdefault(key, self.at)
        if first == self.at:
            return False
        try:
            os.link(first, name, src_dir_fd=self._root, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._first[key] = self.at
            return False
        return True

    def _leaf(self, pinned: int, target: int, name: str, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            self._file(pinned, target, name, found.st_size)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink("", dir_fd=pinned), name, dir_fd=target)
        else:
            os.mknod(name, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=target)

    def _file(self, pinned: int, target: int, name: str, size: int) -> None:
        reader = os.open(f"/proc/self/fd/{pinned}", os.O_RDONLY)
        try:
            writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=target)
            try:
                if not self._clone(reader, writer):
                    self._content(reader, writer, size)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

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

    def _piece(self, reader: int, writer: int, start: int, count: int) -> int:
        if self._ranges:
            try:
                return os.copy_file_range(reader, writer, count, start, start)
            except OSError as error:
                if error.errno not in _CANNOT_RANGE:
                    raise
                self._ranges = False
        return os.pwrite(writer, os.pread(reader, min(count, CHUNK), start), start)

    def _finish(self, source: int, target: int, name: str, found: os.stat_result) -> None:
        """Owner first: it clears the set-uid bits and capabilities that follow. Times last."""
        mine = os.stat(name, dir_fd=target, follow_symlinks=False)
        if (mine.st_uid, mine.st_gid) != (found.st_uid, found.st_gid):
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        self._xattrs(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}/{name}")
        if not stat.S_ISLNK(found.st_mode):
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _xattrs(self, source: str, target: str) -> None:
        try:
            names = os.listxattr(source)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return
            raise
        for name in names:
            if name == "security.selinux":
                continue  # a label belongs to the place where a file is
            os.setxattr(target, name, os.getxattr(source, name), follow_symlinks=False)


def copy(source_path: str, target_path: str, *, into: bool, sync: bool) -> Copier:
    target = os.open(target_path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    copier = Copier(target)
    try:
        source = os.open(source_path, os.O_PATH)
        found = os.fstat(source)
        if stat.S_ISDIR(found.st_mode):
            copier.tree(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=source), target)
            if not into:
                copier.top(source, target)
        else:
            parent, name = os.path.split(os.path.realpath(source_path))
            folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
            copier.entry(Level(folder, target, "", iter(()), found), name)
        if sync and ctypes.CDLL(None, use_errno=True).syncfs(target) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    except OSError as error:
        text = os.strerror(error.errno) if error.errno else str(error)
        path = os.fsencode(copier.at).decode("utf-8", "backslashreplace")
        print(json.dumps({"errno": error.errno, "message": text, "path": path}), file=sys.stderr)
        raise SystemExit(1) from None
    return copier


def main(argv: list[str]) -> None:
    source, target, parent, *options = argv
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        raise SystemExit("the daemon that asked for this copy is gone")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0)
    copy(source, target, into="--into" in options, sync="--sync" in options)


if __name__ == "__main__":
    main(sys.argv[1:])
