"""What this ZFS can do: tried once, when the store is opened, on names that cannot exist."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, fields

from appliance.storage.argv import run
from appliance.storage.zfs.command import QUICK_S

log = logging.getLogger(__name__)

_UNKNOWN = re.compile(r"invalid option|unrecognized command|invalid property|too many arguments")


@dataclass(frozen=True, slots=True)
class Abilities:
    """All of them on OpenZFS 2.0 and later, none of them on zfs-fuse 0.7."""

    written: bool
    """Snapshots and volumes know how much was written since the snapshot before."""
    clones: bool
    """Snapshots know their clones."""
    several: bool
    """One command takes several snapshots, at one instant, and destroys several."""
    foretell: bool
    """A destroy can be tried out and says what would come back."""
    diff: bool
    raw: bool
    """An encrypted dataset can be sent as it is, without its key."""
    resumable: bool
    """A receive that was cut off goes on where it ended."""


def abilities(base: str) -> Abilities:
    """`base` is a dataset that exists; with a colon after it, it is a name that the store never gives."""
    none = f"{base}:none"
    found = Abilities(
        written=_known("get", "-H", "-o", "value", "written", base),
        clones=_known("get", "-H", "-o", "value", "clones", base),
        several=_known("snapshot", f"{none}@a", f"{none}@b"),
        foretell=_known("destroy", "-nvp", f"{none}@a"),
        diff=_known("diff"),
        raw=_known("send", "-w"),
        resumable=_known("receive", "-s"),
    )
    lacking = [field.name for field in fields(found) if not getattr(found, field.name)]
    log.info("ZFS below %s: %s", base, f"without {', '.join(lacking)}" if lacking else "nothing is lacking")
    return found


def _known(*arguments: str) -> bool:
    answer = run(["zfs", *arguments], timeout_s=QUICK_S)
    return not (answer.code and _UNKNOWN.search(answer.err))
