"""Versions of datasets and the tags that point at them. A committed version never changes again."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.state.db import Connection, Row


@dataclass(frozen=True, slots=True)
class Version:
    """One version. `dataset` is the resource's uid, `version` 7 characters of a-z and 0-9; times are unix seconds."""

    dataset: str
    version: str
    volume: str
    message: str
    created: float
    committed: float | None
    """None while its content may still change."""
    bytes: int
    """Bytes that its volume referred to at the commit."""
    run: str
    job: str
    parent: str = ""
    """`DATASETUID:VERSION` that it was branched from; empty: it began empty."""
    digest: str = ""
    """Of the whole content, where it was put file by file; empty where nobody has read it all."""


def add(db: Connection, version: Version) -> None:
    db.execute(
        "INSERT INTO versions (dataset, version, volume, message, created, committed, bytes, run, job, parent, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            version.dataset,
            version.version,
            version.volume,
            version.message,
            version.created,
            version.committed,
            version.bytes,
            version.run,
            version.job,
            version.parent,
            version.digest,
        ),
    )


def find(db: Connection, dataset: str, version: str) -> Version | None:
    row = db.execute("SELECT * FROM versions WHERE dataset = ? AND version = ?", (dataset, version)).fetchone()
    return _version(row) if row else None


def latest(db: Connection, dataset: str) -> Version | None:
    """The version that was committed last."""
    row = db.execute(
        "SELECT * FROM versions WHERE dataset = ? AND committed IS NOT NULL ORDER BY committed DESC, rowid DESC",
        (dataset,),
    ).fetchone()
    return _version(row) if row else None


def every(db: Connection, dataset: str) -> list[Version]:
    """Newest first, uncommitted ones too."""
    rows = db.execute("SELECT * FROM versions WHERE dataset = ? ORDER BY created DESC, rowid DESC", (dataset,))
    return [_version(row) for row in rows]


def committed(db: Connection) -> list[Version]:
    """Of all datasets, oldest first."""
    rows = db.execute("SELECT * FROM versions WHERE committed IS NOT NULL ORDER BY committed, rowid")
    return [_version(row) for row in rows]


def volumes(db: Connection) -> set[str]:
    """The volumes of all versions of all datasets."""
    return {row["volume"] for row in db.execute("SELECT volume FROM versions")}


def of_volume(db: Connection, volume: str) -> list[Version]:
    """All that share this content: a version and its branches."""
    return [_version(row) for row in db.execute("SELECT * FROM versions WHERE volume = ? ORDER BY rowid", (volume,))]


def children(db: Connection, parent: str) -> list[Version]:
    """Made from `DATASETUID:VERSION`, as branches or with it as their base; oldest first."""
    return [_version(row) for row in db.execute("SELECT * FROM versions WHERE parent = ? ORDER BY rowid", (parent,))]


def of_run(db: Connection, run: str) -> list[Version]:
    """What the jobs of a run have written, oldest first."""
    return [_version(row) for row in db.execute("SELECT * FROM versions WHERE run = ? ORDER BY rowid", (run,))]


def open_uploads(db: Connection) -> list[Version]:
    """Versions that are not committed and that no job writes, of all datasets."""
    rows = db.execute("SELECT * FROM versions WHERE committed IS NULL AND run = '' ORDER BY rowid")
    return [_version(row) for row in rows]


def commit(
    db: Connection, dataset: str, version: str, *, message: str, size: int, now: float, digest: str = ""
) -> bool:
    """`size` in bytes; an empty message keeps the one there is. False: it is committed already, or gone."""
    done = db.execute(
        "UPDATE versions SET committed = ?, bytes = ?, digest = ?, message = coalesce(nullif(?, ''), message)"
        " WHERE dataset = ? AND version = ? AND committed IS NULL",
        (now, size, digest, message, dataset, version),
    )
    return done.rowcount == 1


def remove(db: Connection, dataset: str, version: str) -> bool:
    """Drop a version that is not committed. False: there is no such one."""
    done = db.execute(
        "DELETE FROM versions WHERE dataset = ? AND version = ? AND committed IS NULL", (dataset, version)
    )
    return done.rowcount == 1


def drop(db: Connection, dataset: str, version: str) -> None:
    """A committed version too, with the tags that point at it."""
    db.execute("DELETE FROM tags WHERE dataset = ? AND version = ?", (dataset, version))
    db.execute("DELETE FROM versions WHERE dataset = ? AND version = ?", (dataset, version))


def set_tag(db: Connection, dataset: str, tag: str, version: str) -> None:
    """A tag that exists moves."""
    db.execute(
        "INSERT INTO tags (dataset, tag, version) VALUES (?, ?, ?)"
        " ON CONFLICT (dataset, tag) DO UPDATE SET version = excluded.version",
        (dataset, tag, version),
    )


def find_tag(db: Connection, dataset: str, tag: str) -> str | None:
    """The version a tag points at."""
    row = db.execute("SELECT version FROM tags WHERE dataset = ? AND tag = ?", (dataset, tag)).fetchone()
    return str(row["version"]) if row else None


def remove_tag(db: Connection, dataset: str, tag: str) -> bool:
    return db.execute("DELETE FROM tags WHERE dataset = ? AND tag = ?", (dataset, tag)).rowcount == 1


def tags(db: Connection, dataset: str) -> dict[str, str]:
    """Tag -> version, by tag."""
    rows = db.execute("SELECT tag, version FROM tags WHERE dataset = ? ORDER BY tag", (dataset,))
    return {row["tag"]: row["version"] for row in rows}


def _version(row: Row) -> Version:
    return Version(**{key: row[key] for key in row.keys()})  # noqa: SIM118 -- a Row iterates over values
