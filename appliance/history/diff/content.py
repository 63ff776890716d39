"""Whether two open files hold the same bytes."""

from __future__ import annotations

import errno
import os

CHUNK = 1 << 20
WHOLE = 16 << 20
"""Bytes up to which `alike` reads everything."""


def same(before: int, after: int) -> bool:
    """Every byte is compared; holes that both have are skipped. Two descriptors of regular files."""
    size = os.fstat(before).st_size
    if size != os.fstat(after).st_size:
        return False
    at = 0
    while at < size:
        at = min(_data(before, at, size), _data(after, at, size))
        piece = os.pread(before, CHUNK, at)
        if piece != os.pread(after, CHUNK, at):
            return False
        if not piece:
            return True  # both have become shorter meanwhile
        at += len(piece)
    return True


def alike(before: int, after: int) -> bool:
    """Of files up to WHOLE bytes every byte, of larger ones the first, the middle and the last CHUNK.

    For a file that has moved: its size and its time to the nanosecond agree already.
    """
    size = os.fstat(before).st_size
    if size <= WHOLE:
        return same(before, after)
    places = (0, size // 2, size - CHUNK)
    return all(os.pread(before, CHUNK, at) == os.pread(after, CHUNK, at) for at in places)


def _data(file: int, at: int, size: int) -> int:
    """Where the next data is, at or after `at`."""
    try:
        return os.lseek(file, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return at
        raise
