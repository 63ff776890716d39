"""A directory whose content is reached by descriptors only: no link in it is followed, no fifo or device opened."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance import paths
from appliance.errors import Conflict, NotFound, StorageError
from appliance.packs.entry import RESERVED, Entry

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_IN_THE_WAY = {errno.ENOTDIR, errno.ELOOP}


class Tree:
    """`close` it. The directory that was asked for last stays open, for the next path is often beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.open(root, FOLDER)
        self._last: tuple[bytes, int] | None = None

    @classmethod
    def below(cls, root: Path, top: bytes) -> tuple[Tree, bytes]:
        """The tree of the directory `top` below `root`, and where to begin in it: of anything else than a directory
        the tree is the directory that holds it, and the beginning its name. Raises NotFound."""
        tree = cls(root)
        try:
            found = tree.look(top) if top else None
            if top and found is None:
                raise NotFound("nothing is there", where=paths.encode(top), hint="links are not followed")
            whole = found is None or stat.S_ISDIR(found.st_mode)
            folder, name = (top, b"") if whole else (top.rpartition(b"/")[0], top.rpartition(b"/")[2])
            here = os.dup(tree.folder(folder))
        except BaseException:
            tree.close()
            raise
        tree.forget()
        os.close(tree._root)
        tree._root = here
        return tree, name

    def close(self) -> None:
        self.forget()
        os.close(self._root)

    def forget(self) -> None:
        """After a directory was removed: what is open may not be what lies at its path."""
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def folder(self, path: bytes, *, make: bool = False) -> int:
        """A descriptor of a directory, valid until the next call. Raises FileNotFoundError, Conflict."""
        if path == b"":
            return self._root
        if self._last is None or self._last[0] != path:
            here = self._walk(path, make=make)
            self.forget()
            self._last = (path, here)
        return self._last[1]

    def at(self, path: bytes, *, make: bool = False) -> tuple[int, bytes]:
        """The open directory that holds `path`, and its name there."""
        parent, _, name = path.rpartition(b"/")
        return self.folder(parent, make=make), name

    def look(self, path: bytes) -> os.stat_result | None:
        """What is at the path, of a link the link itself; None: nothing, or something that is no directory is above."""
        try:
            folder, name = self.at(path)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, Conflict):
            return None

    def open_file(self, path: bytes) -> int:
        """A regular file for reading. Raises FileNotFoundError, Conflict."""
        folder, name = self.at(path)
        try:
            found = os.open(name, FILE, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Conflict("not a regular file any more", where=paths.encode(path)) from None
            raise
        if stat.S_ISREG(os.fstat(found).st_mode):
            return found
        os.close(found)
        raise Conflict("not a regular file any more", where=paths.encode(path))

    def entry(self, path: bytes, found: os.stat_result | None = None) -> Entry | None:
        """What a manifest says of it; None: it is gone, or of a kind that is not sent."""
        found = found or self.look(path)
        if found is None:
            return None
        if stat.S_ISREG(found.st_mode):
            executable = bool(found.st_mode & stat.S_IXUSR)
            return Entry(path, "file", found.st_size, found.st_mtime_ns, executable)
        if stat.S_ISDIR(found.st_mode):
            return Entry(path, "directory")
        if not stat.S_ISLNK(found.st_mode):
            return None
        folder, name = self.at(path)
        try:
            return Entry(path, "link", target=os.readlink(name, dir_fd=folder))
        except OSError:
            return None  # it was replaced since it was looked at

    def remove(self, path: bytes) -> None:
        """Whatever it is, a directory with all that is in it. Gone already counts as done."""
        folder, name = self.at(path)
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            found = self.look(path)
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise error from None
            folder, name = self.at(path)
            shutil.rmtree(name, dir_fd=folder)
            self.forget()

    def remove_if_there(self, path: bytes) -> None:
        """As `remove`, where the directory it lies in may be missing as well."""
        with contextlib.suppress(FileNotFoundError):
            self.remove(path)

    def _walk(self, path: bytes, *, make: bool) -> int:
        here = os.dup(self._root)
        done: list[bytes] = []
        for part in path.split(b"/"):
            done.append(part)
            try:
                below = self._enter(here, part, make=make)
            except OSError as error:
                if error.errno not in _IN_THE_WAY:
                    raise
                where = paths.encode(b"/".join(done))
                raise Conflict(
                    "a directory is needed, and something else is there", where=where, hint="move it away"
                ) from None
            finally:
                os.close(here)
            here = below
        return here

    def _enter(self, here: int, part: bytes, *, make: bool) -> int:
        try:
            return os.open(part, FOLDER, dir_fd=here)
        except FileNotFoundError:
            if not make:
                raise
        os.mkdir(part, 0o777, dir_fd=here)
        return os.open(part, FOLDER, dir_fd=here)


def walk(tree: Tree, top: bytes = b"") -> Iterator[Entry | bytes]:
    """All below `top`, each directory before what is in it, names in the order of their bytes.

    A plain path is something that is not sent: a socket, a fifo, a device, a reserved name. What goes away meanwhile
    is left out. Raises StorageError for a directory that cannot be read.
    """
    waiting = [top]
    while waiting:
        path = waiting.pop()
        if path != top or top != b"":
            found = tree.look(path)
            entry = tree.entry(path, found) if found else None
            if entry is None or path.rpartition(b"/")[2].startswith(RESERVED):
                if found is not None:
                    yield path
                continue
            yield entry
            if entry.kind != "directory":
                continue
        lead = path + b"/" if path else b""
        waiting += [lead + name for name in sorted(_names(tree, path), reverse=True)]


def _names(tree: Tree, path: bytes) -> list[bytes]:
    try:
        here = tree.folder(path)
        return [os.fsencode(name) for name in os.listdir(here)]
    except (FileNotFoundError, Conflict):
        return []
    except OSError as error:
        raise StorageError(
            f"cannot be read: {error.strerror}", where=paths.encode(path), hint="look at its permissions"
        ) from None
