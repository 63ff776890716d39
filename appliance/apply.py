"""The one door for a spec, whoever brings it: the watched folder, the CLI, the API or the TUI.

A spec becomes desired state with a generation; the kind's controller does the rest. All documents of a file are
applied in one transaction: a file is in force as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance import revisions
from appliance.errors import Conflict
from appliance.spec.load import Loaded
from appliance.state import events, resources, trash
from appliance.state.db import Connection, Database
from appliance.state.resources import Resource

PASSIVE = frozenset({"workflow", "dataset"})
"""Kinds that nobody has to do anything for: they are ready as soon as they are declared."""

REMOVED = "removed:"
"""Source prefix of what a file declared that is gone."""


@dataclass(frozen=True, slots=True)
class Applied:
    kind: str
    name: str
    uid: str
    change: str
    """created, updated or unchanged."""
    warnings: tuple[str, ...]


class _Undo(Exception):
    """Ends a dry run's transaction."""


def apply(db: Database, specs: Sequence[Loaded], *, source: str, now: float, dry_run: bool = False) -> list[Applied]:
    """Declare every spec. Raises Conflict where a file declares what another file declares already."""
    applied: list[Applied] = []
    try:
        with db.write() as transaction:
            applied = [_put(transaction, spec, source, now) for spec in specs]
            if dry_run:
                raise _Undo
    except _Undo:
        pass
    return applied


def _put(db: Connection, spec: Loaded, source: str, now: float) -> Applied:
    warnings = [str(problem) for problem in spec.warnings]
    old = resources.find(db, spec.kind, spec.name)
    if old and old.source.startswith("file:") and old.source != source:
        if source.startswith("file:"):
            raise Conflict(
                f"{spec.kind} {spec.name!r} is declared by {old.source.removeprefix('file:')} already",
                hint="give one of the two another name",
            )
        warnings.append(
            f"{old.source.removeprefix('file:')} declares this {spec.kind} and wins again when that file changes"
        )
        source = old.source
    resource, change = resources.put(db, spec.kind, spec.name, spec.document, source=source, now=now)
    if change == "created" and any(not row.going for row in trash.find(db, spec.kind, spec.name)):
        told = f"a deleted {spec.kind} {spec.name!r} is kept; this is another one"
        warnings.append(f"{told}: `appliance {spec.kind} undelete {spec.name} --as NEW` brings that back")
    if old and old.source.startswith(REMOVED) and old.desired == "stopped":
        resources.set_desired(db, resource.uid, "running", now=now)
        change = "updated"
    if spec.kind == revisions.KIND:
        revisions.declare(db, resource, now=now)
    if spec.kind in PASSIVE:
        resources.set_status(db, resource.uid, generation=resource.generation, phase="Ready")
    elif spec.kind == "repository" and change != "unchanged":  # a push before the first look starts nothing
        unseen = "not looked at yet"
        resources.set_status(db, resource.uid, generation=resource.generation, phase="Pending", message=unseen)
    return Applied(spec.kind, spec.name, resource.uid, change, tuple(warnings))


def withdraw(db: Connection, kind: str, name: str, *, source: str, now: float) -> str | None:
    """A file that declared this is gone: what it runs stops, what it stored stays. The uid, or None if not its."""
    resource = resources.find(db, kind, name)
    if resource is None or resource.source != source:
        return None
    resources.set_desired(db, resource.uid, "stopped", now=now)
    resources.set_source(db, resource.uid, REMOVED + source)
    events.record(
        db,
        kind,
        name,
        "Withdrawn",
        f"{source.removeprefix('file:')} no longer declares it: stopped, its data is kept",
        now=now,
    )
    return resource.uid


def switch(db: Connection, resource: Resource, desired: str, *, source: str, now: float) -> None:
    """Started or stopped by hand: from now on it is that way because somebody wants it, not for a file that is gone."""
    resources.set_desired(db, resource.uid, desired, now=now)
    if resource.source.startswith(REMOVED):
        resources.set_source(db, resource.uid, source)


def delete(db: Database, kind: str, name: str, *, source: str, now: float, purge: bool = False) -> str:
    """Ask for the end of a resource. Raises NotFound, Conflict. The uid.

    A workflow is gone with its row and keeps its runs, a repository is gone with its row; what has a controller is torn
    down by that, a notebook into the trash unless `purge` says that it goes for ever; a dataset is destroyed by the
    caller, who may still be refused, so it is only checked here.
    """
    resource = resources.get(db.read, kind, name)
    if resource.source.startswith("file:") and resource.source != source:
        raise Conflict(
            f"{kind} {name!r} is declared by {resource.source.removeprefix('file:')} in the watched folder",
            hint="remove that file first; that stops it and keeps its data",
        )
    if kind == "dataset":
        return resource.uid
    with db.write() as transaction:
        events.record(transaction, kind, name, "Deleting", f"asked by {source}", now=now)
        if kind in ("workflow", "repository"):
            resources.remove(transaction, resource.uid)
        else:
            resources.set_deleting(transaction, resource.uid, now=now, purge=purge)
    return resource.uid
