"""Frozen trees that share their unchanged files by hard links, and the notes that tell which those are.

A note is made with each copy of a live tree into a frozen one, and of a frozen one into a live one: which live
directory each frozen one shows, by inode, and from when on a change is news.

What is unchanged: a file whose ctime is older than the frozen tree, in the same directory as then. Nobody can set a
ctime, and renaming sets it, so such a file has had this name in this directory; the directory is known by its inode.
Size, times, owner, mode and xattrs are compared as well: a clock can be set back. Two things write without a new ctime,
and the note allows for them: a long `write` that has begun before (MARGIN_NS), and a page that is mapped and already
dirty (whoever copies writes everything out first, which ends that). `ctime.trusts_ctime` tries a file system out.

Used by the copier, a program of its own, so it imports little, and only from the standard library.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterable
from typing import NamedTuple

MARGIN_NS = 10_000_000_000
"""A ctime so short before the frozen tree leaves a doubt; then the content is compared."""
_CHUNK = 1 << 18
_LARGE = 64 << 20
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_TICK_S = 0.1
"""Longest wait for the file system's clock to go on; the kernel's ticks are 1 to 10 ms."""
_CANNOT_LINK = {errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOSYS, errno.EAGAIN}
_ELSEWHERE = "security.selinux"
"""A label that belongs to the place where a file is."""


class Note(NamedTuple):
    began_ns: int
    """On the file system's clock: what has an earlier ctime is in the frozen tree as it is."""
    before_ns: int
    """The same without a doubt."""
    written: int
    """Bytes of content that were copied and not linked."""
    live: dict[int, int]
    """Inode of a frozen directory -> inode of the live one that it shows. Empty where it was not asked for."""


def read_note(path: str | os.PathLike[str], *, whole: bool = False) -> Note | None:
    """None: there is none, as of a snapshot that an older appliance has taken."""
    try:
        with open(path, "rb") as file:
            head = json.loads(file.readline())
            pairs = json.loads(file.readline()) if whole else []
        live = {int(frozen): int(live) for frozen, live in pairs}
        return Note(int(head["began"]), int(head["before"]), int(head["written"]), live)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_note(path: str, began_ns: int, before_ns: int, written: int, pairs: Iterable[tuple[int, int]]) -> None:
    head = {"began": began_ns, "before": before_ns, "written": written}
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{json.dumps(head)}\n{json.dumps(list(pairs))}\n")


def tick(path: str, wait_s: float = _TICK_S) -> int:
    """A moment on the file system's own clock, in ns: all that was done before has an earlier ctime.

    Where the clock has not gone on after `wait_s`, that holds for all but what was done in this tick of it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        first = os.fstat(descriptor).st_ctime_ns
        deadline = time.monotonic() + wait_s
        while True:
            os.fchmod(descriptor, 0o600)
            found = os.fstat(descriptor).st_ctime_ns
            if found > first or time.monotonic() > deadline:
                return found
            time.sleep(0.001)
    finally:
        os.close(descriptor)


class Previous:
    """The frozen tree that unchanged files are linked to."""

    def __init__(self, directory: str, note: str) -> None:
        self._directory = directory
        found = read_note(note, whole=True)
        self._began, self._before = (found.began_ns, found.before_ns) if found else (0, 0)
        self._live = found.live if found else {}

    def top(self, live: os.stat_result) -> int:
        try:
            return self._same(os.open(self._directory, FOLDER), live)
        except OSError:
            return -1  # destroyed since it was chosen

    def below(self, frozen: int, name: str, live: os.stat_result) -> int:
        if frozen < 0:
            return -1
        try:
            return self._same(os.open(name, FOLDER, dir_fd=frozen), live)
        except OSError:
            return -1

    def link(self, frozen: int, name: str, target: int, pinned: int, live: os.stat_result) -> bool:
        """Put the frozen file into `target`, where the live one is still the same."""
        if frozen < 0 or live.st_ctime_ns >= self._began:
            return False
        try:
            was = os.stat(name, dir_fd=frozen, follow_symlinks=False)
            if _description(was) != _description(live) or xattrs_of(frozen, name) != xattrs_of(pinned):
                return False
            if live.st_ctime_ns >= self._before and not _same_content(frozen, name, pinned, live):
                return False
            os.link(name, name, src_dir_fd=frozen, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            return False
        return True

    def _same(self, frozen: int, live: os.stat_result) -> int:
        found = os.fstat(frozen)
        if found.st_dev == live.st_dev and self._live.get(found.st_ino) == live.st_ino:
            return frozen
        os.close(frozen)
        return -1


def pin_path(descriptor: int, name: str = "") -> str:
    return f"/proc/self/fd/{descriptor}/{name}" if name else f"/proc/self/fd/{descriptor}"


def _same_content(frozen: int, name: str, pinned: int, live: os.stat_result) -> bool:
    if not stat.S_ISREG(live.st_mode):
        return True  # a link's text and a device's number never change
    if live.st_size > max(_LARGE, live.st_blocks * 1024):
        return False  # mostly holes: copying takes less than reading it all
    descriptors: list[int] = []
    try:
        descriptors.append(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=frozen))
        descriptors.append(os.open(pin_path(pinned), os.O_RDONLY | os.O_NONBLOCK))
        for offset in range(0, live.st_size, _CHUNK):
            pieces = [os.pread(descriptor, _CHUNK, offset) for descriptor in descriptors]
            if pieces[0] != pieces[1]:
                return False
        return True
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _description(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_size, found.st_mtime_ns, found.st_uid, found.st_gid, found.st_rdev


def xattrs_of(descriptor: int, name: str = "") -> dict[str, bytes]:
    """Of what is pinned, or of the entry `name` in that directory, which is not followed."""
    path, follow = pin_path(descriptor, name), not name
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
            return {}
        raise
    return {key: os.getxattr(path, key, follow_symlinks=follow) for key in names if key != _ELSEWHERE}
