"""Which pools this machine has, for a person to choose from: one look at the whole machine, then forgotten.

This is what zfslib is right for, on a fresh connection and with a deadline in front of its commands. zfs-fuse refuses
the `-p` that it uses, so there `zpool list` is read here. Never needed for a volume operation.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from appliance.errors import StorageError
from appliance.storage.argv import program_path, run
from appliance.storage.zfs.command import QUICK_S, zpool

LOOK_S = 20


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    health: str
    """As `zpool` writes it: ONLINE, DEGRADED, FAULTED, ..."""


def installed() -> bool:
    return shutil.which("zpool", path=program_path()) is not None


def pools() -> list[Pool]:
    """Raises StorageError where ZFS is not installed or does not answer."""
    if run(["zfs", "version"], timeout_s=QUICK_S).code == 0:
        return _by_zfslib()
    lines = zpool("list", "-H", "-o", "name,health").splitlines()
    return [Pool(*line.split("\t")) for line in lines if "\t" in line]


def _by_zfslib() -> list[Pool]:
    from zfslib import zfslib  # deferred: most starts need no look around

    connection = zfslib.Connection()
    connection.command = ["env", f"PATH={program_path()}", "LC_ALL=C", "timeout", str(LOOK_S)]
    try:
        found = connection.load_poolset(get_mounts=False)
    except (subprocess.CalledProcessError, OSError, AssertionError, KeyError, ValueError) as error:
        raise StorageError(f"the pools cannot be listed: {error}", hint="look at `zpool status`") from error
    return [Pool(str(pool.name), str(pool.get_property("health"))) for pool in found]
