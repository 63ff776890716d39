"""What counts as unchanged.

- Of every kind: the type, the mode and the owner are the same, and
- a file: it is one file under one name in both moments, or has the same inode and change time (ZFS keeps both in a
  clone), or the same size and modification time. Where its times contradict each other, the same size with another
  time of either kind, it is read if it has at most READ bytes; a larger one counts by its modification time.
  With `checksum` the bytes of every file of the same size are compared, whatever its times say.
- A link: its target. A device: its number. A directory: nothing else; its content is told entry by entry.

A time is only as fine as its clock: zfs-fuse tells whole seconds. So what was written shortly before the older moment
may have been written again in the same tick; a file with a time from `doubt_ns` on is read, whatever its times say.

A program can give a file that it changed its old modification time back. Between moments that do not share their
inodes, which are copies, only `checksum` sees that. Extended attributes are not compared.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from appliance.history.diff import content
from appliance.history.diff.pinned import open_regular

READ = 1 << 20
"""Bytes of a file that is read because its times leave it open."""
TICK_S = 2.0
"""The coarsest clock of a file system that is in use (FAT)."""


def doubt_ns(older: float) -> int:
    """From when on a modification time says nothing about what was written after the moment `older`, in unix seconds.

    Unix nanoseconds.
    """
    return int((older - TICK_S) * 1e9)


def is_as_it_was(was: os.stat_result, now: os.stat_result, doubt_ns: int) -> bool:
    """Certainly the same file, as nearly all entries of two moments are; False leaves it open."""
    return (
        was.st_mtime_ns == now.st_mtime_ns
        and was.st_mtime_ns < doubt_ns
        and was.st_size == now.st_size
        and was.st_mode == now.st_mode
        and stat.S_ISREG(was.st_mode)
        and was.st_uid == now.st_uid
        and was.st_gid == now.st_gid
        and (was.st_ino != now.st_ino or was.st_ctime_ns == now.st_ctime_ns)
    )


def differs(
    folders: tuple[int, int], name: str, was: os.stat_result, now: os.stat_result, *, checksum: bool, doubt_ns: int
) -> bool:
    """The content of `name`, of one type in two directories. Raises FileNotFoundError where it has changed its type."""
    before, after = folders
    if stat.S_ISLNK(was.st_mode):
        return os.readlink(name, dir_fd=before) != os.readlink(name, dir_fd=after)
    if not stat.S_ISREG(was.st_mode):
        return was.st_rdev != now.st_rdev
    if was.st_size != now.st_size:
        return True
    same_time, same_inode = was.st_mtime_ns == now.st_mtime_ns, was.st_ino == now.st_ino
    if not checksum:
        if was.st_size > READ:
            return not same_time
        if same_time and was.st_mtime_ns < doubt_ns and (not same_inode or was.st_ctime_ns == now.st_ctime_ns):
            return False
    return not same_bytes(before, name, after, name, content.same)


def same_bytes(before: int, old: str, after: int, new: str, compare: Callable[[int, int], bool]) -> bool:
    """`compare` is `content.same` or `content.alike`. Raises OSError where one cannot be read."""
    was = open_regular(before, old)
    try:
        now = open_regular(after, new)
        try:
            return compare(was, now)
        finally:
            os.close(now)
    finally:
        os.close(was)


def metadata(was: os.stat_result, now: os.stat_result) -> str:
    """How mode and owner differ, in words; empty where they do not."""
    notes = []
    if stat.S_IMODE(was.st_mode) != stat.S_IMODE(now.st_mode):
        notes.append(f"mode {stat.S_IMODE(was.st_mode):o} -> {stat.S_IMODE(now.st_mode):o}")
    if (was.st_uid, was.st_gid) != (now.st_uid, now.st_gid):
        notes.append(f"owner {was.st_uid}:{was.st_gid} -> {now.st_uid}:{now.st_gid}")
    return ", ".join(notes)
