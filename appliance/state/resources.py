"""Declared resources: desired spec with a generation, observed status, and every earlier revision."""

from __future__ import annotations

import difflib
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.errors import Conflict, NotFound
from appliance.state import events
from appliance.state.db import Connection, Row

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One row. `generation` counts spec changes; `observed` is the generation that `status` describes."""

    uid: str
    kind: str
    name: str
    generation: int
    spec: dict[str, Any]
    source: str
    """Who declared it: `file:NAME.yaml`, `cli`, `api` or `tui`."""
    desired: str
    """`running` or `stopped`: what the user asked for, apart from the spec."""
    deleting: bool
    created: float
    updated: float
    phase: str
    message: str
    observed: int
    status: dict[str, Any]
    purging: bool = False
    """While it is deleted: it goes for ever, not into the trash."""


@dataclass(frozen=True, slots=True)
class Revision:
    generation: int
    spec: dict[str, Any]
    source: str
    created: float


def get(db: Connection, kind: str, name: str) -> Resource:
    """Raises NotFound."""
    if found := find(db, kind, name):
        return found
    if db.execute("SELECT 1 FROM trash WHERE kind = ? AND name = ? AND NOT going", (kind, name)).fetchone():
        raise NotFound(
            f"no {kind} named {name!r}: it was deleted", hint=f"`appliance {kind} undelete {name}` brings it back"
        )
    names = [row["name"] for row in db.execute("SELECT name FROM resources WHERE kind = ?", (kind,))]
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise NotFound(f"no {kind} named {name!r}", hint=f"{meant}`appliance get {kind}s` lists what there is")


def find(db: Connection, kind: str, name: str) -> Resource | None:
    row = db.execute("SELECT * FROM resources WHERE kind = ? AND name = ?", (kind, name)).fetchone()
    return _resource(row) if row else None


def formerly(db: Connection, kind: str, name: str) -> Resource | None:
    """The one that had this name; of several the one that was changed last."""
    row = db.execute(
        "SELECT resources.* FROM resources, json_each(resources.status, '$.former') AS old"
        " WHERE kind = ? AND old.value = ? ORDER BY updated DESC LIMIT 1",
        (kind, name),
    ).fetchone()
    return _resource(row) if row else None


def find_uid(db: Connection, uid: str) -> Resource | None:
    row = db.execute("SELECT * FROM resources WHERE uid = ?", (uid,)).fetchone()
    return _resource(row) if row else None


def every(db: Connection, kind: str | None = None) -> list[Resource]:
    """By kind and name."""
    where, values = ("WHERE kind = ?", (kind,)) if kind else ("", ())
    rows = db.execute(f"SELECT * FROM resources {where} ORDER BY kind, name", values)
    return [_resource(row) for row in rows]


def running(db: Connection, kind: str) -> list[Resource]:
    """Those that are to run, by name."""
    rows = db.execute("SELECT * FROM resources WHERE kind = ? AND desired = 'running' ORDER BY name", (kind,))
    return [_resource(row) for row in rows]


def new_uid() -> str:
    return secrets.token_hex(8)


def put(
    db: Connection,
    kind: str,
    name: str,
    spec: Json,
    *,
    source: str,
    now: float,
    desired: str = "running",
    uid: str = "",
) -> tuple[Resource, str]:
    """Declare `spec`. The second value is `created`, `updated` or `unchanged`. Raises Conflict while it is deleted.

    An update keeps `desired`; an unchanged spec takes over `source` only, so a file may adopt what a command made.
    `uid` is that of a new resource whose volumes are there before its row.
    """
    text = json.dumps(spec)  # the order of a spec's keys is the user's: jobs are shown in it
    old = find(db, kind, name)
    if old and old.deleting:
        raise Conflict(f"{kind} {name!r} is being deleted", hint="wait until it is gone, then apply again")
    if old and json.dumps(old.spec) == text:
        if old.source != source:
            db.execute("UPDATE resources SET source = ? WHERE uid = ?", (source, old.uid))
        return get(db, kind, name), "unchanged"
    uid = old.uid if old else uid or new_uid()
    generation = old.generation + 1 if old else 1
    if old:
        db.execute(
            "UPDATE resources SET spec = ?, generation = ?, source = ?, updated = ? WHERE uid = ?",
            (text, generation, source, now, uid),
        )
    else:
        db.execute(
            "INSERT INTO resources (uid, kind, name, generation, spec, source, desired, created, updated)"
            " VALUES (?, ?, ?, 1, ?, ?, ?, ?, ?)",
            (uid, kind, name, text, source, desired, now, now),
        )
    db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?)", (uid, generation, text, source, now))
    change = "updated" if old else "created"
    events.record(db, kind, name, change.capitalize(), f"{change} by {source}, generation {generation}", now=now)
    return get(db, kind, name), change


def renew(db: Connection, uid: str, *, source: str, now: float) -> None:
    """Another generation of the same spec."""
    db.execute("UPDATE resources SET generation = generation + 1, updated = ? WHERE uid = ?", (now, uid))
    db.execute(
        "INSERT INTO revisions SELECT uid, generation, spec, ?, ? FROM resources WHERE uid = ?", (source, now, uid)
    )


def set_author(db: Connection, uid: str, generation: int, author: str) -> None:
    """Who asked for that generation, where the source of its resource does not say."""
    db.execute("UPDATE revisions SET source = ? WHERE uid = ? AND generation = ?", (author, uid, generation))


def set_desired(db: Connection, uid: str, desired: str, *, now: float) -> None:
    db.execute("UPDATE resources SET desired = ?, updated = ? WHERE uid = ?", (desired, now, uid))


def ask_again(db: Connection, uid: str, *, now: float) -> None:
    """What failed for it is tried at once, as if it had been declared anew."""
    db.execute("UPDATE resources SET updated = ? WHERE uid = ?", (now, uid))


def set_source(db: Connection, uid: str, source: str) -> None:
    db.execute("UPDATE resources SET source = ? WHERE uid = ?", (source, uid))


def set_deleting(db: Connection, uid: str, *, now: float, purge: bool = False) -> None:
    """`purge`: for ever, also where its kind has a trash. Asked for once, that stays."""
    db.execute(
        "UPDATE resources SET deleting = max(deleting, ?), updated = ? WHERE uid = ?", (2 if purge else 1, now, uid)
    )


def rename(db: Connection, uid: str, name: str, spec: Json, *, status: Json, source: str, now: float) -> None:
    """Another name is another generation; all that is kept under the uid stays its own. The name must be free."""
    db.execute(
        "UPDATE resources SET name = ?, spec = ?, status = ?, source = ?, generation = generation + 1, updated = ?"
        " WHERE uid = ?",
        (name, json.dumps(spec), json.dumps(status), source, now, uid),
    )
    db.execute(
        "INSERT INTO revisions SELECT uid, generation, spec, ?, ? FROM resources WHERE uid = ?", (source, now, uid)
    )


def bring_back(db: Connection, row: Resource, past: Iterable[Revision], *, now: float) -> None:
    """A resource whose row has gone, with its uid, generation and revisions. The name must be free."""
    db.execute(
        "INSERT INTO resources (uid, kind, name, generation, spec, source, desired, created, updated, phase, message,"
        " observed, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row.uid, row.kind, row.name, row.generation, json.dumps(row.spec), row.source, row.desired),
            *(row.created, now, row.phase, row.message, row.observed, json.dumps(row.status)),
        ),
    )
    db.executemany(
        "INSERT INTO revisions VALUES (?, ?, ?, ?, ?)",
        [(row.uid, one.generation, json.dumps(one.spec), one.source, one.created) for one in past],
    )


def set_status(
    db: Connection, uid: str, *, generation: int, phase: str, message: str = "", status: Json | None = None
) -> bool:
    """Write what was observed of `generation`. False: the spec has changed meanwhile and nothing was written.

    `status` replaces the old status document; None keeps it.
    """
    done = db.execute(
        "UPDATE resources SET phase = ?, message = ?, observed = ?, status = coalesce(?, status)"
        " WHERE uid = ? AND generation = ?",
        (phase, message, generation, None if status is None else json.dumps(status), uid, generation),
    )
    return done.rowcount == 1


def remove(db: Connection, uid: str) -> None:
    db.execute("DELETE FROM resources WHERE uid = ?", (uid,))


def revisions(db: Connection, uid: str) -> Iterator[Revision]:
    """Newest first."""
    for row in db.execute("SELECT * FROM revisions WHERE uid = ? ORDER BY generation DESC", (uid,)):
        yield Revision(row["generation"], json.loads(row["spec"]), row["source"], row["created"])


def forget_revision(db: Connection, uid: str, generation: int) -> None:
    """The newest is what is declared, and stays."""
    db.execute(
        "DELETE FROM revisions WHERE uid = ? AND generation = ?"
        " AND generation < (SELECT generation FROM resources WHERE uid = ?)",
        (uid, generation, uid),
    )


def _resource(row: Row) -> Resource:
    return Resource(
        uid=row["uid"],
        kind=row["kind"],
        name=row["name"],
        generation=row["generation"],
        spec=json.loads(row["spec"]),
        source=row["source"],
        desired=row["desired"],
        deleting=bool(row["deleting"]),
        created=row["created"],
        updated=row["updated"],
        phase=row["phase"],
        message=row["message"],
        observed=row["observed"],
        status=json.loads(row["status"]),
        purging=row["deleting"] == 2,
    )
