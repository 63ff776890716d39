"""Which volumes of runs that are over stay: those that the step cache, a capsule, a failed run or another run needs.

What stays is told by rows alone, so a kill at any instant leaves nothing wrong: a row is dropped first, and the volumes
that no row needs any more go afterwards, now or at the next sweep. The rows are

    step_cache              the outputs that equal jobs are given; for `keep_cache_days` after they were made, and as
                            long as all of them fit into `cache_max_gb`: the least recently used go first
    capsules                inputs, folders and what was written of a failed job; for `keep_capsules_days`, of the
                            newest runs of each workflow that have any
    runs.kept               all outputs of a failed run, so that it can be resumed; for `keep_capsules_days`
    jobs' documents         of runs that are not over, or are kept themselves: volumes of whatever run they name

While disk space is low nothing new begins, so what is kept goes earlier, a step at each look: the cache, half of it at
a time, then the failed runs and the capsules, the oldest first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from appliance.errors import Conflict, NotFound, StorageError
from appliance.state import capsules, events, kept, runs, step_cache
from appliance.state.capsules import Held
from appliance.state.db import Connection
from appliance.state.runs import Run
from appliance.state.step_cache import Entry
from appliance.storage.scratch import ROOM, shared_name, volume_name
from appliance.storage.threads import in_thread
from appliance.workflows import exchange
from appliance.workflows.board import BLOCKING_PHASES
from appliance.workflows.inputs import Document, leaves
from appliance.workflows.kept.capsule import CAPSULE_RUNS
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions

log = logging.getLogger(__name__)

DAY_S = 86_400.0
GIGABYTE = 1_000_000_000
CAPSULES = 2000
"""Of one workflow, but its newest run has all of its own: a matrix may fail in a thousand jobs, every time."""
LOW = "disk space is low"


async def settle(rooms: Rooms, run: Run) -> None:
    """A run is over: destroy its volumes but those that are needed. May be repeated. Raises StorageError, Conflict."""
    with rooms.db.write() as db:
        phases = {mark.phase for mark in runs.marks(db, run.id)}
        failed = bool(phases & BLOCKING_PHASES) and "Canceled" not in phases
        kept.keep(db, run.id, failed and rooms.settings.keep_capsules_days > 0)
    await rooms.scratch.destroy_run(run.id, keep=needed(rooms.db.read, run.id))


async def tend(rooms: Rooms, now: float, *, by_age: bool = True) -> None:
    """Drop what is too old, too large, or too much for a disk that is nearly full, and destroy what nobody needs.

    Without `by_age` the clock is not trusted, and nothing counts as old.
    """
    settings, db = rooms.settings, rooms.db
    if rooms.opening:
        return  # a copy of half a volume would look whole; the next look does it
    with db.write() as transaction:
        gone = sum(capsules.remove_of(transaction, run) for run in _crowded(transaction))
        if by_age:
            gone += step_cache.expire(transaction, now - settings.keep_cache_days * DAY_S)
            gone += capsules.expire(transaction, now - settings.keep_capsules_days * DAY_S)
            gone += kept.let_go(transaction, now - settings.keep_capsules_days * DAY_S)
    if gone:
        log.info("%d entries of the step cache, capsules and failed runs are let go: too old, or too many", gone)
    for entry in step_cache.unmeasured(db.read):
        await _measure(rooms, entry)
    if not _shrink(rooms, now) and rooms.no_room():
        _give_way(rooms, set(await in_thread(rooms.store.volumes, ROOM)), now)
    await sweep(rooms)


async def sweep(rooms: Rooms) -> None:
    """Destroy the volumes of runs that are over, or unknown, which nobody needs. What refuses is tried again later."""
    db = rooms.db.read
    asked, stays = db.total_changes, needed(db)
    for volume in await in_thread(rooms.store.volumes, ROOM):
        if volume in stays:
            continue
        if asked != db.total_changes:  # a run may have begun since, or have been resumed
            asked, stays = db.total_changes, needed(db)
        if volume in stays or volume.split("/")[1] in runs.unfinished_ids(db):
            continue
        try:
            await in_thread(rooms.store.destroy, volume)
        except (Conflict, StorageError) as error:
            log.info("volume %s stays for now: %s", volume, error)


def kept_runs(db: Connection) -> list[str]:
    """Ids of the runs of which any volume stays."""
    found = {*runs.unfinished_ids(db), *kept.ids(db), *step_cache.run_ids(db)}
    given = kept.documents(db)
    for capsule in capsules.every(db):
        found.add(capsule.run)
        given.append(capsule.inputs)
    return sorted(found.union(document["run"] for document in _volumes(given)))


def readers(db: Connection, run: str) -> list[Run]:
    """Other runs that were given volumes of this one, and are not over or kept; also for a capsule of theirs."""
    held = [(capsule.run, capsule.inputs) for capsule in capsules.every(db, run=run, or_naming=True)]
    found = {
        other
        for other, documents in (*kept.given(db, run), *held)
        if other != run and any(document["run"] == run for document in _volumes([documents]))
    }
    return sorted((runs.head(db, other) for other in found), key=lambda other: (other.created, other.number))


def needed(db: Connection, run: str = "") -> set[str]:
    """Names of the volumes of this run, which is over or about to be, that stay; without a run, of all runs."""
    given = kept.documents(db, run, but=run) + step_cache.volumes(db, run)
    found: set[str] = set()
    for capsule in capsules.every(db, run=run, or_naming=True):
        found |= _of_capsule(capsule)
    found |= _names(given)
    return {name for name in found if not run or name.split("/")[1] == run}


def _crowded(db: Connection) -> Iterator[str]:
    """Runs, by id, whose capsules go because newer runs of their workflow have some."""
    for found in capsules.by_workflow(db).values():
        total = 0
        for place, (run, count) in enumerate(found):
            total += count
            if place and (place >= CAPSULE_RUNS or total > CAPSULES):
                yield run


def _of_capsule(capsule: Held) -> set[str]:
    asked = [document["name"] for document in leaves(capsule.inputs) if document["type"] == "shared"]
    shared = {shared_name(capsule.run, name) for name in asked}
    folders = volume_name(capsule.run, capsule.job, exchange.VOLUME)
    return {folders} | shared | _names([capsule.inputs, capsule.outputs])


def _names(given: Iterable[Mapping[str, Document]]) -> set[str]:
    return {volume_name(document["run"], document["job"], document["output"]) for document in _volumes(given)}


def _volumes(given: Iterable[Mapping[str, Document]]) -> Iterator[Document]:
    for documents in given:
        yield from (document for document in leaves(documents) if document.get("type") == "volume")


async def _measure(rooms: Rooms, entry: Entry) -> None:
    """Note what its volumes hold. Where one of them has gone, so has the entry."""
    size = 0
    try:
        for document in _volumes([runs.job(rooms.db.read, entry.run, entry.job).outputs]):
            name = volume_name(document["run"], document["job"], document["output"])
            size += await in_thread(rooms.store.used_bytes, name)
    except NotFound:
        with rooms.db.write() as db:
            step_cache.forget(db, entry)
        return
    except StorageError as error:
        log.warning("what job %s of run %s has made is not measured: %s", entry.job, entry.run, error)
        return
    with rooms.db.write() as db:
        step_cache.measured(db, entry, size)


def _give_way(rooms: Rooms, there: set[str], now: float) -> None:
    """Let go of the oldest failed run whose volumes no capsule needs, else of the oldest capsule.

    `there` are the volumes that exist. A run stays while capsules need all of it: else every run were lost before a
    byte is free. What open runs or the cache need is not counted: neither would free it.
    """
    with rooms.db.write() as db:
        needed_anyway = _names(kept.of_open(db) + step_cache.volumes(db))
        held = {run: (_names(documents) & there) - needed_anyway for run, documents in kept.by_run(db).items()}
        crashed = [(capsule, (_of_capsule(capsule) & there) - needed_anyway) for capsule in capsules.every(db)]
        in_capsules = {name for _, names in crashed for name in names}
        for run, names in held.items():
            if names - in_capsules:
                kept.keep(db, run, False)
                _tell(db, run, f"its volumes go, so it cannot be resumed: {LOW}", now)
                return
        for capsule, names in reversed(crashed):
            if names:
                capsules.remove(db, capsule.run, capsule.job)
                _tell(db, capsule.run, f"what is kept of job {capsule.job} goes: {LOW}", now)
                return


def _tell(db: Connection, run: str, message: str, now: float) -> None:
    subject = actions.subject(runs.head(db, run))
    events.record(db, "run", subject, "Dropped", message, now=now, level="warning")


def _shrink(rooms: Rooms, now: float) -> bool:
    """Forget the least recently used of what holds space: down to the setting, and half of it while space is low.

    False: nothing was forgotten.
    """
    entries = step_cache.holding(rooms.db.read)
    total = sum(entry.bytes or 0 for entry in entries)
    low = rooms.no_room()
    most = min(rooms.settings.cache_max_gb * GIGABYTE, total / 2 if low else total)
    dropped = 0
    with rooms.db.write() as db:
        for entry in entries:
            if total <= most:
                break
            step_cache.forget(db, entry)
            total -= entry.bytes or 0
            dropped += 1
        if dropped:
            why = LOW if low else f"it holds more than {rooms.settings.cache_max_gb:g} GB"
            events.record(db, "appliance", "cache", "Dropped", f"{dropped} entries of the step cache: {why}", now=now)
    return dropped > 0
