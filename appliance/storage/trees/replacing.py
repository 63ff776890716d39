"""Putting a file, a link or a directory of one tree into its place in another one that is in use, in one step.

What is to come is copied beside the rest of the volume, under a hidden name at its top, and then trades places with
what is there. Both ends of that rename are descriptors of directories, so a parent that somebody swaps for a link
meanwhile leads nowhere. Missing parents come along: the first of them is what is put into place.

A file system that cannot exchange two names gets two renames, after a link that says where the old one belongs:

    .appliance-0123456789abcdef       what is to come, or what was replaced and has not been removed yet
    .appliance-0123456789abcdef-was   what is being replaced
    .appliance-0123456789abcdef-for   a link whose text is the place of -was

A kill leaves the one or the other in place, or none and `-was`; `tidy` puts that back, and removes the rest.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, StorageError, UsageError
from appliance.storage.trees.copying import FULL, copy_entry
from appliance.storage.trees.ctime import any_since
from appliance.storage.trees.notes import tick
from appliance.storage.trees.pinning import FOLDER, descend, folder, missing, parts_of
from appliance.storage.trees.removing import discard

log = logging.getLogger(__name__)

_TRIES = 20
"""Of the rename, where somebody makes and removes the target all the time."""
_NOREPLACE, _EXCHANGE = 1, 2
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_HIDDEN = re.compile(r"\.appliance-[0-9a-f]{16}(-was|-for)?")


def replace(root: Path, path: str, source_root: Path, source_path: str, *, durable: bool = True) -> None:
    """Make `path` below `root` what `source_path` below `source_root` is; what was there is gone.

    Missing parents are made. Raises UsageError for a path that leads out or is the whole tree, NotFound where the
    source is missing, Conflict where a file or link is in the way of a parent, NoSpace and StorageError. After an
    error everything is as before.
    """
    replacement = Replacement(root, path, durable=durable)
    try:
        replacement.prepare(source_root, source_path)
        replacement.put()
    finally:
        replacement.remove()


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, and what was at the place then."""

    moment_ns: int
    there: tuple[int, int, int] | None


class Replacement:
    """`replace` step by step, for whoever looks at what is replaced in between. `remove` ends it, done or not.

    Raises as `replace`.
    """

    def __init__(self, root: Path, path: str, *, durable: bool = True) -> None:
        parts = parts_of(path)
        if not parts:
            raise UsageError("the whole tree is not replaced in place", hint="roll back instead, or name another place")
        if _HIDDEN.fullmatch(parts[0]):
            raise UsageError(f"{parts[0]!r} is the appliance's own name", hint="use another place")
        self.name = f".appliance-{secrets.token_hex(8)}"
        self._root, self._path, self._durable = root, path, durable
        with self._in_words():
            self._top = os.open(root, FOLDER)
            try:
                self._parent, self._rest = _parents(root, parts)
            except BaseException:
                os.close(self._top)
                raise
        self._place = "/".join(parts[: len(parts) - len(self._rest) + 1])
        self._put = False

    def prepare(self, source_root: Path, source_path: str) -> None:
        """Copy what is to come; nothing is replaced yet."""
        wanted = parts_of(source_path)
        leaf = wanted[-1] if wanted else "."
        with folder(source_root, wanted[:-1], source_path) as source:
            _check_source(source, leaf, source_path)
            with self._in_words():
                _prepare(source, leaf, self._top, self.name, self._rest, self._parent, durable=self._durable)

    def renew(self) -> None:
        """A file that is to come is as new as now: who has the old one open sees by its time that it is another."""
        if len(self._rest) > 1:
            return  # nothing is there that could be open
        with self._in_words(), suppress(FileNotFoundError):  # `put` tells
            if stat.S_ISREG(os.stat(self.name, dir_fd=self._top, follow_symlinks=False).st_mode):
                os.utime(self.name, dir_fd=self._top, follow_symlinks=False)

    def put(self) -> None:
        """The one step. What was there is kept under a hidden name until `remove`."""
        with self._in_words():
            _put(self._top, self.name, self._parent, self._rest[0], self._place)
            self._put = True
            if self._durable:
                os.fsync(self._parent)

    def mark(self) -> Mark:
        """From here on `written` tells what is written. It leaves nothing in the tree."""
        clock = f"/proc/self/fd/{self._top}/.appliance-{secrets.token_hex(8)}"
        with self._in_words():
            try:
                moment = tick(clock)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(clock)
            return Mark(moment, _identity(self._parent, self._rest[0]))

    def written(self, mark: Mark) -> bool:
        """What is at the place, or was until `put`, has something that came after the mark. In doubt True.

        A directory by the ctime of all that is below it; the rename itself changes the ctime of the top.
        """
        for at, name in self._replaced():
            found = _identity(at, name)
            if found is None:
                continue
            if found[0] != (mark.there or (0,))[0]:
                return True
            if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                return any_since(Path(f"/proc/{os.getpid()}/fd/{at}/{name}"), mark.moment_ns, below=True)
            return found != mark.there
        return False

    def remove(self) -> None:
        """What was replaced, or was prepared and is not wanted any more."""
        try:
            _remove(self._root, self.name, f"{self.name}-was", f"{self.name}-for")
        finally:
            self.close()

    def close(self) -> None:
        """Leave what was replaced under its hidden name; the next `tidy` removes it."""
        os.close(self._parent)
        os.close(self._top)

    def _replaced(self) -> list[tuple[int, str]]:
        if not self._put:
            return [(self._parent, self._rest[0])]
        return [(self._top, f"{self.name}-was"), (self._top, self.name)]

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _words(error, self._root, self._path) from error


