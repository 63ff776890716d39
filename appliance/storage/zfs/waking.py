"""Keeps zfs-fuse going: it stops serving every file system where a process is killed at the wrong moment.

One of its threads at a time waits for requests, and reads the file system of which the kernel says that there is one.
If that request is gone by then, as its process was killed, the read blocks, and nobody takes requests of any file
system any more. The next request to that same file system ends it, so each one is asked a trifle all the time.
OpenZFS lives in the kernel and needs none of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from appliance.storage.zfs.mounts import mounts

log = logging.getLogger(__name__)

PERIOD_S = 2.0
PATIENCE_S = 0.5
"""Within which an answer is expected; then the other file systems are asked beside it."""

_start = threading.Lock()
_started = False


def start() -> None:
    """Begin, once in this process, where ZFS is zfs-fuse. It goes on until the process ends."""
    global _started
    with _start:
        if not _started and not Path("/sys/module/zfs").exists():
            threading.Thread(target=_keep_asking, name="zfs-fuse is kept awake", daemon=True).start()
            _started = True


def _keep_asking() -> None:
    pause = threading.Event()
    while not pause.wait(PERIOD_S):
        try:
            ask([mount.path for mount in mounts() if mount.type == "fuse.zfs"])
        except Exception:
            log.exception("zfs-fuse could not be asked")


def ask(paths: Sequence[str]) -> None:
    """One request to each. Returns when all have answered; nobody waits behind one that does not."""
    left = iter(paths)
    lock = threading.Lock()
    working: list[threading.Thread] = []

    def work() -> None:
        while True:
            with lock:
                path = next(left, None)
            if path is None:
                return
            with contextlib.suppress(OSError):  # unmounted meanwhile
                os.statvfs(path)  # never answered from the kernel's caches

    def more() -> threading.Thread:
        thread = threading.Thread(target=work, name="zfs-fuse is asked", daemon=True)
        thread.start()
        working.append(thread)
        return thread

    for _ in paths:
        newest = more()
        newest.join(PATIENCE_S)
        if not newest.is_alive():
            break
    for thread in working:
        thread.join(PERIOD_S)
