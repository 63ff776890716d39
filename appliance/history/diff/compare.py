"""The differences between two moments of a workspace. A moment is a snapshot's id, or `now` for the live content."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from appliance import paths
from appliance.errors import NotFound
from appliance.history.diff import unchanged, walk
from appliance.history.diff.tree import Options
from appliance.history.workspaces import NOW, Workspaces
from appliance.storage.trees.pinning import parts_of

if TYPE_CHECKING:
    from appliance import wire

MOST = 100_000
"""Changes that are told where nobody asks for another number."""


def moments(workspaces: Workspaces, uid: str, older: str = "", newer: str = "") -> tuple[str, str]:
    """What is compared where nothing is said: the newest snapshot with now. Raises NotFound where there is none."""
    if older:
        return older, newer or NOW
    timeline = workspaces.timeline(uid)
    if not timeline:
        raise NotFound("the workspace has no snapshot to compare with", hint="`appliance notebook snapshot NAME`")
    return timeline[0].id, newer or NOW


@asynccontextmanager
async def comparing(
    workspaces: Workspaces,
    uid: str,
    older: str,
    newer: str,
    *,
    path: str = "",
    checksum: bool = False,
    most: int = MOST,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Batches of lines of JSON, as `walk.walking` gives them. Entering raises what keeps it from beginning.

    `path`, as the wire has it, bounds it to what is below. `checksum` reads every file of the same size. Where the
    store can tell what may differ, only that is looked at.
    """
    under = "/".join(parts_of(paths.decode(path)))
    async with workspaces.view(uid, older) as before, workspaces.view(uid, newer) as after:
        hints = None if checksum or under else await workspaces.hints(uid, older, newer)
        times = [workspaces.find(uid, moment).created for moment in (older, newer) if moment != NOW]
        doubt_ns = unchanged.doubt_ns(min(times, default=time.time()))
        options = Options(checksum=checksum, under=under, most=most, doubt_ns=doubt_ns)
        async with walk.walking(before, after, options, hints) as lines:
            yield lines


async def changes(
    workspaces: Workspaces, uid: str, older: str, newer: str, **options: Any
) -> AsyncIterator[wire.FileChange | wire.DiffEnd]:
    """The same, parsed. Closing the iterator ends the work."""
    async with comparing(workspaces, uid, older, newer, **options) as batches:
        async for batch in batches:
            for line in batch.splitlines():
                yield cast("wire.FileChange | wire.DiffEnd", json.loads(line))


async def one_file(workspaces: Workspaces, uid: str, older: str, newer: str, path: str, *, was: str = "") -> bytes:
    """A `wire.FileDiff` as JSON. `was` is the path in the older moment, where it is another one.

    Raises NotFound where neither moment has it, UsageError for a directory and for a path that leads out.
    """
    for each in (path, was):
        parts_of(paths.decode(each))
    async with workspaces.view(uid, older) as before, workspaces.view(uid, newer) as after:
        return await walk.one_file(before, after, path, was)
