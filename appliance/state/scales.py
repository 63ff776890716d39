"""How many replicas a deployment has by its load, where its spec leaves that to the load. Not part of any revision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.state.db import Connection


@dataclass(frozen=True, slots=True)
class Scale:
    """Times in unix seconds."""

    replicas: int
    asleep: bool
    """Scaled to zero: the next request wakes it."""
    reason: str
    """Why it has so many, in words."""
    since: float
    last_request: float | None
    opinions: Sequence[tuple[float, int]] = ()
    """When, and how many replicas the load asked for: the highest of a window counts when there shall be fewer."""


def find(db: Connection, uid: str) -> Scale | None:
    row = db.execute("SELECT * FROM scales WHERE uid = ?", (uid,)).fetchone()
    if row is None:
        return None
    opinions = tuple((at, replicas) for at, replicas in json.loads(row["opinions"]))
    return Scale(row["replicas"], bool(row["asleep"]), row["reason"], row["since"], row["last_request"], opinions)


def since(db: Connection, uid: str) -> float:
    """When the load last asked for another number, unix seconds; 0: its spec says how many there are."""
    row = db.execute("SELECT since FROM scales WHERE uid = ?", (uid,)).fetchone()
    return float(row["since"]) if row else 0.0


def put(db: Connection, uid: str, scale: Scale) -> None:
    db.execute(
        "INSERT OR REPLACE INTO scales (uid, replicas, asleep, reason, since, last_request, opinions)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(uid, scale.replicas, scale.asleep, scale.reason, scale.since, scale.last_request),
            json.dumps([list(opinion) for opinion in scale.opinions]),
        ),
    )


def remove(db: Connection, uid: str) -> None:
    """Its spec says again how many there are."""
    db.execute("DELETE FROM scales WHERE uid = ?", (uid,))
