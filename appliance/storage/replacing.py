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
from collections.abc import Sequence
from pathlib import Path

from appliance.errors import ApplianceError, Conflict, NoSpace, NotFound, StorageError, UsageError
from appliance.storage.argv import run
from appliance.storage.copying import FULL, copy_entry
from appliance.storage.pinning import FOLDER, descend, folder, missing, parts_of

log = logging.getLogger(__name__)

REMOVE_S = 3600.0
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
    parts, wanted = parts_of(path), parts_of(source_path)
    if not parts:
        raise UsageError("the whole tree is not replaced in place", hint="roll back instead, or name another place")
    if _HIDDEN.fullmatch(parts[0]):
        raise UsageError(f"{parts[0]!r} is the appliance's own name", hint="use another place")
    name = f".appliance-{secrets.token_hex(8)}"
    with folder(source_root, wanted[:-1], source_path) as source, folder(root, [], path) as top:
        leaf = wanted[-1] if wanted else "."
        _check_source(source, leaf, source_path)
        try:
            parent, rest = _parents(root, parts)
            try:
                _prepare(source, leaf, top, name, rest, parent, durable=durable)
                _put(top, name, parent, rest[0], "/".join(parts[: len(parts) - len(rest) + 1]))
                if durable:
                    os.fsync(parent)
            finally:
                os.close(parent)
        except OSError as error:
            raise _words(error, root, path) from error
        finally:
            _remove(root, name)


def tidy(root: Path) -> None:
    """Finish or take back what a kill has left of `replace`; nothing else may be replacing in this tree."""
    with folder(root, [], "") as top:
        left = sorted(name for name in os.listdir(top) if _HIDDEN.fullmatch(name))
        for name in left:
            if name.endswith("-was"):
                _put_back(root, top, name)
    for name in left:
        if not name.endswith("-for"):
            _remove(root, name)
    for name in left:
        if name.endswith("-for"):
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
    for _ in range(_TRIES):
        try:
            _rename(top, name, parent, leaf, _NOREPLACE)
            return
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            _put_in_steps(top, name, parent, leaf, place)
            return
        try:
            _rename(top, name, parent, leaf, _EXCHANGE)
            return
        except FileNotFoundError:
            continue
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


def _put_back(root: Path, top: int, name: str) -> None:
    """Where nothing has taken the place of what stepped aside."""
    try:
        parts = parts_of(os.readlink(f"{name.removesuffix('-was')}-for", dir_fd=top))
        parent = descend(root, parts[:-1])
    except (OSError, UsageError) as error:
        log.warning("%s in %s belongs nowhere any more: %s", name, root, error)
        return
    try:
        _rename(top, name, parent, parts[-1], _NOREPLACE)
    except OSError as error:
        if error.errno in _UNABLE and not _there(parent, parts[-1]):
            os.rename(name, parts[-1], src_dir_fd=top, dst_dir_fd=parent)
        elif error.errno != errno.EEXIST and error.errno not in _UNABLE:
            raise
    finally:
        os.close(parent)


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


def _remove(root: Path, name: str) -> None:
    """With all that goes with it. What cannot be removed is left for the next `tidy`."""
    paths = [str(root / f"{name}{suffix}") for suffix in ("", "-was", "-for")]
    answer = run(["rm", "-rf", "--one-file-system", "--", *paths], timeout_s=REMOVE_S)
    if answer.code:
        log.warning("%s in %s is left: %s", name, root, answer.err)


def _words(error: OSError, root: Path, path: str) -> ApplianceError:
    if error.errno in FULL:
        return NoSpace("the disk is full; nothing was changed", where=str(root), hint="free some space, then repeat")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"the place of {path!r} went away meanwhile", where=str(root), hint="repeat the command")
    return StorageError(f"{path!r}: {error.strerror}", where=str(root), hint="look at this path, then repeat")
