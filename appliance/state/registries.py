"""Logins at image registries. A password that is stored here cannot be read without the vault's key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from appliance.state.db import Connection


@dataclass(frozen=True, slots=True)
class Registry:
    name: str
    url: str
    """As it was given, such as `https://ghcr.io` or `gcr.io/project`."""
    username: str
    sealed: bytes = field(repr=False)
    updated: float


def put(db: Connection, registry: Registry) -> None:
    row = (registry.name, registry.url, registry.username, registry.sealed, registry.updated)
    db.execute("INSERT OR REPLACE INTO registries VALUES (?, ?, ?, ?, ?)", row)


def find(db: Connection, name: str) -> Registry | None:
    row = db.execute("SELECT * FROM registries WHERE name = ?", (name,)).fetchone()
    return Registry(**row) if row else None


def every(db: Connection) -> Iterator[Registry]:
    """By name."""
    for row in db.execute("SELECT * FROM registries ORDER BY name"):
        yield Registry(**row)


def delete(db: Connection, name: str) -> bool:
    return db.execute("DELETE FROM registries WHERE name = ?", (name,)).rowcount == 1