def tidy(root: Path) -> None:
    """Finish or take back what a kill has left of `replace`; nothing else may be replacing in this tree."""
    with folder(root, [], "") as top:
        left = sorted(name for name in os.listdir(top) if _HIDDEN.fullmatch(name))
        for name in [name for name in left if name.endswith("-was")]:
            if not _put_back(root, top, name):
                left = [other for other in left if other not in (name, f"{name.removesuffix('-was')}-for")]
    for name in sorted(left, key=lambda name: name.endswith("-for")):
        _remove(root, name)


def _check_source(folder: int, leaf: str, path: str) -> None:
    try:
        found = os.stat(leaf, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise missing(path, error) from None
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise UsageError(f"{path!r} is a device", hint="only files, links and directories are put into place")


def _parents(root: Path, parts: Sequence[str]) -> tuple[int, list[str]]:
    """The deepest parent that is there, and the names from there on: one, where no parent is missing."""
    here = os.open(root, FOLDER)
    for depth, part in enumerate(parts[:-1]):
        try:
            below = os.open(part, FOLDER, dir_fd=here)
        except FileNotFoundError:
            return here, list(parts[depth:])
        except OSError as error:
            os.close(here)
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            raise Conflict(
                f"{'/'.join(parts[: depth + 1])!r} is not a directory, so nothing can be put into it",
                hint="move it away first, or name another place",
            ) from None
        os.close(here)
        here = below
    return here, [parts[-1]]


def _prepare(source: int, leaf: str, top: int, name: str, rest: Sequence[str], parent: int, *, durable: bool) -> None:
    """Make `name` at the top: the copy itself, or the missing parents with the copy in them."""
    if len(rest) == 1:
        copy_entry(source, leaf, top, name, durable=durable)
        return
    like = os.fstat(parent)
    opened = [top]
    try:
        for new in (name, *rest[1:-1]):
            os.mkdir(new, 0o700, dir_fd=opened[-1])
            opened.append(os.open(new, FOLDER, dir_fd=opened[-1]))
        copy_entry(source, leaf, opened[-1], rest[-1], durable=durable)
        for made in opened[1:]:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(made, like.st_uid, like.st_gid)
            os.chmod(made, stat.S_IMODE(like.st_mode))
    finally:
        for made in opened[1:]:
            os.close(made)


def _put(top: int, name: str, parent: int, leaf: str, place: str) -> None:
    """One rename; what was there has `name` afterwards."""
    try:
        for _ in range(_TRIES):
            with suppress(FileExistsError):
                _rename(top, name, parent, leaf, _NOREPLACE)
                return
            with suppress(FileNotFoundError):
                _rename(top, name, parent, leaf, _EXCHANGE)
                return
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        _put_in_steps(top, name, parent, leaf, place)
        return
    raise StorageError("it is made and removed all the time", where=place, hint="stop what writes there, then repeat")


def _put_in_steps(top: int, name: str, parent: int, leaf: str, place: str) -> None:
    """Without an exchange: a file replaces a file by itself, all else steps aside first."""
    try:
        there = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, leaf, src_dir_fd=top, dst_dir_fd=parent)
        return
    new = os.stat(name, dir_fd=top, follow_symlinks=False)
    if not stat.S_ISDIR(there.st_mode) and not stat.S_ISDIR(new.st_mode):
        with suppress(OSError):  # for whoever looks at what was replaced; not every file system has hard links
            os.link(leaf, f"{name}-was", src_dir_fd=parent, dst_dir_fd=top, follow_symlinks=False)
        os.rename(name, leaf, src_dir_fd=top, dst_dir_fd=parent)
        return
    os.symlink(place, f"{name}-for", dir_fd=top)
    os.fsync(top)
    os.rename(leaf, f"{name}-was", src_dir_fd=parent, dst_dir_fd=top)
    try:
        os.rename(name, leaf, src_dir_fd=top, dst_dir_fd=parent)
    except OSError:
        os.rename(f"{name}-was", leaf, src_dir_fd=top, dst_dir_fd=parent)
        raise


