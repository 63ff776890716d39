"""Taking an archive in: its files into an empty directory, its spec as text. Blocks; whoever made it is not trusted.

Nothing is written outside the directory: names lead out of nothing, links in it are made and never followed, a member
that comes twice is refused. Blocks of zeros become holes, so what was sparse is sparse again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance import paths
from appliance.errors import ApplianceError, Conflict, NoSpace, StorageError, UsageError
from appliance.notebooks.archive import FILES, LEFT_OUT, SPEC
from appliance.notebooks.archive.members import Member, Read, members, refused
from appliance.packs.entry import check_path
from appliance.packs.tree import Tree
from appliance.spec.tree import MAX_BYTES

MOST_MEMBERS = 10_000_000
LARGEST = 1 << 50
"""Bytes of all files together, holes counted."""
CHECK_EVERY = 64 << 20
"""Bytes written between two looks at the disk."""
CHECK_MEMBERS = 10_000
"""Members between two looks: an empty one takes some of the disk too."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096


@dataclass
class Taken:
    spec: str = ""
    files: int = 0
    bytes: int = 0


def unpack(read: Read, root: Path, check: Callable[[], None], told: Callable[[str], None]) -> Taken:
    """`check` is called before much is written, `told` with the spec; what they raise ends it.

    Raises UsageError, NoSpace, StorageError.
    """
    taken = Taken()
    tree = Tree(root)
    try:
        for number, member in enumerate(members(read)):
            if number > MOST_MEMBERS:
                raise refused(f"more than {MOST_MEMBERS:,} members")
            if number % CHECK_MEMBERS == CHECK_MEMBERS - 1:
                check()
            if _is_spec(member):
                if taken.spec:
                    raise refused("a spec that comes twice", _shown(member))
                taken.spec = _text(member)
                told(taken.spec)
                continue
            try:
                _take(tree, member, taken, check)
            except (Conflict, FileExistsError):
                raise refused("a member that comes twice, or lies below a file", _shown(member)) from None
            except OSError as error:
                raise _words(error, member) from error
    finally:
        tree.close()
    if not taken.spec:
        raise refused(f"there is no {SPEC.decode()} in it")
    return taken


def _take(tree: Tree, member: Member, taken: Taken, check: Callable[[], None]) -> None:
    name = _name(member)
    if name in (b"", b".") and member.kind == "directory":
        return
    if name == LEFT_OUT or (name == FILES and member.kind == "directory"):
        return
    elif name.startswith(FILES + b"/"):
        _place(tree, member, _inside(name, member), taken, check)
    else:
        raise refused(f"only {SPEC.decode()} and what lies below {FILES.decode()}/ has a place in it", _shown(member))


def _name(member: Member) -> bytes:
    return member.name.removeprefix(b"./").rstrip(b"/")


def _is_spec(member: Member) -> bool:
    return member.kind == "file" and _name(member) == SPEC


def _inside(name: bytes, member: Member) -> bytes:
    try:
        return check_path(name.removeprefix(FILES + b"/"))
    except UsageError as error:
        raise refused(error.message, _shown(member)) from None


def _place(tree: Tree, member: Member, path: bytes, taken: Taken, check: Callable[[], None]) -> None:
    folder, name = tree.at(path, make=True)
    if member.kind == "directory":
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise
        return
    if member.kind == "link":
        if not member.target or b"\0" in member.target:
            raise refused("a link without a target", _shown(member))
        os.symlink(member.target, name, dir_fd=folder)
    elif member.kind == "hardlink":
        _link(tree, member, path)
    else:
        if taken.bytes + member.size > LARGEST:
            raise refused("more bytes than any disk has", _shown(member))
        writer = os.open(name, _NEW, 0o755 if member.executable else 0o644, dir_fd=folder)
        try:
            _fill(writer, member, taken, check)
        finally:
            os.close(writer)
    taken.files += 1


def _link(tree: Tree, member: Member, path: bytes) -> None:
    """Another name of a file that came before; nothing else has two."""
    target = _inside(member.target.removeprefix(b"./"), member) if member.target else b""
    found = tree.look(target) if target else None
    if found is None or not stat.S_ISREG(found.st_mode):
        raise refused("another name of what is no file in it", _shown(member))
    source = os.dup(tree.folder(target.rpartition(b"/")[0]))
    try:
        folder, name = tree.at(path, make=True)
        os.link(target.rpartition(b"/")[2], name, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    finally:
        os.close(source)


def _fill(writer: int, member: Member, taken: Taken, check: Callable[[], None]) -> None:
    at = 0
    for piece in member.content:
        if taken.bytes // CHECK_EVERY != (taken.bytes + len(piece)) // CHECK_EVERY:
            check()
        for block in _blocks(piece):
            if block.tobytes().strip(b"\0"):
                _write(writer, block, at)
            at += len(block)
        taken.bytes += len(piece)
    os.ftruncate(writer, member.size)
    os.utime(writer, ns=(member.mtime_ns, member.mtime_ns))


def _blocks(piece: memoryview) -> Iterator[memoryview]:
    """The whole piece, unless some of it may be a hole."""
    if len(piece) <= _BLOCK or bytes(_BLOCK) not in bytes(piece):
        yield piece
        return
    for start in range(0, len(piece), _BLOCK):
        yield piece[start : start + _BLOCK]


def _write(writer: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(writer, data, at)
        at, data = at + written, data[written:]


def _text(member: Member) -> str:
    if member.size > MAX_BYTES:
        raise refused("a spec of more than 1 MiB", _shown(member))
    try:
        return b"".join(bytes(piece) for piece in member.content).decode("utf-8")
    except UnicodeDecodeError:
        raise refused("a spec that is not UTF-8", _shown(member)) from None


def _words(error: OSError, member: Member) -> ApplianceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace("the disk is full", where=_shown(member), hint="free some space, then repeat the command")
    return StorageError(f"cannot be written: {error.strerror}", where=_shown(member), hint="nothing was imported")


def _shown(member: Member) -> str:
    return paths.encode(member.name)
