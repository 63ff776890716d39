"""Bringing one file, link or directory of a moment back. Blocking; the tools of `trees.tree` see to hostile trees."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import Conflict, NotFound, UsageError
from appliance.state.snapshots import Snapshot
from appliance.storage.base import Store
from appliance.storage.trees import tree
from appliance.storage.trees.pinning import parts_of


def begin(store: Store, wanted: Snapshot, head: str, path: str, to: str = "") -> tree.Replacement:
    """Of `path` of the moment into volume `head`, in its place or at `to`. Nothing is written yet.

    Raises NotFound, UsageError, Conflict: what can be known before.
    """
    source, target = parts_of(path), parts_of(to or path)
    if not source or not target:
        raise UsageError(
            "a file or folder is needed, not the whole workspace",
            hint=f"`appliance notebook rollback NAME {wanted.id}` brings back all of it",
        )
    root = store.path(head)
    with store.view(wanted.volume, wanted.id) as moment, tree.pinned(moment, path):
        pass
    if target != source and _is_there(root, "/".join(target)):
        raise Conflict(f"{to!r} is there already; nothing was changed", hint="give another path with --to")
    return tree.Replacement(root, "/".join(target))


def prepare(store: Store, wanted: Snapshot, path: str, replacement: tree.Replacement) -> None:
    """Copy it beside the rest of the volume, which takes as long as it is large.

    A file has the time of its restoring, so that an editor which has it open does not write over it unasked.
    """
    with store.view(wanted.volume, wanted.id) as moment:
        replacement.prepare(moment, "/".join(parts_of(path)))
    replacement.renew()


def _is_there(root: Path, path: str) -> bool:
    try:
        with tree.pinned(root, path):
            return True
    except NotFound:
        return False
