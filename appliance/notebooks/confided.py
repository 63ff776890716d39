"""Secrets as files, for a container to read: in memory, never on a disk, which a backup or a thief would read.

Each key has a folder of its own below one of the daemon's, where nobody else passes. It is written anew for each
container and is gone with it, and with a reboot.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from appliance.errors import StorageError
from appliance.notebooks.owning import Owner

PLACES = (Path("/run"), Path("/dev/shm"))  # one's own folder in it, checked at each use
IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mounts")


class Confided:
    """`places` are tried in turn."""

    def __init__(self, instance: str, places: Callable[[], list[Path]] | None = None) -> None:
        self._name = f"appliance-{instance}"
        self._places = places or in_memory
        self._lock = threading.Lock()

    def write(self, key: str, values: Mapping[str, str], owner: Owner) -> Path:
        """The folder, with one file per name that only `owner` reads. Raises StorageError.

        What was there before is replaced, so nothing may be using it.
        """
        with self._lock:
            self._remove(key)
            return self._write(self._room() / key, values, owner)

    def remove(self, key: str) -> None:
        """Gone already counts as done."""
        with self._lock:
            self._remove(key)

    def remove_all(self, start: str) -> None:
        """Of all keys that begin so: what a kill has left."""
        with self._lock:
            for place in self._places():
                room = place / self._name
                for folder in list(room.glob(f"{start}*")) if _is_ours(room) else ():
                    self._remove(folder.name)

    def _write(self, folder: Path, values: Mapping[str, str], owner: Owner) -> Path:
        try:
            folder.mkdir(mode=0o700)
            for name, value in values.items():
                made = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
                with os.fdopen(made, "wb") as file:
                    file.write(value.encode("utf-8", "surrogateescape"))
                    _give(made, owner)
            _give(folder, owner)
            folder.chmod(0o500)
        except OSError as error:
            self._remove(folder.name)
            raise StorageError(f"secrets cannot be written: {error}", where=str(folder), hint=_HINT) from None
        return folder

    def _remove(self, key: str) -> None:
        for place in self._places():
            room = place / self._name
            if _is_ours(room):
                shutil.rmtree(room / key, ignore_errors=True)
                with suppress(OSError):  # others' are in it
                    room.rmdir()

    def _room(self) -> Path:
        for place in self._places():
            room = place / self._name
            with suppress(OSError):
                room.mkdir(mode=0o700)
            if _is_ours(room):
                return room
        raise StorageError("there is no folder in memory for secrets as files", hint=_HINT)


def in_memory() -> list[Path]:
    """Those of `PLACES` whose content is on no disk."""
    kinds = {}
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, target, kind, *_ = line.split(" ")
        kinds[target] = kind  # the last one is what is seen
    return [place for place in PLACES if kinds.get(str(place)) in IN_MEMORY]


def _is_ours(room: Path) -> bool:
    """Anybody may have put something of this name there before us."""
    try:
        found = room.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def _give(what: int | Path, owner: Owner) -> None:
    if os.geteuid() == 0 or owner != (0, 0):
        os.chown(what, *owner)


_HINT = "let /run or /dev/shm be a tmpfs of this machine with room in it, or give the secrets by `env`"
