"""A point: what one backup holds, as the JSON that is written last. Standard library only. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from appliance.backup.manifest import DIGEST, Damaged

FORMAT = 1
PREFIX = "backup-"
"""Of the store's snapshots that a backup takes: `backup-ID`."""
ROOM = "system"
ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}", re.ASCII)
"""The moment in UTC, so that ids sort by time, and what makes it the only one of its kind."""
HOME_FILES = ("config.toml", "secret.key", "token", "origin", "telemetry.duckdb", "telemetry.duckdb.wal", "state.db")
"""Of a home, beside its volumes and `specs/`. The state is last: with it a home is there."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One frozen tree: its manifest, its data in bytes, and marks that tell how alike it is to others."""

    key: str
    """What it is a tree of: `moment/ID`, `sealed/VOLUME/TIME`, which never change; `frozen/VOLUME@SNAPSHOT`,
    `live/VOLUME` or `home`."""
    manifest: str
    bytes: int
    marks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    snapshot: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    moments: tuple[Moment, ...]
    """Oldest first."""
    live: Tree | None
    """None: nothing has written to it since its newest moment."""
    sealed: bool


@dataclass(frozen=True, slots=True)
class Point:
    id: str
    created: float
    appliance: str
    """Version of the program that wrote it."""
    instance: str
    store: str
    home: Tree
    volumes: tuple[Volume, ...]
    origin: str
    """Of the appliance and of all that were restored from its backups."""
    skipped: tuple[str, ...] = ()
    """What was not there: volumes of runs that ended meanwhile, and what the store had lost before."""

    @property
    def bytes(self) -> int:
        """Of all trees; what several share counts each time."""
        return sum(tree.bytes for tree in self.trees)

    @property
    def trees(self) -> list[Tree]:
        """Of all volumes, and of the home."""
        found = [self.home]
        for volume in self.volumes:
            found += [moment.tree for moment in volume.moments]
            found += [volume.live] if volume.live else []
        return found

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


def from_json(text: str, where: str) -> Point:
    """Raises Damaged."""
    try:
        row = json.loads(text)
        if row["format"] != FORMAT:
            raise Damaged(
                f"the backup has format {row['format']}, this program knows {FORMAT}",
                where=where,
                hint="use the version of the appliance that wrote it, or a newer one",
            )
        if not ID.fullmatch(row["id"]):
            raise ValueError(f"{row['id']!r} is no id of a point")
        return Point(
            id=row["id"],
            created=float(row["created"]),
            appliance=str(row["appliance"]),
            instance=str(row["instance"]),
            store=str(row["store"]),
            home=tree_of(row["home"]),
            volumes=tuple(_volume(found) for found in row["volumes"]),
            origin=str(row["origin"]),
            skipped=tuple(map(str, row["skipped"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"the description of a point cannot be read: {error}", where=where) from error


def _volume(row: dict[str, Any]) -> Volume:
    moments = tuple(Moment(str(found["snapshot"]), tree_of(found["tree"])) for found in row["moments"])
    live = None if row["live"] is None else tree_of(row["live"])
    return Volume(str(row["name"]), moments, live, bool(row["sealed"]))


def tree_of(row: dict[str, Any]) -> Tree:
    """Raises ValueError, KeyError or TypeError."""
    if not DIGEST.fullmatch(row["manifest"]):
        raise ValueError(f"{row['manifest']!r} is no digest")
    return Tree(str(row["key"]), row["manifest"], int(row["bytes"]), tuple(int(mark) for mark in row["marks"]))