def _put_back(root: Path, top: int, name: str) -> bool:
    """Where nothing has taken the place of what stepped aside. False: it belongs nowhere, and is better left.

    The session may have made both names, with any text in the link.
    """
    try:
        parts = parts_of(os.readlink(f"{name.removesuffix('-was')}-for", dir_fd=top))
    except (FileNotFoundError, UsageError) as error:
        log.warning("%s in %s belongs nowhere and is removed: %s", name, root, error)
        return True
    except OSError as error:
        return _nowhere(root, name, error)
    if not parts:
        return _nowhere(root, name, "its place would be the whole tree")
    try:
        parent = descend(root, parts[:-1])
    except OSError as error:
        return _nowhere(root, name, error)
    try:
        _move_back(top, name, parent, parts[-1])
    except OSError as error:
        return _nowhere(root, name, error)
    finally:
        os.close(parent)
    return True


def _move_back(top: int, name: str, parent: int, leaf: str) -> None:
    """What has come to its place meanwhile stays."""
    try:
        _rename(top, name, parent, leaf, _NOREPLACE)
    except OSError as error:
        if error.errno in _UNABLE and not _there(parent, leaf):
            os.rename(name, leaf, src_dir_fd=top, dst_dir_fd=parent)
        elif error.errno != errno.EEXIST and error.errno not in _UNABLE:
            raise


def _nowhere(root: Path, name: str, why: object) -> bool:
    log.warning("%s in %s belongs nowhere and is left: %s", name, root, why)
    return False


def _identity(parent: int, name: str) -> tuple[int, int, int] | None:
    """Another one after every write; not after a rename, which changes the ctime."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _there(parent: int, leaf: str) -> bool:
    try:
        os.stat(leaf, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _rename(source: int, old: str, target: int, new: str, flags: int) -> None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "this C library has no renameat2")
    if call(source, os.fsencode(old), target, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), new)


def _remove(root: Path, *names: str) -> None:
    """What cannot be removed is left for the next `tidy`."""
    discard(*(root / name for name in names))


def _words(error: OSError, root: Path, path: str) -> ApplianceError:
    if error.errno in FULL:
        return NoSpace("the disk is full; nothing was changed", where=str(root), hint="free some space, then repeat")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"the place of {path!r} went away meanwhile", where=str(root), hint="repeat the command")
    return StorageError(f"{path!r}: {error.strerror}", where=str(root), hint="look at this path, then repeat")
