"""What one path was at each moment of a workspace: the file's own timeline.

A moment never changes, so what was seen of one is remembered; only the moments since are looked at again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import NotFound
from appliance.history.workspaces import NOW, Workspaces
from appliance.state.snapshots import Snapshot
from appliance.storage.threads import in_thread
from appliance.storage.trees import tree
from appliance.storage.trees.pinning import parts_of, pinned

MOST = 200
"""Moments of one answer, the newest."""
WITHIN_S = 2.0
"""What was not looked at by then is left out of an answer, and is seen when it is asked again: on ZFS each look at
another moment is a clone and a mount."""
REMEMBERED = 50_000
READ = 1 << 20
"""Bytes of a file that is told apart by what is in it; a larger one by its size and modification time."""


@dataclass(frozen=True, slots=True)
class Seen:
    kind: tree.Kind
    size: int
    modified_ns: int
    digest: bytes = b""
    """Of the content; empty: it was not read."""

    def same(self, other: Seen) -> bool:
        """As far as can be told. The clock of a file system may be too coarse to tell two writes apart."""
        if self.digest and other.digest:
            return self.digest == other.digest
        return (self.kind, self.size, self.modified_ns) == (other.kind, other.size, other.modified_ns)


@dataclass(frozen=True, slots=True)
class FileMoment:
    moment: Snapshot
    seen: Seen | None
    """None: the path was not there."""
    changed: bool
    """Another than at the moment before."""


@dataclass(frozen=True, slots=True)
class Answer:
    moments: list[FileMoment]
    """Newest first."""
    now: Seen | None
    now_changed: bool
    """Now differs from the newest moment."""
    whole: bool
    """False: older moments were not looked at."""


class FileMoments:
    def __init__(self, workspaces: Workspaces, tick: Callable[[], float] = time.monotonic) -> None:
        self._workspaces = workspaces
        self._tick = tick
        self._known: OrderedDict[tuple[str, str, str], Seen | None] = OrderedDict()

    async def of(self, uid: str, path: str, *, most: int = MOST) -> Answer:
        """Of `path`, as the file system has it. Raises UsageError for one that leads out, NotFound for no workspace."""
        path = "/".join(parts_of(path))
        timeline = self._workspaces.timeline(uid)
        seen: list[tuple[Snapshot, Seen | None]] = []
        until = self._tick() + WITHIN_S
        for moment in timeline[:most]:
            if self._tick() > until:
                break
            try:
                seen.append((moment, await self._at(uid, moment.id, path)))
            except NotFound:  # pruned meanwhile
                continue
        async with self._workspaces.view(uid, NOW) as root:
            now = await in_thread(look, root, path)
        whole = len(seen) == len(timeline)
        return Answer(list(_told(seen, whole=whole)), now, _differs(now, seen[0][1] if seen else None), whole)

    async def _at(self, uid: str, moment: str, path: str) -> Seen | None:
        key = (uid, moment, path)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        async with self._workspaces.view(uid, moment) as root:
            seen = await in_thread(look, root, path)
        self._known[key] = seen
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return seen


def look(root: Path, path: str) -> Seen | None:
    """None: nothing is there, or a link is on the way. Blocking."""
    try:
        with pinned(root, path) as found:
            about = os.fstat(found)
            digest = _digest(found) if stat.S_ISREG(about.st_mode) and about.st_size <= READ else b""
    except NotFound:
        return None
    return Seen(tree.kind_of(about.st_mode), about.st_size, about.st_mtime_ns, digest)


def _digest(found: int) -> bytes:
    """Of the regular file that this O_PATH descriptor is of; empty where it cannot be read."""
    try:
        with open(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return hashlib.sha256(file.read(READ)).digest()
    except OSError:
        return b""


def _differs(one: Seen | None, other: Seen | None) -> bool:
    return one is not other and (one is None or other is None or not one.same(other))


def _told(seen: list[tuple[Snapshot, Seen | None]], *, whole: bool) -> Iterable[FileMoment]:
    """The oldest one counts as a change where the file is there and nothing older was left out."""
    older = [state for _, state in seen[1:]]
    for (moment, state), before in zip(seen, [*older, None if whole else seen[-1][1]] if seen else (), strict=True):
        yield FileMoment(moment, state, _differs(state, before))
