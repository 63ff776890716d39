"""What the time on GPUs came to, hour by hour: one row for each hour, card and holder. Nothing expires here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from appliance.state.db import Connection, Row

HOUR_S = 3600

By = Literal["owner", "name", "kind", "device"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Of one hour, or what has come since the last one was added to it."""

    hour: int
    """Unix seconds of its beginning."""
    device: str
    """UUID of the GPU or of the instance."""
    kind: str
    """Of the holder: notebook, execution, run, deployment; `idle` and `unattributed` stand for nobody."""
    name: str
    uid: str
    part: str
    owner: str
    held_s: float = 0.0
    used_s: float | None = None
    """Seconds in which its kernels ran; None: it could not be seen."""
    memory_gb_s: float | None = None
    """Gigabytes (10^9 bytes) times seconds."""
    energy_j: float | None = None
    measured: bool = True
    """All of the energy is what the card's counter said, and was this holder's alone."""


@dataclass(frozen=True, slots=True)
class Total:
    key: str
    held_s: float
    used_s: float | None
    memory_gb_s: float | None
    energy_j: float | None
    measured: bool


def add(db: Connection, entries: Iterable[Entry]) -> None:
    """To what is there of the same hour, card and holder. What is None on both sides stays unknown."""
    db.executemany(
        "INSERT INTO gpu_ledger (hour, device, kind, name, uid, part, owner, held_s, used_s, memory_gb_s, energy_j,"
        " measured) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (hour, device, kind, uid, part, owner) DO UPDATE SET name = excluded.name,"
        " held_s = held_s + excluded.held_s,"
        " used_s = coalesce(used_s + excluded.used_s, used_s, excluded.used_s),"
        " memory_gb_s = coalesce(memory_gb_s + excluded.memory_gb_s, memory_gb_s, excluded.memory_gb_s),"
        " energy_j = coalesce(energy_j + excluded.energy_j, energy_j, excluded.energy_j),"
        " measured = min(measured, excluded.measured)",
        [
            (
                *(one.hour, one.device, one.kind, one.name, one.uid, one.part, one.owner),
                *(one.held_s, one.used_s, one.memory_gb_s, one.energy_j, one.measured),
            )
            for one in entries
        ],
    )


def rows(db: Connection, *, since: float, until: float | None = None) -> list[Entry]:
    """Of the hours that end after `since` and begin before `until`, unix seconds; oldest first."""
    found = db.execute(
        "SELECT * FROM gpu_ledger WHERE hour > ? AND hour < ? ORDER BY hour, device, kind, name, part",
        (since - HOUR_S, float("inf") if until is None else until),
    )
    return [_entry(row) for row in found]


def totals(db: Connection, by: By, *, since: float) -> list[Total]:
    """Sums by that column over the hours that end after `since`; who held most comes first."""
    columns = {"owner": "owner", "name": "kind || '/' || name", "kind": "kind", "device": "device"}
    found = db.execute(
        f"SELECT {columns[by]} AS key, sum(held_s) AS held_s, sum(used_s) AS used_s, sum(memory_gb_s) AS memory_gb_s,"
        " sum(energy_j) AS energy_j, min(measured) AS measured FROM gpu_ledger WHERE hour > ?"
        " GROUP BY key ORDER BY sum(held_s) DESC, key",
        (since - HOUR_S,),
    )
    return [Total(**{key: row[key] for key in row.keys()} | {"measured": bool(row["measured"])}) for row in found]  # noqa: SIM118


def held_by_owner(db: Connection, *, since: float) -> Sequence[tuple[str, int, float]]:
    """Owner, hour, seconds held: for the fair order."""
    found = db.execute(
        "SELECT owner, hour, sum(held_s) FROM gpu_ledger WHERE hour > ? AND held_s > 0 GROUP BY owner, hour",
        (since - HOUR_S,),
    )
    return [(owner, hour, seconds) for owner, hour, seconds in found]


def _entry(row: Row) -> Entry:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- iterating a row gives values
    return Entry(**values | {"measured": bool(row["measured"])})
