"""Reading the engine's json-file across its rotation, from a position that survives the process.

The engine renames `x.log` to `x.log.1`, that to `x.log.2` and so on, removes the oldest and starts a fresh `x.log`.
Every file is opened as soon as it is seen and followed by its inode, so what is renamed or removed meanwhile is
still read to its end.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path

BLOCK = 256 * 1024
"""Bytes of one read. A record is below 100 KiB: 16 KiB of text, escaped."""
MARK = 48
"""Bytes before a position that tell its file from another one: they hold a record's time in nanoseconds."""
MOST_OPEN = 24
"""Files kept open while they wait to be read; with it ends what a container that outruns us may hold of the disk."""


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where a log has been read. Inodes are used again by the file system, so the mark decides."""

    inode: int
    offset: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    inode: int

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def holds(self, position: Position) -> bool:
        start = position.offset - len(position.mark)
        return start >= 0 and os.pread(self.descriptor, len(position.mark), start) == position.mark


class Tail:
    """One container's log. Not for several threads. Raises OSError where the files cannot be read."""

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.gaps = 0
        """Times that files were removed or emptied, perhaps before all of them was read: lines may be missing."""
        self.position = position
        """Up to where `read` has answered; None before that."""
        self._path = path
        self._name = str(path)
        self._files: deque[_File] = deque()
        self._offset = 0
        self._missing = False

    def poll(self) -> bool:
        """Look for fresh files, and say whether there is anything to read. One system call where nothing happens."""
        try:
            status = os.stat(self._name)
        except FileNotFoundError:  # for an instant in each rotation, and for good once the container is removed
            self._missing = True
            if not self._files:
                self._begin()
            return self._unread()
        self._missing = False
        if not self._files:
            self._begin()
        elif status.st_ino != self._files[-1].inode:
            self._extend()
        elif len(self._files) == 1:
            return self._has_grown(status.st_size)
        return self._unread()

    def read(self, *, final: bool = False) -> bytes:
        """The next whole records, ended by a newline; empty at the end of the newest file.

        `final`: nothing more will be written, so a record without its newline is answered too.
        """
        while self._files:
            block = os.pread(self._files[0].descriptor, BLOCK, self._offset)
            end = block.rfind(b"\n") + 1
            rotated = len(self._files) > 1
            if end:
                return self._advance(block[:end])
            if block and (final or rotated or len(block) == BLOCK):
                return self._advance(block) + b"\n"
            if not rotated:
                return b""
            os.close(self._files.popleft().descriptor)
            self._offset = 0
        return b""

    @property
    def removed(self) -> bool:
        """The engine has removed the container's directory: nothing will ever come."""
        return self._missing and not self._path.parent.exists()

    @property
    def found(self) -> bool:
        return bool(self._files)

    def close(self) -> None:
        while self._files:
            os.close(self._files.popleft().descriptor)

    def _advance(self, block: bytes) -> bytes:
        self._offset += len(block)
        self.position = Position(self._files[0].inode, self._offset, block[-MARK:])
        return block

    def _has_grown(self, size: int) -> bool:
        if size < self._offset:  # emptied in place, as an engine with max-file=1 does
            self.gaps += 1
            self._offset = 0
        return size > self._offset

    def _unread(self) -> bool:
        return len(self._files) > 1 or (bool(self._files) and self._has_grown(self._files[0].size()))

    def _begin(self) -> None:
        """At the stored position, or with the oldest file where there is none."""
        files, _ = _open_chain(self._name, until=None)
        if not files:
            return
        self._files.extend(files)
        if self.position is None:
            return
        start = _find(files, self.position)
        if start is None:
            self.gaps += 1
            return
        for _ in range(start):
            os.close(self._files.popleft().descriptor)
        self._offset = self.position.offset

    def _extend(self) -> None:
        if len(self._files) >= MOST_OPEN:
            return
        fresh, joined = _open_chain(self._name, until=self._files[-1].inode)
        if fresh and not joined:
            self.gaps += 1
        self._files.extend(fresh)


def _open_chain(path: str, *, until: int | None) -> tuple[list[_File], bool]:
    """The files newer than inode `until`, opened, oldest first, and whether `until` was met.

    Read from the newest to the oldest: a rotation meanwhile moves files the same way, so a file may be met twice but
    is never passed by. It leaves one hole at a time, hence the end of the chain is two missing names in a row.
    """
    found: dict[int, _File] = {}
    joined = False
    number = missing = 0
    while missing < 2:
        name = f"{path}.{number}" if number else path
        number += 1
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            missing += 1
            continue
        missing = 0
        inode = os.fstat(descriptor).st_ino
        if inode == until:
            os.close(descriptor)
            joined = True
            break
        twice = found.pop(inode, None)
        if twice is not None:
            os.close(twice.descriptor)
        found[inode] = _File(descriptor, inode)
    return list(reversed(found.values())), joined


def _find(files: list[_File], position: Position) -> int | None:
    """The file this position is in: the same inode if it still holds the mark, else any that does."""
    matches = [index for index, file in enumerate(files) if file.holds(position)]
    same = [index for index in matches if files[index].inode == position.inode]
    return next(iter(same or matches), None)
