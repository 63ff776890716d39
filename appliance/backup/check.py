"""Read every point of a backup to its last byte and compare it with its digests.

A program of its own, as `pack` is. Asked on stdin: `target`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.backup.manifest import Chunk, read
from appliance.backup.target import Target


def work(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Raises Damaged at the first thing that is not what was written."""
    target = Target.open(Path(asked["target"]))
    points = target.points()
    manifests = {tree.manifest for point in points for tree in point.trees}
    seen: set[bytes] = set()
    checked = done = 0
    for number, manifest in enumerate(sorted(manifests), start=1):
        for chunk in chunks(target, manifest):
            if (digest := bytes.fromhex(chunk.digest)) not in seen:
                seen.add(digest)
                checked += len(target.objects.read(chunk))
            done = number
            yield {"read": checked, "trees": done, "of": len(manifests), "points": len(points)}
    yield {"read": checked, "trees": len(manifests), "of": len(manifests), "points": len(points)}


def chunks(target: Target, manifest: str) -> Iterator[Chunk]:
    """The pieces that a manifest names."""
    with target.objects.open_manifest(manifest) as file:
        for entry in read(file, manifest):
            yield from entry.chunks
