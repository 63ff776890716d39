"""Let old points of a backup go, and whatever only they had.

Runs in a program of its own, see `child`. Asked on stdin: `target`, `keep`, the number of points that stay, and `new`,
the point that stays whatever its time says. The caller has the lock for writing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.backup.check import chunks
from appliance.backup.manifest import DIGEST
from appliance.backup.objects import MANIFESTS, OBJECTS, sync
from appliance.backup.target import POINTS, Target


def work(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The points go first: a kill leaves objects that nobody names, and the next pruning removes them."""
    target = Target.open(Path(asked["target"]))
    for point_id in target.ids()[: -int(asked["keep"])]:
        if point_id != asked["new"]:
            (target.path / POINTS / f"{point_id}.json").unlink()
    sync(target.path)
    manifests = {tree.manifest for point in target.points() for tree in point.trees}
    objects: set[bytes] = set()
    for manifest in manifests:
        objects.update(bytes.fromhex(chunk.digest) for chunk in chunks(target, manifest))
        yield {"freed": 0}
    freed = _sweep(target.path / MANIFESTS, {bytes.fromhex(manifest) for manifest in manifests})
    freed += _sweep(target.path / OBJECTS, objects)
    yield {"freed": freed}


def _sweep(folder: Path, named: set[bytes]) -> int:
    """Bytes that came back. What a file manager or a person has put there stays."""
    freed = 0
    for shelf in folder.iterdir():
        if shelf.is_symlink() or not shelf.is_dir():
            continue
        for path in shelf.iterdir():
            if DIGEST.fullmatch(path.name) and bytes.fromhex(path.name) not in named:
                freed += path.stat().st_size
                path.unlink()
    return freed
