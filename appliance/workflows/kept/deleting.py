"""A run that is over is deleted by hand, with what is kept of it: capsules, volumes, entries of the step cache.

It is refused as long as anything needs the run. Its events and log lines stay, under a name no other run is given.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from appliance.datasets.lineage import ref_of
from appliance.errors import ApplianceError, Conflict, NotFound
from appliance.state import capsules, events, kept, models, runs, step_cache, versions
from appliance.state.db import Connection
from appliance.state.runs import Run
from appliance.storage.names import part
from appliance.storage.scratch import ROOM
from appliance.storage.threads import in_thread
from appliance.workflows.kept import keeping
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions

log = logging.getLogger(__name__)

NAMED = 3
"""Of those that need it are named; the rest is counted."""


async def delete_run(rooms: Rooms, run: Run, confirm: str) -> int:
    """How many bytes went with its volumes; 0 too where they go later, because something reads them just now.

    `confirm` repeats its name.

    Raises NotFound, Conflict that says what needs it.
    """
    name = actions.subject(run)
    _check(rooms, run)
    if confirm != name:
        raise Conflict(
            f"deleting run {name} destroys what is kept of it",
            hint=f"confirm with the name: `appliance delete run {name} --confirm {name}`",
        )
    size = await _size(rooms, run)
    with rooms.db.write() as db:
        _check(rooms, run)
        step_cache.forget_run(db, run.id)
        capsules.remove_of(db, run.id)
        kept.keep(db, run.id, False)
        if not runs.remove(db, run.id):
            raise Conflict(f"run {name} is needed by something new", hint="try again: it says by what")
        events.record(db, "run", name, "Deleted", "with what was kept of it", now=rooms.clock())
    try:
        await rooms.scratch.destroy_run(run.id)
    except ApplianceError as error:
        log.info("volumes of run %s, which was deleted, stay for now: %s", name, error)
        return 0
    return size


def _check(rooms: Rooms, run: Run) -> None:
    db, name = rooms.db.read, actions.subject(run)
    if runs.head(db, run.id).finished is None:
        hint = f"wait for its end, or cancel it: `appliance workflow cancel {name}`"
        raise Conflict(f"run {name} has not ended", hint=hint)
    if rooms.opening:
        hint = "try again when it is there"
        raise Conflict("a notebook is being filled with what is kept of a failed job", hint=hint)
    if found := list(_needed_by(db, run)):
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise Conflict(f"run {name} is needed by {', '.join(found[:NAMED])}{more}", hint="delete those first")


def _needed_by(db: Connection, run: Run) -> Iterator[str]:
    """In words for a person."""
    later = runs.going_on_from(db, run.id)
    for other in later:
        yield f"run {actions.subject(other)}, which goes on from it or repeats it"
    for other in keeping.readers(db, run.id):
        if other.id not in {one.id for one in later}:
            yield f"run {actions.subject(other)}, which was given its volumes"
    for version in versions.of_run(db, run.id):
        yield f"dataset version {ref_of(db, version.dataset, version.version)}, which comes from it"
    for model in models.of_run(db, run.id):
        yield f"model {model.name} ({model.id}), which comes from it"


async def _size(rooms: Rooms, run: Run) -> int:
    size = 0
    for volume in await in_thread(rooms.store.volumes, f"{ROOM}/{part(run.id)}"):
        try:
            size += await in_thread(rooms.store.used_bytes, volume)
        except NotFound:
            continue  # it went meanwhile
    return size
