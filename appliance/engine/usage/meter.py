"""Reads what one container uses, again and again, at the price of a few small files.

Where the files are is found once. The container's first process is held by its folder in `/proc`, which stays that
process's own: where it has ended, reading fails, and never tells of a stranger that was given its number.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from appliance.engine import cgroups
from appliance.engine.cgroups import UNIFIED
from appliance.engine.usage import counters
from appliance.engine.usage.counters import Counters
from appliance.engine.usage.files import Files, text_below

log = logging.getLogger(__name__)

T = TypeVar("T")


class Meter:
    """Of one container, from one start of it to its end. `close` it."""

    def __init__(self, process: int, folders: Mapping[str, Path], *, own_network: bool) -> None:
        self._process = process
        """Descriptor of its folder in `/proc`."""
        self._folders = folders
        self._own_network = own_network
        self._files = Files()
        self._closed = False

    @classmethod
    def open(cls, pid: int, container: str, proc: Path = Path("/proc")) -> Meter | None:
        """Of the container with this id whose first process is `pid`; None: nothing is known of it."""
        process = -1
        try:
            process = os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            folders = cgroups.folders(pid, container, proc)
            known = {"memory", "cpuacct"} <= folders.keys() or UNIFIED in folders
            if known:
                return cls(process, folders, own_network=_own_network(process, proc))
        except (OSError, ValueError) as error:
            log.debug("what container %s uses is not known: %s", container[:12], error)
        if process >= 0:
            os.close(process)
        return None

    def read(self) -> Counters | None:
        """None: it has ended."""
        if self._closed:
            return None
        folders = self._folders
        # its network first: what the kernel still says of its groups after that, is proof that it was there
        received, sent = self._traffic()
        try:
            if {"memory", "cpuacct"} <= folders.keys():
                return self._version_1(received, sent)
            return self._version_2(folders[UNIFIED], received, sent)
        except (OSError, ValueError, KeyError):
            return None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._process)
            self._files.close()

    def _traffic(self) -> tuple[int | None, int | None]:
        if not self._own_network:
            return None, None
        try:
            return counters.traffic(text_below(self._process, "net/dev"))
        except (OSError, ValueError):
            return None, None

    def _version_1(self, received: int | None, sent: int | None) -> Counters:
        nanoseconds = int(self._files.text(self._folders["cpuacct"] / "cpuacct.usage"))
        memory = self._folders["memory"]
        used = int(self._files.text(memory / "memory.usage_in_bytes"))
        told = counters.table(self._files.text(memory / "memory.stat"))
        most = told.get("hierarchical_memory_limit")
        read, written = self._or_none(
            counters.io_version_1, self._folders.get("blkio"), "blkio.throttle.io_service_bytes_recursive"
        ) or (None, None)
        return Counters(
            cpu_s=nanoseconds / 1e9,
            memory=max(0, used - told.get("total_inactive_file", 0)),
            memory_limit=most if most is not None and most < counters.NO_LIMIT else None,
            read=read,
            written=written,
            received=received,
            sent=sent,
            pids=self._or_none(int, self._folders.get("pids"), "pids.current"),
        )

    def _version_2(self, folder: Path, received: int | None, sent: int | None) -> Counters:
        microseconds = counters.table(self._files.text(folder / "cpu.stat"))["usage_usec"]
        used = int(self._files.text(folder / "memory.current"))
        idle = counters.table(self._files.text(folder / "memory.stat")).get("inactive_file", 0)
        read, written = self._or_none(counters.io_version_2, folder, "io.stat") or (None, None)
        return Counters(
            cpu_s=microseconds / 1e6,
            memory=max(0, used - idle),
            memory_limit=self._or_none(counters.limit, folder, "memory.max"),
            read=read,
            written=written,
            received=received,
            sent=sent,
            pids=self._or_none(int, folder, "pids.current"),
        )

    def _or_none(self, parse: Callable[[str], T], folder: Path | None, name: str) -> T | None:
        """A controller may be switched off for the container, or for the machine."""
        if folder is None:
            return None
        try:
            return parse(self._files.text(folder / name))
        except (OSError, ValueError):
            return None


def _own_network(process: int, proc: Path) -> bool:
    """One that uses the machine's own network has none of its own to count."""
    try:
        return os.readlink("ns/net", dir_fd=process) != os.readlink(proc / "self" / "ns" / "net")
    except OSError:  # not to be seen: the files say the same of whoever asks
        return False
