"""Ending a process inside a container from outside. The engine can start one there (exec) and cannot end it."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

log = logging.getLogger(__name__)


def kill_inside(pid: int, container_id: str) -> bool:
    """SIGKILL to a process of this machine if it belongs to that container; False where it does not, or is gone.

    `pid` is what the engine says. It is checked against the process's control group, so that an engine with process
    numbers of its own (another machine, a virtual machine) cannot make this end a stranger.
    """
    if pid <= 1:
        return False
    try:
        handle = os.pidfd_open(pid)  # from here on it is this process and not a later one of the same number
    except OSError:
        return False
    try:
        if container_id not in Path(f"/proc/{pid}/cgroup").read_text():
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError as error:
        log.debug("process %d of container %s was not ended: %s", pid, container_id[:12], error)
        return False
    finally:
        os.close(handle)
    return True
