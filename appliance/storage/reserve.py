"""A file that only takes up room. It shrinks when the disk is full, so that what must be written still can be."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.trees.copying import FULL

log = logging.getLogger(__name__)

_UNABLE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
SLICE = 16 << 20
"""Bytes that are given back at least: a program that fills the disk without end takes one slice, not all at once."""


def wanted(*, held: int, size: int, free: int, floor: int, ample: int) -> int:
    """Bytes the reserve should have, `held` at present and `size` at most.

    It shrinks by as much as brings the free space up to `floor`, and is made whole where `ample` stay free beside it.
    """
    if free < floor:
        slices = -(-(floor - free) // SLICE)
        return max(0, min(held, size) - slices * SLICE)
    if held > size or free - (size - held) >= ample:
        return size
    return held


class ReserveFile:
    """`unfit` says why there can be none at this place: some file systems promise space and keep none back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unfit = ""

    def held(self) -> int:
        """Bytes that it keeps back; holes, such as a copied home has, keep nothing."""
        try:
            found = self._path.stat(follow_symlinks=False)
        except FileNotFoundError:
            return 0
        return min(found.st_size, found.st_blocks * 512)

    def resize(self, size: int) -> None:
        """To `size` bytes; 0 removes it, and so does a disk that has no room for them. Raises StorageError."""
        if self.unfit:
            return
        try:
            if size:
                self._set(size)
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            if error.errno not in FULL:
                raise StorageError(str(error), where=str(self._path), hint="look at the disk: `dmesg`") from error
            log.warning("%s: no room for a reserve of %d bytes", self._path, size)

    def _set(self, size: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.ftruncate(descriptor, min(size, os.fstat(descriptor).st_size))
            _allocate(descriptor, size)
            if os.fstat(descriptor).st_blocks * 512 < size * 9 // 10:
                self._give_up("it takes the file and keeps no room back")
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            self._give_up("it cannot set room aside for a file")
        finally:
            os.close(descriptor)

    def _give_up(self, why: str) -> None:
        self._path.unlink(missing_ok=True)
        self.unfit = f"no reserve for the state: the file system of {self._path.parent} does not do it ({why})"
        log.warning(self.unfit)


def _allocate(descriptor: int, size: int) -> None:
    """fallocate(2) itself: where a file system cannot, `os.posix_fallocate` writes zeros for minutes."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
