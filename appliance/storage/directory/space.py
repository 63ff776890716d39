"""Whose bytes they are in a plain directory: files shared by hard links are counted by a program of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import StorageError
from appliance.storage.argv import run
from appliance.storage.directory import measure
from appliance.storage.trees import child
from appliance.storage.trees.ctime import WALK_S


@dataclass(frozen=True, slots=True)
class Measured:
    """In bytes; see `measure`."""

    live: int
    each: tuple[int, ...]
    held: int
    only: int
    portion: int


def measured(live: Path | None, snapshots: Sequence[Path]) -> Measured:
    argv = [*child.argv(measure.__name__), str(live or ""), *map(str, snapshots)]
    answer = run(argv, timeout_s=WALK_S)
    if answer.code:
        raise StorageError(f"cannot measure: {answer.err}", where=str(live), hint="look at the directory's permissions")
    found = json.loads(answer.out)
    return Measured(found["live"], tuple(found["each"]), found["held"], found["only"], found["portion"])
