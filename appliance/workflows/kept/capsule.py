"""The crash capsule: what is kept of a job that failed for good, to be looked into.

Its inputs stay as they were given, as documents whose volumes are kept; its folders and what it had written to its
outputs stay as its container left them; and with them the last lines of its log and the reason of its end. A dataset
output is not committed, so its content is taken over into a volume of the run before the version is dropped.
"""

from __future__ import annotations

import logging
from typing import Any

from appliance.engine.types import Container
from appliance.errors import ApplianceError, NotFound, StorageError
from appliance.fetching import programs
from appliance.spec.models import DeployAction, Job, Output
from appliance.state import capsules, runs
from appliance.state.capsules import Capsule
from appliance.state.db import Connection, Database
from appliance.state.runs import Job as Row
from appliance.state.runs import Run
from appliance.storage.base import Store
from appliance.storage.scratch import DONE
from appliance.storage.threads import in_thread
from appliance.storage.trees.copying import copy_tree
from appliance.telemetry.types import LogQuery
from appliance.workflows import exchange
from appliance.workflows.outcome import Outcome
from appliance.workflows.rooms import Rooms
from appliance.workflows.steps import actions, begun

log = logging.getLogger(__name__)

LINES = 200
"""Of the log."""
LARGEST_COPY = 2 << 30
"""Bytes of a dataset output that are taken over where that means to copy them."""
CAPSULE_RUNS = 20
"""Runs of one workflow of which there are capsules: the newest ones, each with all of its own."""
_MOMENT = "capsule"
"""Another name than the volume's own snapshot: it goes over to that volume when the version is dropped."""


async def take(rooms: Rooms, run: Run, declared: Job, job: str, container: Container | None, outcome: Outcome) -> None:
    """Before the outcome is written. May be repeated; what cannot be kept is said in the reason."""
    if rooms.settings.keep_capsules_days <= 0:
        return
    row = runs.job(rooms.db.read, run.id, job)
    outputs: dict[str, Any] = {}
    lost: list[str] = []
    if row.started is not None:
        for name, output in declared.outputs.items():
            try:
                if await _held(rooms, run, job, name, output):
                    outputs[name] = {"type": "volume", "run": run.id, "job": job, "output": name}
            except (ApplianceError, OSError) as error:
                lost.append(f"what it wrote to {name} is not kept: {_words(error)}")
    await _forget_credentials(rooms, run, job)
    reason = "; ".join([f"{outcome.phase}: {outcome.message}", *lost])
    lines = await _last_lines(rooms, run, row, declared, container)
    kept = Capsule(run.id, job, rooms.clock(), reason, lines, row.inputs, outputs)
    with rooms.db.write() as db:
        capsules.put(db, kept)


def holds(db: Connection, run: str, job: str) -> bool:
    """Its folders are a capsule's."""
    return capsules.has(db, run, job)


def find(db: Connection, run: Run, job: str) -> Capsule:
    """Raises NotFound."""
    if found := capsules.find(db, run.id, job):
        return found
    runs.job(db, run.id, job)
    raise NotFound(
        f"nothing is kept of job {job} of {actions.subject(run)}",
        hint="of a job that failed everything is kept for a while (setting keep_capsules_days), less long where disk "
        f"space is low, and of the newest {CAPSULE_RUNS} failed runs of a workflow",
    )


def remove(db: Database, run: Run, job: str) -> None:
    """Let go of it; its volumes go soon afterwards. Raises NotFound."""
    with db.write() as transaction:
        find(transaction, run, job)
        capsules.remove(transaction, run.id, job)


async def _held(rooms: Rooms, run: Run, job: str, name: str, output: Output) -> bool:
    """What the job wrote is in the run's volume of that name."""
    volume = rooms.scratch.volume(run.id, job, name)
    if output.type == "volume":
        return await in_thread(rooms.store.exists, volume)
    if output.type == "string" or await rooms.scratch.finished(run.id, job, name):
        return output.type == "dataset"
    version = rooms.datasets.begun(output.ref, run=run.id, job=job, token=name)
    if version is None or version.committed is not None:
        return False
    await in_thread(_take_over, rooms.store, version.volume, volume)
    return True


def _take_over(store: Store, source: str, volume: str) -> None:
    if store.info().instant:
        store.snapshot(source, _MOMENT)
        store.clone(source, _MOMENT, volume)
        store.snapshot(volume, DONE)
        return
    if (size := store.used_bytes(source)) > LARGEST_COPY:
        raise StorageError(f"{size} bytes would have to be copied", hint="volumes on ZFS keep them at no cost")
    store.destroy(volume)  # half a copy of before
    try:
        copy_tree(store.path(source), store.create(volume))
        store.snapshot(volume, DONE)
    except BaseException:
        store.destroy(volume)
        raise


async def _forget_credentials(rooms: Rooms, run: Run, job: str) -> None:
    """The job's private files go as soon as it is over."""
    volume = rooms.scratch.volume(run.id, job, exchange.VOLUME)
    if await in_thread(rooms.store.exists, volume):
        await in_thread(programs.forget, await in_thread(rooms.store.path, volume))


async def _last_lines(rooms: Rooms, run: Run, job: Row, declared: Job, container: Container | None) -> list[str]:
    """As they are stored, which is without the values of secrets. Of a deploy@v1 job, what its replicas wrote."""
    ours = begun.of(job) if isinstance(declared.action, DeployAction) else None
    if ours and isinstance(declared.action, DeployAction):
        since = job.started or 0.0
        query = LogQuery(kind="deployment", name=declared.action.name, since=since, limit=LINES)
    elif container:
        query = LogQuery(kind="run", name=actions.subject(run), part=job.name, limit=LINES)
    else:
        return []
    try:
        found = await rooms.telemetry.logs(query)
    except ApplianceError as error:
        return [f"(the log cannot be read: {_words(error)})"]
    if ours:
        return [f"{line.part}: {line.line}" for line in found if line.part.startswith(f"{ours.generation}-")]
    return [line.line for line in found if container and line.container == container.id]


def _words(error: ApplianceError | OSError) -> str:
    return error.message if isinstance(error, ApplianceError) else str(error.strerror or error)
