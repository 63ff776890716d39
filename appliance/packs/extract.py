"""Taking packs in. A pack is looked at as a whole first, so one that holds anything odd leaves no trace.

Every file is written below a reserved name beside its place and gets its own name by one rename when it is whole, with
its time: what lies under its own name is complete. The name of what is half made tells of what, so that a piece finds
what the piece before it has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from appliance import paths
from appliance.errors import Conflict, UsageError
from appliance.packs.build import FROM, OFFSET, SIZE
from appliance.packs.entry import RESERVED, Entry, above, check_path, same
from appliance.packs.tree import Tree

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Member(NamedTuple):
    entry: Entry
    """Of the whole file, also where the member is a piece of it."""
    data: memoryview
    offset: int
    covered: int
    """Up to here the pieces before have filled the file."""

    @property
    def last(self) -> bool:
        return self.offset + len(self.data) == self.entry.size


class Stored(NamedTuple):
    entry: Entry
    sha256: str
    """Of a file that came in one; empty for the rest."""
    bytes: int
    complete: bool


def members(pack: bytes) -> list[Member]:
    """Everything in a pack. Raises UsageError for whatever has no place in one."""
    found: list[Member] = []
    kinds: dict[bytes, Member] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(pack), mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            for info in archive:
                member = _member(info, memoryview(pack)[info.offset_data : info.offset_data + info.size])
                _check_twice(member, kinds.get(member.entry.path))
                kinds[member.entry.path] = member
                found.append(member)
            if pack[archive.offset :].strip(b"\0"):
                raise UsageError("not a pack: there is something behind its end", hint="send it again")
    except (tarfile.TarError, ValueError, InvalidOperation) as error:
        raise UsageError(f"not a pack: {error}", hint="send a tar archive of files, directories and links") from None
    for path in kinds:
        for folder in above(path):
            if folder in kinds and kinds[folder].entry.kind != "directory":
                raise _refused(path, f"a member lies below a {kinds[folder].entry.kind}")
    return found


def store(tree: Tree, taken: list[Member], *, replace: bool, scope: bytes = b"") -> Iterator[Stored]:
    """Put members into place. `replace`: a directory may give way to something else; other things always may.

    `scope` tells apart what is half made of the same path for different purposes. Raises Conflict.
    """
    for member in taken:
        entry = member.entry
        if entry.kind == "directory":
            _directory(tree, entry, replace=replace)
            yield Stored(entry, "", 0, True)
        elif entry.kind == "link":
            _link(tree, entry, replace=replace, scope=scope)
            yield Stored(entry, "", 0, True)
        else:
            _file(tree, member, replace=replace, scope=scope)
            whole = member.offset == member.covered == 0 and member.last
            digest = hashlib.sha256(member.data).hexdigest() if whole else ""
            yield Stored(entry, digest, len(member.data), member.last)


def half_made(entry: Entry, scope: bytes = b"") -> bytes:
    """The name beside `entry` under which it grows. Another size or time of the source is another one."""
    folder, slash, _ = entry.path.rpartition(b"/")
    what = b"\0".join((entry.path, b"%d %d" % (entry.size, entry.mtime_ns), scope))
    return folder + slash + RESERVED + hashlib.sha256(what).hexdigest()[:32].encode() + b".part"


def offset_of(tree: Tree, entry: Entry, scope: bytes = b"") -> int:
    """How much of a file is there already of an attempt before."""
    found = tree.look(half_made(entry, scope))
    usable = found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size < entry.size
    return found.st_size if found is not None and usable else 0


def _member(info: tarfile.TarInfo, data: memoryview) -> Member:
    path = check_path(_bytes(info.name))
    if info.sparse is not None:
        raise _refused(path, "a sparse member")
    if info.type == tarfile.DIRTYPE:
        return Member(Entry(path, "directory"), data[:0], 0, 0)
    if info.type == tarfile.SYMTYPE:
        target = _bytes(info.linkname)
        if not target or b"\0" in target:
            raise _refused(path, "a link without a target")
        return Member(Entry(path, "link", target=target), data[:0], 0, 0)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise _refused(path, f"a member of type {info.type!r}")
    if len(data) != info.size:
        raise _refused(path, "a member that is cut off")
    more = info.pax_headers
    size, offset = int(more.get(SIZE, info.size)), int(more.get(OFFSET, 0))
    covered = int(more.get(FROM, 0))
    if not 0 <= covered <= offset <= offset + len(data) <= size < 1 << 62:
        raise _refused(path, "a piece that lies outside its file")
    mtime_ns = int(Decimal(more.get("mtime", str(info.mtime))) * 10**9)
    if abs(mtime_ns) >= 1 << 62:
        raise _refused(path, "a time that no file has")
    executable = bool(info.mode & 0o100)
    return Member(Entry(path, "file", size, mtime_ns, executable), data, offset, covered)


def _check_twice(member: Member, before: Member | None) -> None:
    """Only pieces of one file may share a path, each beginning where the one before it has ended."""
    if before is None:
        return
    pieces = before.entry == member.entry and member.entry.kind == "file" and not before.last
    if not pieces or member.covered != before.offset + len(before.data):
        raise _refused(member.entry.path, "a member that comes twice")


def _file(tree: Tree, member: Member, *, replace: bool, scope: bytes) -> None:
    entry = member.entry
    growing = half_made(entry, scope)
    if member.covered and member.last and tree.look(growing) is None and same(entry, tree.entry(entry.path)):
        return  # the answer to this pack was lost, and it has come again
    if member.covered == 0:
        tree.remove_if_there(growing)
        writer = _open(tree, growing, _NEW, 0o777 if entry.executable else 0o666)
    else:
        writer = _go_on(tree, growing, member)
    try:
        _write(writer, member)
        if member.last:
            os.utime(writer, ns=(entry.mtime_ns, entry.mtime_ns))
            if member.covered:
                os.fsync(writer)  # nobody has the digest of what came in pieces, so it must not get lost
    finally:
        os.close(writer)
    if member.last:
        _settle(tree, growing, entry.path, replace=replace)


def _go_on(tree: Tree, growing: bytes, member: Member) -> int:
    path = paths.encode(member.entry.path)
    lost = Conflict(f"the part before byte {member.covered} is not here", where=path, hint="repeat the whole command")
    try:
        writer = _open(tree, growing, _OLD)
    except OSError:
        raise lost from None
    found = os.fstat(writer)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_size < member.covered:
        os.close(writer)
        raise lost
    return writer


def _write(writer: int, member: Member) -> None:
    at, left = member.offset, member.data
    while left:
        written = os.pwrite(writer, left, at)
        at, left = at + written, left[written:]
    os.ftruncate(writer, at)


def _open(tree: Tree, path: bytes, flags: int, mode: int = 0) -> int:
    folder, name = tree.at(path, make=bool(flags & os.O_CREAT))
    return os.open(name, flags, mode, dir_fd=folder)


def _link(tree: Tree, entry: Entry, *, replace: bool, scope: bytes) -> None:
    growing = half_made(entry, scope)
    tree.remove_if_there(growing)
    folder, name = tree.at(growing, make=True)
    os.symlink(entry.target, name, dir_fd=folder)
    _settle(tree, growing, entry.path, replace=replace)


def _directory(tree: Tree, entry: Entry, *, replace: bool) -> None:
    for attempt in (1, 2):
        folder, name = tree.at(entry.path, make=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=folder)
        found = tree.look(entry.path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return
        if attempt == 2 or not replace:
            raise _in_the_way(entry.path)
        tree.remove(entry.path)


def _settle(tree: Tree, growing: bytes, path: bytes, *, replace: bool) -> None:
    folder, before = tree.at(growing)
    name = path.rpartition(b"/")[2]
    try:
        os.rename(before, name, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        if not replace:
            tree.remove_if_there(growing)
            raise _in_the_way(path) from None
        tree.remove(path)
        folder, before = tree.at(growing)
        os.rename(before, name, src_dir_fd=folder, dst_dir_fd=folder)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _in_the_way(path: bytes) -> Conflict:
    return Conflict("something of another kind is there", where=paths.encode(path), hint="move it away, then repeat")


def _refused(path: bytes, why: str) -> UsageError:
    return UsageError(f"{why} is refused", where=paths.encode(path), hint="nothing of this pack was stored")
