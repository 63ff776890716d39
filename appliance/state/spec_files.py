"""What the watched folder's files declared the last time they could be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class SpecFile:
    """`path` is relative to the folder. `declares` is from the last good content, whatever the file holds now."""

    path: str
    digest: str
    problem: str
    declares: tuple[tuple[str, str], ...]
    """(kind, name) pairs."""
    updated: float


def every(db: Connection) -> list[SpecFile]:
    return [_spec_file(row) for row in db.execute("SELECT * FROM spec_files ORDER BY path")]


def put(
    db: Connection, path: str, *, digest: str, problem: str, declares: Sequence[tuple[str, str]], now: float
) -> None:
    db.execute(
        "INSERT OR REPLACE INTO spec_files VALUES (?, ?, ?, ?, ?)",
        (path, digest, problem, json.dumps(declares), now),
    )


def remove(db: Connection, path: str) -> None:
    db.execute("DELETE FROM spec_files WHERE path = ?", (path,))


def _spec_file(row: Row) -> SpecFile:
    declares = tuple((kind, name) for kind, name in json.loads(row["declares"]))
    return SpecFile(row["path"], row["digest"], row["problem"], declares, row["updated"])
