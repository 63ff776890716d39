"""Requests for GPUs and the leases that they become. A row goes when nothing of its container is on a card any more.

Waiting -> Granted (cards, no container yet) -> Held (container known) -> Freeing (let go) -> no row.
Promised: it gets the cards of the lease that it `follows` as soon as those are free, before anybody else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from appliance.errors import Conflict
from appliance.state.db import Connection, Row

State = Literal["Waiting", "Promised", "Granted", "Held", "Freeing"]
HAS_CARDS = ("Granted", "Held", "Freeing")


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """Times in unix seconds."""

    id: str
    kind: str
    name: str
    uid: str
    part: str
    owner: str
    machine: str
    """As the spec asked, with `gpus`: a lease stays as long as it asks the same."""
    gpus: int
    shape: Mapping[str, Any]
    priority: int
    preemptible: bool
    bound_s: float | None
    state: State
    asked: float
    ready: float | None = None
    """None: it could not begin yet."""
    granted: float | None = None
    released: float | None = None
    counted: float | None = None
    """Until then its time is in the ledger."""
    container: str = ""
    follows: str = ""
    """Id of the lease that a promised one comes after."""
    told: bool = False
    """An event has said that it waits."""
    preempted: bool = False
    """It was asked to make way: who lets it go keeps the place in the queue."""
    message: str = ""
    """What it was given in place of what it asked, or why it is still there."""
    cards: Sequence[str] = field(default=(), compare=True)


def add(db: Connection, one: LeaseRow) -> None:
    """With its cards, which are then its own or shared as `take` says."""
    names = [name for name in LeaseRow.__slots__ if name != "cards"]
    values = [json.dumps(dict(one.shape)) if name == "shape" else getattr(one, name) for name in names]
    db.execute(f"INSERT INTO leases ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)


def take(db: Connection, lease: str, cards: Sequence[str], *, alone: bool) -> None:
    """Raises Conflict where one of the cards is another's alone, or is to be had alone and is another's."""
    for number, card in enumerate(cards):
        other = db.execute(
            "SELECT lease FROM lease_cards WHERE card = ? AND lease != ? AND (alone OR ?)", (card, lease, alone)
        ).fetchone()
        if other is not None:
            raise Conflict(
                f"GPU {card} belongs to lease {other['lease'].partition(':')[0]} already",
                where="gpus",
                hint="`appliance gpu` shows who has which; nothing was given twice",
            )
        db.execute("INSERT OR REPLACE INTO lease_cards VALUES (?, ?, ?, ?)", (card, lease, number, alone))


def adopt(db: Connection, lease: str, cards: Sequence[str]) -> None:
    """They are on the cards, whoever else is: nobody gets one of them before all of those have gone."""
    db.executemany(
        "INSERT OR REPLACE INTO lease_cards VALUES (?, ?, ?, 0)",
        [(card, lease, number) for number, card in enumerate(cards)],
    )


def hand_over(db: Connection, before: str, after: str) -> None:
    """The cards change their lease without having been free."""
    db.execute("UPDATE lease_cards SET lease = ? WHERE lease = ?", (after, before))


def change(db: Connection, lease: str, **columns: Any) -> None:
    """Columns by name, `shape` as a mapping."""
    if "shape" in columns:
        columns["shape"] = json.dumps(dict(columns["shape"]))
    sets = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE leases SET {sets} WHERE id = ?", (*columns.values(), lease))


def remove(db: Connection, lease: str) -> None:
    """With its claim on its cards."""
    db.execute("DELETE FROM leases WHERE id = ?", (lease,))


def every(db: Connection) -> list[LeaseRow]:
    """In the order in which they were asked for."""
    cards: dict[str, list[str]] = {}
    for row in db.execute("SELECT lease, card FROM lease_cards ORDER BY lease, number"):
        cards.setdefault(row["lease"], []).append(row["card"])
    return [_lease(row, cards.get(row["id"], ())) for row in db.execute("SELECT * FROM leases ORDER BY asked, rowid")]


def live(db: Connection, kind: str, uid: str, part: str) -> LeaseRow | None:
    """The one that has not been let go."""
    row = db.execute(
        "SELECT * FROM leases WHERE kind = ? AND uid = ? AND part = ? AND state != 'Freeing'", (kind, uid, part)
    ).fetchone()
    return _lease(row, _cards(db, row["id"])) if row else None


def find(db: Connection, lease: str) -> LeaseRow | None:
    row = db.execute("SELECT * FROM leases WHERE id = ?", (lease,)).fetchone()
    return _lease(row, _cards(db, lease)) if row else None


def _cards(db: Connection, lease: str) -> Sequence[str]:
    found = db.execute("SELECT card FROM lease_cards WHERE lease = ? ORDER BY number", (lease,))
    return [row["card"] for row in found]


def _lease(row: Row, cards: Sequence[str]) -> LeaseRow:
    document = {key: row[key] for key in row.keys()}  # noqa: SIM118 -- iterating a row gives values
    for key in ("preemptible", "told", "preempted"):
        document[key] = bool(document[key])
    return LeaseRow(**document | {"shape": json.loads(document["shape"]), "cards": tuple(cards)})
