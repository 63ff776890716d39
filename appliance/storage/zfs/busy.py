"""Waiting for a dataset that something still uses."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.storage.zfs.command import Busy
from appliance.storage.zfs.mounts import holders

BUSY_S = 10.0
"""How long a dataset may be busy: an ended container's mounts go away a moment after it."""
_AGAIN_S = 0.1


def patiently(dataset: str, command: Callable[[], object], *, alone: bool = True) -> None:
    """Try until it is not busy. `alone`: not before containers let go, as ZFS unmounts first and then refuses."""
    deadline = time.monotonic() + BUSY_S
    while True:
        who = holders(dataset) if alone else []
        try:
            if who:
                raise Busy(f"{dataset} is in use", where=dataset)
            command()
            return
        except Busy as error:
            if time.monotonic() > deadline:
                users = ", ".join(who) or "a process with an open file or working directory in it"
                raise Busy(error.message, where=error.where, hint=f"it is in use by: {users}") from None
        time.sleep(_AGAIN_S)
