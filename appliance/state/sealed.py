"""Sealed secrets. What is stored here cannot be read without the vault's key."""

from __future__ import annotations

from appliance.state.db import Connection


def put(db: Connection, name: str, sealed: bytes, *, now: float) -> None:
    db.execute("INSERT OR REPLACE INTO secrets VALUES (?, ?, ?)", (name, sealed, now))


def find(db: Connection, name: str) -> bytes | None:
    row = db.execute("SELECT sealed FROM secrets WHERE name = ?", (name,)).fetchone()
    return bytes(row["sealed"]) if row else None


def names(db: Connection) -> list[tuple[str, float]]:
    """Names and the times they were set, by name."""
    return [(row["name"], row["updated"]) for row in db.execute("SELECT name, updated FROM secrets ORDER BY name")]


def delete(db: Connection, name: str) -> bool:
    return db.execute("DELETE FROM secrets WHERE name = ?", (name,)).rowcount == 1
